"""Misalignment, motion, air and noise against loops in float64, and that policies without them draw what they drew."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from qgface_plugin.config.degradation import ADAFACE, OURS, DegradationPolicy, degradation_policy
from qgface_plugin.data.degradation import camera, gpu_camera
from qgface_plugin.data.degradation.cpu import apply, degrade
from qgface_plugin.data.degradation.params import Uniforms, draw, uniforms
from qgface_plugin.data.procedural.face import draw_face
from qgface_plugin.utils.errors import ConfigError

ALL = replace(OURS, misalign_p=0.5, motion_p=0.5, atmosphere_p=0.5, noise_p=0.5)
FORMER = ("flip_high", "small_height", "small_width", "down", "up", "jpeg_quality", "order", "factors", "degrees",
          "flip_low")  # fmt: skip


@pytest.mark.parametrize(("policy", "digest"), [(OURS, "af2cb06aae2e3ac3"), (ADAFACE, "17ce2ec498f7df4c")])
def test_draws_are_those_of_before_the_camera(policy, digest):
    """The digests are of the version that had none of these steps."""
    numbers = uniforms(3, np.arange(2000) % 7, np.arange(2000))
    drawn, camera_like = draw(policy, numbers), draw(replace(policy, **switched(0.5)), numbers)
    for found in (drawn, camera_like):
        table = b"".join(np.ascontiguousarray(getattr(found, name)).tobytes() for name in FORMER)
        assert hashlib.sha256(table).hexdigest()[:16] == digest
    new = [field for name, field in drawn._asdict().items() if name not in FORMER and not name.startswith("crop")]
    assert len(new) == 10 and all((field == (1 if field is drawn.zoom else 0)).all() for field in new)


def switched(p: float) -> dict[str, float]:
    return {"misalign_p": p, "motion_p": p, "atmosphere_p": p, "noise_p": p}


def test_one_image_takes_19_numbers_as_before():
    face, rng, other = draw_face(0, 0), np.random.default_rng(5), np.random.default_rng(5)
    view = degrade(face, OURS, rng)
    first = other.random((19, 1))
    assert rng.random() == other.random()
    former = Uniforms(*first, *np.full((len(Uniforms._fields) - 19, 1), 0.123))
    assert np.array_equal(view, apply(face, next(draw(OURS, former).images()), OURS))
    assert not np.array_equal(degrade(face, replace(OURS, **switched(1.0)), np.random.default_rng(5)), view)


def test_drawn_numbers_follow_their_ranges():
    numbers = uniforms(1, np.zeros(20_000, int), np.arange(20_000))
    view = draw(ALL, numbers)
    for field in (view.shift_x, view.motion_length, view.atmosphere, view.noise_seed):
        assert abs((field != 0).mean() - 0.5) < 0.015
    assert 5.4 < view.shift_x.max() <= 5.6 and -5.6 <= view.shift_y.min() < -5.4
    assert 0.9 <= view.zoom.min() < 0.905 and 1.095 < view.zoom.max() <= 1.1 and 9.8 < np.abs(view.tilt).max() <= 10
    moved = view.motion_length > 0
    assert 3 <= view.motion_length[moved].min() < 3.1 and 10.9 < view.motion_length.max() <= 11
    assert 178 < view.motion_degrees.max() < 180 and view.atmosphere.max() == 5
    assert (view.atmosphere * 8 == np.rint(view.atmosphere * 8)).all() and view.noise_seed.max() < 2**24
    events = np.stack([view.zoom != 1, moved, view.atmosphere > 0, view.noise_read > 0]).astype(float)
    assert np.abs(np.corrcoef(events) - np.eye(4)).max() < 0.04


def bilinear(image: np.ndarray, x: float, y: float) -> np.ndarray:
    height, width = image.shape[:2]
    x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    left, top = min(int(x), width - 2), min(int(y), height - 2)
    a, b = x - left, y - top
    upper = (1 - a) * image[top, left] + a * image[top, left + 1]
    return (1 - b) * upper + b * ((1 - a) * image[top + 1, left] + a * image[top + 1, left + 1])


def test_misalignment_is_the_similarity():
    image, (right, down), zoom, degrees = draw_face(1, 1)[:40, :40].astype(np.float64), (3.5, -2.0), 1.15, 12.0
    angle, centre = math.radians(degrees), 19.5
    expected = np.empty_like(image)
    for row in range(40):
        for column in range(40):
            x, y = (column - centre - right) / zoom, (row - centre - down) / zoom
            expected[row, column] = bilinear(
                image, centre + math.cos(angle) * x - math.sin(angle) * y,
                centre + math.sin(angle) * x + math.cos(angle) * y,
            )  # fmt: skip
    found = camera.misalign(image.astype(np.uint8), (right, down), zoom, degrees)
    assert np.abs(found - expected).mean() < 0.6  # OpenCV 4 takes positions in 32nds of a pixel


def test_motion_is_a_line():
    np.testing.assert_allclose(camera.motion_kernel(5, 0), np.outer(np.eye(5)[2], np.ones(5) / 5))
    np.testing.assert_allclose(camera.motion_kernel(5, 90), np.outer(np.ones(5) / 5, np.eye(5)[2]), atol=1e-6)
    assert camera.motion_kernel(0, 30).tolist() == camera.motion_kernel(1, 30).tolist() == [[1.0]]
    for length, degrees in ((4.3, 20.0), (9.0, 45.0), (11.0, 130.0)):
        kernel = camera.motion_kernel(length, degrees)
        reach = len(kernel) // 2
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        assert kernel.sum() == pytest.approx(1, abs=1e-6) and np.allclose(kernel, kernel[::-1, ::-1])
        xx, yy, xy = ((kernel * part).sum() for part in (x * x, y * y, x * -y))
        assert math.degrees(math.atan2(2 * xy, xx - yy)) / 2 % 180 == pytest.approx(degrees, abs=3)
        assert xx + yy == pytest.approx((length**2 - 1) / 12 + 0.3, rel=0.15)
        batch = gpu_camera.motion_kernels(torch.tensor([length, 0.0]), torch.tensor([degrees, 0.0]), reach + 1)
        np.testing.assert_allclose(batch[0, 1:-1, 1:-1], kernel, atol=1e-6)
        assert batch[1].sum() == batch[1, reach + 1, reach + 1] == 1


@pytest.mark.parametrize("fwhm", [2.0, 4.0, 7.0])
def test_air_has_its_width_and_longer_tails_than_a_gaussian(fwhm):
    kernel = camera.air_kernel(round(fwhm * camera.FWHM_STEPS)).astype(np.float64)
    reach = len(kernel) // 2
    assert kernel.sum() == pytest.approx(1, abs=1e-6) and np.allclose(kernel, kernel.T)
    profile = kernel[reach, reach:] / kernel[reach, reach]
    half = np.interp(0.5, profile[::-1], np.arange(len(profile))[::-1])
    assert 2 * half == pytest.approx(fwhm, rel=0.08)
    assert profile[-1] > 2 * 0.5 ** ((2 * reach / fwhm) ** 2)


def test_noise_has_the_variance_of_its_level_and_is_fresh():
    for level, read, shot in ((64, 4.0, 0.0), (64, 0.0, 12.0), (192, 3.0, 10.0)):
        image = np.full((112, 112, 3), level, np.uint8)
        noise = camera.sensor_noise(image, read, shot, 7).astype(float) - level
        assert noise.var() == pytest.approx(read**2 + shot**2 * level / 255 + 1 / 12, rel=0.04)
        assert abs(noise.mean()) < 0.15
    one, two = camera.normal(112, 112, 1), camera.normal(112, 112, 2)
    flat = one.reshape(-1, 3)
    assert abs(one.mean()) < 0.02 and one.var() == pytest.approx(1, rel=0.03) and np.abs(one).max() > 3.5
    for pair in ((flat[:, 0], flat[:, 1]), (one[1:], one[:-1]), (one[:, 1:], one[:, :-1]), (one, two)):
        assert abs(np.corrcoef(np.ravel(pair[0]), np.ravel(pair[1]))[0, 1]) < 0.03
    sides = torch.tensor([112, 20])
    batch = gpu_camera.normal(112, sides, torch.tensor([1.0, 2.0])).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(batch[0], one, atol=1e-4)
    np.testing.assert_allclose(batch[1, :20, :20], two[:20, :20], atol=1e-4)
    assert (batch[1, 20:] == batch[1, 19]).all() and (batch[1, :, 20:] == batch[1, :, 19:20]).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [("motion_length", (0.5, 3)), ("motion_length", (5, 3)), ("atmosphere_fwhm", (1, 17)), ("noise_read", (-1, 3)),
     ("noise_shot", (0, float("nan")))],
)  # fmt: skip
def test_ranges_that_do_not_fit_are_named(name, value):
    with pytest.raises(ConfigError, match=rf"config\.qgface\.degradation\.{name} is \(.*\): it must be \(low, high\)"):
        DegradationPolicy(**{name: value})


def test_a_recipe_gives_them_as_lists():
    policy = degradation_policy({"motion_p": 0.3, "motion_length": [2.0, 5.0]})
    assert policy is not None and policy.motion_length == (2.0, 5.0) and policy.like_a_camera and not OURS.like_a_camera
