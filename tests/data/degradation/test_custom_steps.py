"""Steps of degradation that a recipe brings along: where they come, what they return, whose randomness they have."""

from __future__ import annotations

import numpy as np
import pytest
from tiny import write_faces

from qgface_plugin.config.degradation import DegradationPolicy
from qgface_plugin.data.degradation.cpu import apply, degrade
from qgface_plugin.data.degradation.custom_steps import CustomSteps, degradation_step
from qgface_plugin.data.degradation.params import draw, uniforms
from qgface_plugin.data.pair_dataset import PairDataset
from qgface_plugin.data.sources.records import FaceRecords
from qgface_plugin.utils.errors import ConfigError
from qgface_plugin.utils.registry import DEGRADATION_STEPS

NOTHING = dict(rescale_p=0.0, jpeg_p=0.0, crop_p=0.0, photometric_p=0.0, rotation_p=0.0, flip_p=0.0)


@pytest.fixture(autouse=True)
def _forget():
    before = dict(DEGRADATION_STEPS)
    yield
    DEGRADATION_STEPS.clear()
    DEGRADATION_STEPS.update(before)


@pytest.fixture
def face() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)


def test_they_run_in_their_order_before_and_after_the_shrinking(face):
    seen = []

    @degradation_step("lens")
    def lens(image, rng):
        seen.append(("lens", image.shape))
        return image, 1.0

    @degradation_step("noise", at_small_size=True)
    def noise(image, rng):
        seen.append(("noise", image.shape))
        return image, 0.25

    policy = DegradationPolicy(**{**NOTHING, "rescale_p": 1.0, "rescale_ratio": (0.25, 0.25)}, steps=("noise", "lens"))
    assert degrade(face, policy, np.random.default_rng(0)).shape == face.shape
    assert seen == [("lens", (112, 112, 3)), ("noise", (28, 28, 3))]


def test_a_step_changes_the_view_and_not_the_original(face):
    @degradation_step("darker")
    def darker(image, rng):
        image //= 2
        return image, 0.5

    policy, before = DegradationPolicy(**NOTHING, steps=("darker", "darker")), face.copy()
    custom = CustomSteps(policy.steps, np.random.default_rng(0))
    view = next(draw(policy, uniforms(0, np.zeros(1, int), np.zeros(1, int))).images())
    np.testing.assert_array_equal(apply(face, view, policy, custom), before // 2 // 2)
    np.testing.assert_array_equal(face, before)
    assert custom.strength == 1.0


def test_pairs_have_their_own_randomness_and_the_added_strength(tmp_path):
    @degradation_step("specks")
    def specks(image, rng):
        image[rng.integers(0, 112), rng.integers(0, 112)] = 255
        return image, 3.0

    write_faces(tmp_path / "faces")
    source = FaceRecords(tmp_path / "faces")
    plain = PairDataset(source, DegradationPolicy(**NOTHING), 7)
    custom = PairDataset(source, DegradationPolicy(**NOTHING, steps=("specks",)), 7)
    places = [(0, 1), (0, 2), (1, 1)]
    batch = custom.__getitems__(places)
    changed = (batch.low != batch.high).any(dim=1)
    spots = [tuple(map(int, where.nonzero()[0])) for where in changed]
    assert changed.sum(dim=(1, 2)).tolist() == [1, 1, 1] and len(set(spots)) == 3
    assert (batch.strength - plain.__getitems__(places).strength).tolist() == [3.0, 3.0, 3.0]
    assert (custom.__getitems__(places[::-1]).low.flip(0) == batch.low).all()  # whatever batch they are in


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda image: image, r"step 'bad' returned ndarray"),
        (
            lambda image: (image.astype(np.float32), 0.0),
            r"step 'bad' returned float32 \(112, 112, 3\)",
        ),
        (lambda image: (image[:50], 0.0), r"step 'bad' returned uint8 \(50, 112, 3\)"),
        (lambda image: (None, 0.0), "step 'bad' returned tuple"),
    ],
)
def test_what_does_not_fit_is_named(face, returned, message):
    degradation_step("bad")(lambda image, rng: returned(image))
    with pytest.raises(ConfigError, match=message):
        degrade(face, DegradationPolicy(**NOTHING, steps=("bad",)), np.random.default_rng(0))


def test_an_unknown_step_is_named():
    with pytest.raises(ConfigError, match="degradation.steps names 'fog'"):
        DegradationPolicy(steps=("fog",))
    degradation_step("haze")(lambda image, rng: (image, 0.0))
    with pytest.raises(ConfigError, match="names 'fog', and known are 'haze'"):
        DegradationPolicy(steps=("haze", "fog"))


def test_they_do_not_run_on_a_device(tmp_path):
    degradation_step("haze")(lambda image, rng: (image, 0.0))
    write_faces(tmp_path / "faces")
    with pytest.raises(ConfigError, match="degrade_on is 'device', but .* haze "):
        PairDataset(FaceRecords(tmp_path / "faces"), DegradationPolicy(steps=("haze",)), 1, degrade_on="device")
