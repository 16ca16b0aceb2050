"""What is drawn for a pair: from seed, epoch and index alone, and distributed as its policy says."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import write_faces
from torch.utils.data import DataLoader

from qgface_plugin.config.degradation import ADAFACE, FILTERS, OURS, DegradationPolicy
from qgface_plugin.config.method import QGFaceConfig
from qgface_plugin.config.run import Run
from qgface_plugin.data.degradation.gpu import both_views
from qgface_plugin.data.degradation.params import Uniforms, ViewParams, crop_boxes, draw, strength, uniforms
from qgface_plugin.data.pair_dataset import PairDataset, collate, worker_init
from qgface_plugin.data.sources.records import FaceRecords
from qgface_plugin.utils.errors import ConfigError

MASK = 2**64 - 1
COUNT = 20_000
NUMBERED = list(enumerate(ViewParams._fields))


def numbers(count: int = COUNT, seed: int = 5) -> Uniforms:
    return uniforms(seed, np.zeros(count, int), np.arange(count))


def drawn(policy: DegradationPolicy, shape: tuple[int, int] = (112, 112)) -> ViewParams:
    return draw(policy, numbers(), shape)


def split_mix(state: int) -> int:
    """The published algorithm's output function, in whole numbers of Python."""
    z = state & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_split_mix_gives_its_published_numbers():
    golden = 0x9E3779B97F4A7C15
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]  # of seed 1234567
    assert [split_mix(1234567 + k * golden) for k in (1, 2, 3)] == published


@pytest.mark.parametrize("at", [(0, 0, 0), (7, 3, 5), (2**64 - 1, 12, 10**12)])
def test_numbers_against_whole_numbers_of_python(at):
    golden, state = 0x9E3779B97F4A7C15, 0
    for word in at:
        state = split_mix(state + word + golden)
    expected = [(split_mix(state + k * golden) >> 11) / 2**53 for k in range(1, len(Uniforms._fields) + 1)]
    seed, epoch, index = at
    found = uniforms(seed, np.array([9, epoch]), np.array([1, index]))
    assert [float(values[1]) for values in found] == expected


def test_numbers_of_neighbours_are_unrelated():
    epochs, indices = np.divmod(np.arange(4000), 400)
    found = np.array([uniforms(seed, epochs, indices) for seed in (0, 1, 2**63)])  # (3, decisions, 4000)
    flat = found.transpose(0, 2, 1).reshape(-1, len(Uniforms._fields))
    assert len(np.unique(flat)) == flat.size
    assert np.abs(np.corrcoef(flat.T) - np.eye(flat.shape[1])).max() < 0.045  # five standard errors of 12,000
    assert abs(np.corrcoef(flat[:-1, 0], flat[1:, 0])[0, 1]) < 0.045
    assert np.abs(found[0] - found[1]).mean() == pytest.approx(1 / 3, abs=0.01)
    counts = np.histogram(flat, 16, (0, 1))[0]
    assert np.abs(counts / flat.size * 16 - 1).max() < 0.03


def test_ours_is_the_table():
    view = drawn(OURS)
    assert view.small_height.min() == 11 and view.small_height.max() == 56
    assert np.array_equal(view.small_height, view.small_width)
    assert abs(view.small_height.mean() - 0.3 * 112) < 0.3
    assert (view.jpeg_quality == 75).all()
    for codes in (view.down, view.up):
        assert np.abs(np.bincount(codes.astype(int)) / COUNT - 0.2).max() < 0.015 and codes.max() == 4
    assert abs(np.corrcoef(view.down, view.up)[0, 1]) < 0.03
    cropped = (view.crop_height < 112) | (view.crop_width < 112)
    changed, turned = view.factors[:, 0] != 1, view.degrees != 0
    for event, p in ((cropped, 0.2), (changed, 0.2), (turned, 0.2), (view.flip_high, 0.5), (view.flip_low, 0.5)):
        assert abs(event.mean() - p) < 0.015
    events = np.stack([cropped, changed, turned, view.flip_high, view.flip_low]).astype(float)
    assert np.abs(np.corrcoef(events) - np.eye(5)).max() < 0.04
    assert np.abs(view.degrees).max() <= 45 and abs(np.abs(view.degrees[turned]).mean() - 22.5) < 0.8
    assert abs(view.degrees.mean()) < 0.6


def test_adaface_is_the_table():
    view = drawn(ADAFACE)
    rescaled = view.small_height != 112
    assert abs(rescaled.mean() - 0.2) < 0.015 and view.small_height.min() in (22, 23)
    assert abs(view.small_height[rescaled].mean() - 0.6 * 112) < 1.5
    assert not view.jpeg_quality.any() and not view.degrees.any()
    cropped = view.crop_height * view.crop_width < 112 * 112
    assert abs((view.crop_height * view.crop_width / 112**2)[cropped].mean() - 0.6) < 0.02


def test_every_order_and_factor_of_the_photometric_steps():
    view = drawn(dataclasses.replace(OURS, brightness=0.1, contrast=0.2, saturation=0.3))
    codes, factors = view.order.astype(int), view.factors
    orders, counts = np.unique(codes, axis=0, return_counts=True)
    assert len(orders) == 6 and (np.sort(orders, axis=1) == [0, 1, 2]).all()
    assert np.abs(counts / COUNT - 1 / 6).max() < 0.015
    changed = factors[:, 0] != 1
    assert (factors[~changed] == 1).all()
    for code, width in enumerate((0.1, 0.2, 0.3)):
        values = factors[changed][codes[changed] == code]
        assert abs(values.min() - (1 - width)) < 0.002 and abs(values.max() - (1 + width)) < 0.002
        assert abs(values.mean() - 1) < 0.01


def test_a_decision_does_not_shift_the_others():
    plain, without = drawn(OURS), drawn(dataclasses.replace(OURS, crop_p=0.0, photometric_p=0.0))
    for name in ("small_height", "down", "up", "degrees", "flip_high", "flip_low", "order"):
        assert np.array_equal(getattr(plain, name), getattr(without, name)), name


def test_filters_are_those_of_the_policy():
    view = drawn(dataclasses.replace(OURS, filters=("lanczos", "area")))
    assert {FILTERS[int(code)] for code in np.unique(view.up)} == {"lanczos", "area"}


def test_other_shapes_shrink_both_sides():
    view = drawn(dataclasses.replace(OURS, crop_p=0.0), (90, 61))
    assert (view.crop_height == 90).all() and (view.crop_width == 61).all() and not view.crop_top.any()
    assert np.abs(view.small_height / 90 - view.small_width / 61).max() < 0.02


def test_packing_keeps_every_field_by_its_name():
    params = ViewParams(*(np.full((4, 3) if name in ("order", "factors") else 4, row) for row, name in NUMBERED))
    packed = params.pack()
    for table in (packed, torch.from_numpy(packed)):
        for name, field in ViewParams.unpack(table)._asdict().items():
            np.testing.assert_array_equal(field, getattr(params, name), err_msg=name)
    with pytest.raises(AssertionError, match="27 columns for fields of 28"):
        ViewParams.unpack(packed[:, 1:])


def test_crop_boxes_fit_and_follow_their_distributions():
    wide = dataclasses.replace(OURS, crop_area=(0.2, 1.0))
    top, left, height, width = crop_boxes(wide, numbers(), (112, 112))
    assert (top >= 0).all() and (left >= 0).all() and (top + height <= 112).all() and (left + width <= 112).all()
    area, aspect = height * width / 112**2, width / height
    assert abs(area.mean() - 0.6) < 0.01 and area.min() < 0.21 and area.max() > 0.98
    assert np.histogram(area, 4, (0.2, 1.0))[0].min() > 0.23 * COUNT
    assert aspect.min() > 0.73 and aspect.max() < 1.37
    assert abs(np.log(aspect).mean()) < 0.005
    small = height < 60
    assert abs(np.corrcoef(top[small], left[small])[0, 1]) < 0.1 and left[small].min() == 0 and top[small].max() > 52


def test_crop_takes_the_nearest_aspect_that_fits():
    tall = dataclasses.replace(OURS, crop_area=(0.9, 0.9), crop_aspect=(0.2, 0.3))
    _, left, height, width = crop_boxes(tall, numbers(50), (112, 112))
    assert (height == 112).all() and (width == round(0.9 * 112)).all() and (left <= 112 - width).all()
    whole = dataclasses.replace(OURS, crop_area=(1.0, 1.0))
    boxes = np.array(crop_boxes(whole, numbers(50), (80, 100)))
    assert (boxes.T == (0, 0, 80, 100)).all()


# --- How strongly a view was degraded: the definition by a loop, and that batches carry it in whatever way they travel.


NOTHING = DegradationPolicy(rescale_p=0, jpeg_p=0, crop_p=0, photometric_p=0, rotation_p=0, flip_p=0.5)
CAMERA = replace(OURS, misalign_p=0.5, motion_p=0.5, atmosphere_p=0.5, noise_p=0.5)
PLACES = [(0, i) for i in range(12)]


def some(policy: DegradationPolicy, count: int = 300) -> ViewParams:
    return draw(policy, uniforms(7, np.zeros(count, np.int64), np.arange(count)))


def by_hand(view: ViewParams) -> float:
    rescaled = math.log2(112 / math.sqrt(view.small_height * view.small_width))
    cropped = math.log2(112 / math.sqrt(view.crop_height * view.crop_width))
    q, jpeg = view.jpeg_quality, 0.0
    if q:
        jpeg = math.log2(1 + (50 / q if q < 50 else 2 - q / 50))
    light = sum(abs(math.log2(max(f, 1 / 16))) for f in view.factors) / 2
    misaligned = abs(math.log2(view.zoom)) + abs(view.tilt) / 90 + 2 * math.hypot(view.shift_x, view.shift_y) / 112
    blurred = math.log2(max(1, view.motion_length)) / 2 + (math.log2(view.atmosphere) if view.atmosphere else 0)
    noise = math.log2(1 + math.hypot(view.noise_read, view.noise_shot / math.sqrt(2)) / 16)
    return rescaled + cropped + jpeg + light + abs(view.degrees) / 90 + misaligned + blurred + noise


@pytest.mark.parametrize(
    "policy", [OURS, ADAFACE, replace(OURS, jpeg_quality=20, brightness=1.0), CAMERA], ids=["e", "a", "q", "camera"]
)
def test_it_is_the_loops(policy):
    params = some(policy)
    found = strength(params)
    assert found.dtype == np.float32 and (found >= 0).all() and found.std() > 0.1
    np.testing.assert_allclose(found, [by_hand(view) for view in params.images()], rtol=1e-5, atol=1e-6)


def test_nothing_drawn_is_nothing_and_each_step_adds():
    assert (strength(some(NOTHING)) == 0).all()
    for change in (
        {"rescale_p": 1.0},
        {"jpeg_p": 1.0},
        {"crop_p": 1.0},
        {"photometric_p": 1.0},
        {"rotation_p": 1.0},
        {"misalign_p": 1.0},
        {"motion_p": 1.0},
        {"atmosphere_p": 1.0},
        {"noise_p": 1.0},
    ):
        assert (strength(some(replace(NOTHING, **change))) > 0).mean() > 0.95, change
    sides = strength(some(replace(NOTHING, rescale_p=1.0, rescale_ratio=(0.25, 0.25))))
    np.testing.assert_allclose(sides, 2.0)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return FaceRecords(str(write_faces(tmp_path_factory.mktemp("faces") / "data")))


@pytest.mark.parametrize("degrade_on", ["cpu", "device"])
@pytest.mark.parametrize("workers", [0, 1])
def test_batches_carry_it(source, degrade_on, workers):
    dataset = PairDataset(source, OURS, 7, degrade_on=degrade_on).for_workers(workers, 6)
    loader = DataLoader(
        dataset, batch_size=6, sampler=PLACES, num_workers=workers, collate_fn=collate, worker_init_fn=worker_init
    )
    expected = torch.from_numpy(strength(some(OURS, 12)))
    for i, batch in enumerate(loader):
        batch = both_views(batch.to("cpu"), OURS)
        assert torch.equal(batch.strength, expected[6 * i : 6 * i + 6])
        assert batch.strengths().tolist() == [0.0] * 6 + batch.strength.tolist()
        assert any(tensor is batch.strength for tensor in batch.tensors())


def test_single_views_have_none(source):
    batch = PairDataset(source, None, 7).__getitems__(PLACES)
    assert batch.strength is None and batch.strengths() is None
    with pytest.raises(ConfigError, match=r"quality is 'degradation', but config\.qgface\.degradation is None"):
        Run(degradation=None, qgface=QGFaceConfig(quality="degradation", queue="none"))
