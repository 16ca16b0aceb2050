from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np
import pytest

from qgface_plugin.config.degradation import ADAFACE, FILTERS, OURS, DegradationPolicy
from qgface_plugin.data.degradation import cpu as d
from qgface_plugin.data.degradation.params import ORDERS, Uniforms, draw
from qgface_plugin.utils.errors import DataError

OFF = {"rescale_p": 0.0, "jpeg_p": 0.0, "crop_p": 0.0, "photometric_p": 0.0, "rotation_p": 0.0, "flip_p": 0.0}
NOTHING = DegradationPolicy(**OFF)


@pytest.fixture(scope="module")
def smooth() -> np.ndarray:
    """Smooth colours, in which a shift or a swapped channel shows."""
    y, x = np.mgrid[0:112, 0:112].astype(np.float64)
    channels = [128 + 100 * np.sin(x / 17 + y / 29), 120 + 80 * np.cos(y / 13), 60 + 40 * np.sin((x - y) / 23)]
    return np.stack(channels, axis=2).round().astype(np.uint8)


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)


def grey(image: np.ndarray) -> np.ndarray:
    return np.rint(image.astype(np.float64) @ (0.299, 0.587, 0.114))


def clipped(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255)


@pytest.mark.parametrize("factor", [0.0, 0.5, 0.83, 1.0, 1.2, 1.5])
def test_photometric_steps_against_their_definitions(noise, factor):
    x = noise.astype(np.float64)
    assert np.abs(d.brightness(noise, factor) - clipped(factor * x)).max() <= 1  # float32: ties may fall the other way
    mean = grey(noise).mean()
    assert np.abs(d.contrast(noise, factor) - clipped(factor * x + (1 - factor) * mean)).max() <= 1
    oracle = clipped(factor * x + (1 - factor) * grey(noise)[:, :, None])
    assert np.abs(d.saturation(noise, factor) - oracle).max() <= 1


def test_photometric_steps_leave_what_they_are_about(noise):
    flat = np.full((8, 8, 3), (10, 20, 30), np.uint8)
    assert np.ptp(d.contrast(noise, 0.0)) == 0
    assert np.ptp(d.saturation(noise, 0.0), axis=2).max() == 0
    np.testing.assert_array_equal(d.saturation(grey(flat)[:, :, None].repeat(3, 2).astype(np.uint8), 1.5), 18)


@pytest.mark.parametrize("degrees", [90.0, -90.0, 180.0])
def test_rotation_by_right_angles_is_exact_and_counter_clockwise(noise, degrees):
    np.testing.assert_array_equal(d.rotate(noise, degrees), np.rot90(noise, int(degrees // 90)))


@pytest.mark.parametrize("degrees", [-45.0, -17.0, 8.5, 31.0])
def test_rotation_against_a_loop(smooth, degrees):
    rotated = d.rotate(smooth, degrees)
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    for row in range(0, 112, 7):
        for column in range(0, 112, 5):
            x, y = column - 55.5, row - 55.5
            source_x, source_y = cosine * x - sine * y + 55.5, sine * x + cosine * y + 55.5
            expected = np.zeros(3)
            for near_y in (math.floor(source_y), math.floor(source_y) + 1):
                for near_x in (math.floor(source_x), math.floor(source_x) + 1):
                    if 0 <= near_x < 112 and 0 <= near_y < 112:  # black outside
                        weight = (1 - abs(source_x - near_x)) * (1 - abs(source_y - near_y))
                        expected += weight * smooth[near_y, near_x]
            edge = min(abs(source_x + 0.5), abs(source_x - 111.5), abs(source_y + 0.5), abs(source_y - 111.5)) < 1
            # OpenCV places samples to 1/32 pixel.
            assert np.abs(rotated[row, column] - expected).max() <= (10 if edge else 2), (row, column)


def test_rotation_leaves_black_corners(smooth):
    rotated = d.rotate(smooth, 45.0)
    assert not rotated[:15, :15].any() and not rotated[-15:, -15:].any()
    assert rotated[50:60, 50:60].min() > 0


def test_crop_kept_in_place_is_black_elsewhere(noise):
    cropped = d.black_outside(noise, (10, 20, 50, 60))
    expected = np.zeros_like(noise)
    for row in range(10, 60):
        for column in range(20, 80):
            expected[row, column] = noise[row, column]
    np.testing.assert_array_equal(cropped, expected)


def test_crop_and_resize_against_a_loop(smooth):
    top, left, height, width = 12, 5, 90, 100
    cropped = d.crop_and_resize(smooth, (top, left, height, width))
    inner = smooth[top : top + height, left : left + width].astype(np.float64)
    for row in range(0, 112, 9):
        for column in range(0, 112, 9):
            y = min(max((row + 0.5) * height / 112 - 0.5, 0), height - 1)
            x = min(max((column + 0.5) * width / 112 - 0.5, 0), width - 1)
            y0, x0 = min(int(y), height - 2), min(int(x), width - 2)
            v, u = y - y0, x - x0
            rows = inner[y0] * (1 - v) + inner[y0 + 1] * v
            assert np.abs(cropped[row, column] - (rows[x0] * (1 - u) + rows[x0 + 1] * u)).max() <= 1


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("ratio", [0.1, 0.27, 0.5])
def test_rescaling_keeps_place_colours_and_size(smooth, name, ratio):
    side = int(112 * ratio + 0.5)
    small = d.shrink(smooth, (side, side), name, True)
    assert small.shape == (side, side, 3)
    again = d.enlarge(small, (112, 112), name)
    assert again.shape == smooth.shape and again.dtype == np.uint8
    difference = again[8:-8, 8:-8].astype(float) - smooth[8:-8, 8:-8]
    assert np.abs(difference.mean((0, 1))).max() < 3, "a shifted face or swapped channels"
    assert np.abs(difference).mean() < (12 if name in ("nearest", "area") else 5)


def test_antialias_averages_where_a_plain_filter_skips_pixels():
    stripes = np.zeros((112, 112, 3), np.uint8)
    stripes[:, ::2] = 255
    for name in ("bilinear", "bicubic", "lanczos", "area"):
        averaged = d.shrink(stripes, (11, 11), name, True)
        assert np.abs(averaged.astype(int) - 127.5).max() < 8
    assert np.ptp(d.shrink(stripes, (11, 11), "nearest", True).astype(int)) in (0, 255)
    assert np.ptp(d.shrink(stripes, (34, 34), "bicubic", False).astype(int)) > 200


def test_lanczos_overshoot_saturates():
    edge = np.zeros((20, 20, 3), np.uint8)
    edge[:, 10:] = 255
    enlarged = d.enlarge(edge, (112, 112), "lanczos")
    assert enlarged[:, :30].max() < 40 and enlarged[:, -30:].min() > 215


@pytest.mark.parametrize("side", [1, 7, 11, 33, 56, 112])
def test_jpeg_keeps_the_size_and_loses_detail(noise, side):
    image = noise[:side, :side]
    compressed = d.compress(image, 75)
    assert compressed.shape == image.shape and compressed.dtype == np.uint8
    if side > 8:
        assert np.abs(compressed.astype(int) - image).mean() > 5


def test_jpeg_quality_matters(smooth):
    def loss(quality):
        return np.abs(d.compress(smooth, quality).astype(int) - smooth).mean()

    assert loss(95) < loss(75) < loss(10)


def test_the_jpeg_is_made_at_the_small_size(smooth):
    policy = dataclasses.replace(NOTHING, rescale_p=1.0, jpeg_p=1.0, filters=("area",), rescale_ratio=(0.25, 0.25))
    small = cv2.resize(smooth, (28, 28), interpolation=cv2.INTER_AREA)  # 112 / 4: exact by halves as well
    expected = d.enlarge(d.compress(d.shrink(smooth, (28, 28), "area", True), 75), (112, 112), "area")
    np.testing.assert_array_equal(d.degrade(smooth, policy, np.random.default_rng(0)), expected)
    assert np.abs(d.shrink(smooth, (28, 28), "area", True).astype(int) - small).max() <= 1


def test_jpeg_without_rescaling_works_on_the_whole_image(smooth):
    policy = dataclasses.replace(NOTHING, jpeg_p=1.0, jpeg_quality=30)
    np.testing.assert_array_equal(d.degrade(smooth, policy, np.random.default_rng(0)), d.compress(smooth, 30))


def test_a_crop_that_keeps_its_place_comes_before_rescaling():
    white = np.full((112, 112, 3), 255, np.uint8)
    policy = dataclasses.replace(ADAFACE, **OFF)
    policy = dataclasses.replace(
        policy, crop_p=1.0, rescale_p=1.0, crop_area=(0.3, 0.3), rescale_ratio=(0.2, 0.2), filters=("bilinear",)
    )
    blurred = d.degrade(white, policy, np.random.default_rng(3))
    assert ((blurred > 20) & (blurred < 235)).mean() > 0.02, "the border is as blurred as the face"
    kept = d.degrade(white, dataclasses.replace(policy, rescale_p=0.0), np.random.default_rng(3))
    assert set(np.unique(kept)) == {0, 255} and abs((kept == 255).mean() - 0.3) < 0.02


def count(monkeypatch, policy, steps, runs=1500):
    """How often each step ran, and with which arguments."""
    calls = {step: [] for step in steps}

    def watch(step):
        plain = getattr(d, step)

        def watched(image, *arguments):
            calls[step].append(arguments)
            return plain(image, *arguments)

        monkeypatch.setattr(d, step, watched)

    for step in steps:
        watch(step)
    monkeypatch.setattr(d, "ADJUST", {0: d.brightness, 1: d.contrast, 2: d.saturation})
    image = np.zeros((28, 28, 3), np.uint8)
    rng = np.random.default_rng(11)
    for _ in range(runs):
        d.degrade(image, policy, rng)
    return calls


def test_ours_draws_as_often_and_as_far_as_the_table_says(monkeypatch):
    steps = ("shrink", "compress", "enlarge", "crop_and_resize", "black_outside", "brightness", "rotate", "flip")
    calls = count(monkeypatch, OURS, steps)
    assert len(calls["shrink"]) == len(calls["compress"]) == len(calls["enlarge"]) == 1500
    assert not calls["black_outside"]
    for step, p in (("crop_and_resize", 0.2), ("brightness", 0.2), ("rotate", 0.2), ("flip", 0.5)):
        assert abs(len(calls[step]) / 1500 - p) < 0.04, step
    sides = np.array([arguments[0] for arguments in calls["shrink"]])
    assert sides.min() == 3 and sides.max() == 14 and abs(sides.mean() - 0.3 * 28) < 0.3
    down, up = [a[1] for a in calls["shrink"]], [a[1] for a in calls["enlarge"]]
    pairs = [down.count(name) for name in FILTERS] + [up.count(name) for name in FILTERS]
    assert min(pairs) > 240 and max(pairs) < 360
    assert abs(sum(a == b for a, b in zip(down, up, strict=True)) / 1500 - 0.2) < 0.04, "drawn independently"
    angles = np.array([arguments[0] for arguments in calls["rotate"]])
    assert angles.min() < -40 and angles.max() > 40 and abs(angles.mean()) < 5
    factors = np.array([arguments[0] for arguments in calls["brightness"]])
    assert 0.8 <= factors.min() < 0.82 and 1.18 < factors.max() <= 1.2


def test_adaface_draws_as_often_and_as_far_as_the_table_says(monkeypatch):
    calls = count(monkeypatch, ADAFACE, ("shrink", "compress", "black_outside", "saturation", "rotate", "flip"))
    assert not calls["compress"] and not calls["rotate"]
    for step, p in (("shrink", 0.2), ("black_outside", 0.2), ("saturation", 0.2), ("flip", 0.5)):
        assert abs(len(calls[step]) / 1500 - p) < 0.04, step
    sides = np.array([arguments[0] for arguments in calls["shrink"]])
    assert sides.min() == 6 and sides.max() in (27, 28)
    factors = np.array([arguments[0] for arguments in calls["saturation"]])
    assert 0.5 <= factors.min() < 0.55 and 1.45 < factors.max() <= 1.5


def test_photometric_steps_come_in_the_drawn_order(noise):
    u = Uniforms(*np.full((len(Uniforms._fields), 1), 0.5))
    steps = (d.brightness, d.contrast, d.saturation)
    for row, order in enumerate(ORDERS):
        policy = dataclasses.replace(NOTHING, photometric_p=1.0, brightness=0.5, contrast=0.5, saturation=0.5)
        numbers = u._replace(order=np.array([(row + 0.5) / 6]), brightness=np.array([0.9]), contrast=np.array([0.1]))
        view = next(draw(policy, numbers).images())
        expected = noise
        for step in order:
            expected = steps[step](expected, (1.4, 0.6, 1.0)[step])
        assert np.abs(d.apply(noise, view, policy).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("policy", [OURS, ADAFACE])
def test_the_view_follows_from_the_generator_and_the_image_stays(noise, policy):
    before = noise.copy()
    views = [d.degrade(noise, policy, np.random.default_rng(5)) for _ in range(2)]
    np.testing.assert_array_equal(*views)
    others = [d.degrade(noise, policy, np.random.default_rng(seed)).tobytes() for seed in range(30)]
    assert len(set(others)) > (29 if policy is OURS else 10)
    np.testing.assert_array_equal(noise, before)


def test_no_step_drawn_gives_the_image(noise):
    assert d.degrade(noise, NOTHING, np.random.default_rng(0)) is noise


def test_other_sizes_keep_their_shape():
    image = np.random.default_rng(0).integers(0, 256, (90, 61, 3), dtype=np.uint8)
    for seed in range(40):
        assert d.degrade(image, OURS, np.random.default_rng(seed)).shape == (90, 61, 3)


@pytest.mark.parametrize("wrong", [np.zeros((112, 112, 3), np.float32), np.zeros((112, 112), np.uint8)])
def test_what_is_no_image_is_refused(wrong):
    with pytest.raises(DataError, match=r"this is (float32 \(112, 112, 3\)|uint8 \(112, 112\))"):
        d.degrade(wrong, OURS, np.random.default_rng(0))
