"""The batch on a device against the images one by one on the CPU, with the same parameters."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from qgface_plugin.config.degradation import ADAFACE, FILTERS, OURS, DegradationPolicy
from qgface_plugin.data.degradation import cpu as d
from qgface_plugin.data.degradation.cpu import apply
from qgface_plugin.data.degradation.gpu import Tables, both_views, degrade_batch, enlarge_matrices, shrink_matrices
from qgface_plugin.data.degradation.params import ViewParams, draw, uniforms
from qgface_plugin.data.images import decode, encode_jpeg
from qgface_plugin.data.pair_dataset import PairDataset
from qgface_plugin.data.procedural.face import draw_face
from qgface_plugin.data.sources.records import FaceRecords

COUNT = 60
NOTHING = DegradationPolicy(rescale_p=0.0, jpeg_p=0.0, crop_p=0.0, photometric_p=0.0, rotation_p=0.0, flip_p=0.0)


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    return np.array([draw_face(number // 2, number) for number in range(COUNT)])


def both(images: np.ndarray, policy: DegradationPolicy) -> tuple[np.ndarray, np.ndarray]:
    """Degraded in one batch, and one by one: float64 (N, h, w, 3) each."""
    size = len(images)
    params = draw(policy, uniforms(4, np.zeros(size, int), np.arange(size)))
    packed = torch.from_numpy(params.pack())
    batch = degrade_batch(torch.from_numpy(images).permute(0, 3, 1, 2), ViewParams.unpack(packed), policy)
    single = [apply(image, view, policy) for image, view in zip(images, params.images(), strict=True)]
    return batch.permute(0, 2, 3, 1).double().numpy(), np.array(single, np.float64)


def psnr(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Decibels, image by image."""
    return 10 * np.log10(255**2 / np.maximum(((first - second) ** 2).mean(axis=(1, 2, 3)), 1e-3))


def spectrum(images: np.ndarray) -> np.ndarray:
    """Mean power in 8 rings of spatial frequency, of the grey images without their mean."""
    grey = images.mean(axis=3)
    power = np.abs(np.fft.fft2(grey - grey.mean(axis=(1, 2), keepdims=True))) ** 2
    frequency = np.fft.fftfreq(grey.shape[1])
    ring = np.minimum(np.hypot(frequency[:, None], frequency) * 16, 7).astype(int)
    return np.array([power[:, ring == number].mean() for number in range(8)])


ALONE = {
    **{f"rescale_{name}": {"rescale_p": 1.0, "filters": (name,)} for name in FILTERS},
    "skipping_pixels": {"rescale_p": 1.0, "rescale_antialias": False, "rescale_ratio": (0.3, 0.9)},
    "jpeg": {"jpeg_p": 1.0},
    "crop": {"crop_p": 1.0, "crop_area": (0.3, 1.0)},
    "crop_in_place": {"crop_p": 1.0, "crop_area": (0.3, 1.0), "crop_keeps_place": True},
    "photometric": {"photometric_p": 1.0, "brightness": 0.5, "contrast": 0.5, "saturation": 0.5},
    "rotation": {"rotation_p": 1.0},
    "flip": {"flip_p": 0.5},
    "misalign": {"misalign_p": 0.9, "misalign_shift": 0.1, "misalign_scale": 0.2},
    "motion": {"motion_p": 0.9},
    "atmosphere": {"atmosphere_p": 0.9},
    "noise": {"noise_p": 0.9},
}  # fmt: skip
EXACT = ("rescale_nearest", "crop_in_place", "flip")
# mean difference in levels of 255, and the share of values that differ by more than one
LIMITS = {
    "jpeg": (0.25, 0.06),
    "rotation": (0.01, 0.001),
    "photometric": (0.02, 0.001),
    "crop": (0.15, 0.0),
    "misalign": (0.01, 0.001),
    "motion": (0.01, 0.0),
    "atmosphere": (0.01, 0.0),
    "noise": (0.001, 0.0),
}
if int(cv2.__version__.split(".")[0]) < 5:  # which rotates by positions in 32nds of a pixel
    LIMITS["rotation"] = LIMITS["misalign"] = (0.13, 0.006)


@pytest.mark.parametrize("step", ALONE)
def test_every_step_alone(faces, step):
    found, expected = both(faces[:20], dataclasses.replace(NOTHING, **ALONE[step]))
    difference = np.abs(found - expected)
    mean, apart = (0.0, 0.0) if step in EXACT else LIMITS.get(step, (0.4, 0.012))
    assert difference.mean() <= mean and (difference > 1).mean() <= apart
    assert np.abs(expected - faces[:20]).mean() > 0.5, "the step does something"


def test_nothing_to_do_is_nothing_done(faces):
    found, _ = both(faces[:5], NOTHING)
    np.testing.assert_array_equal(found, faces[:5])


CAMERA = dataclasses.replace(OURS, misalign_p=0.5, motion_p=0.5, atmosphere_p=0.5, noise_p=0.5)


@pytest.mark.parametrize("policy", [OURS, ADAFACE, CAMERA])
def test_the_whole_degradation_on_drawn_faces(faces, policy):
    check(faces, policy)


@pytest.mark.parametrize("policy", [OURS, ADAFACE])
def test_the_whole_degradation_on_real_faces(lfw, policy):
    source = FaceRecords(lfw / "train")
    check(np.array([decode(source.read(79 * i)[0], "") for i in range(COUNT)]), policy)


def check(images: np.ndarray, policy: DegradationPolicy) -> None:
    found, expected = both(images, policy)
    agreement, strength = psnr(found, expected), psnr(expected, images.astype(float))
    # A shrunk pixel that is rounded the other way may move a JPEG coefficient by a whole step.
    assert agreement.min() > 31 and np.median(agreement) > 42
    changed = strength < 40
    assert (agreement - strength)[changed].min() > 6, "far closer to each other than to the original"
    assert np.abs(psnr(found, images.astype(float)) - strength)[changed].max() < 0.5
    assert np.abs(found - expected).mean() < 1.1
    assert np.abs(found.mean(axis=(0, 1, 2)) - expected.mean(axis=(0, 1, 2))).max() < 0.1
    assert np.abs(found.std(axis=(1, 2)) - expected.std(axis=(1, 2))).mean() < 0.3
    assert np.abs(spectrum(found) / spectrum(expected) - 1).max() < 0.05


def test_an_image_does_not_depend_on_its_batch(faces):
    packed = torch.from_numpy(draw(OURS, uniforms(0, np.zeros(8, int), np.arange(8))).pack())
    params = ViewParams.unpack(packed)
    images = torch.from_numpy(faces[:8]).permute(0, 3, 1, 2)
    together = degrade_batch(images, params, OURS)
    alone = torch.cat([degrade_batch(images[i : i + 1], ViewParams.unpack(packed[i : i + 1]), OURS) for i in range(8)])
    assert (together - alone).abs().mean() < 0.05  # products of matrices may round differently
    assert torch.equal(together, degrade_batch(images, params, OURS))


class Memory:
    num_classes = 30

    def __init__(self, faces: np.ndarray) -> None:
        self.encoded = [encode_jpeg(face, 95) for face in faces]

    def __len__(self) -> int:
        return len(self.encoded)

    def read(self, index: int) -> tuple[bytes, int]:
        return self.encoded[index], index // 2

    def where(self, index: int) -> str:
        return str(index)


@pytest.mark.parametrize("policy", [OURS, ADAFACE])
def test_batches_of_a_data_set_are_those_of_the_cpu(faces, policy):
    source, places = Memory(faces[:16]), [(epoch, index) for epoch in (0, 3) for index in range(8)]
    here, there = (PairDataset(source, policy, 9, degrade_on=where).__getitems__(places) for where in ("cpu", "device"))
    made = both_views(there, policy)
    assert torch.equal(made.high, here.high) and torch.equal(made.labels, here.labels)
    assert made.low.dtype == torch.uint8 and (made.low.float() - here.low.float()).abs().mean() < 1.5
    assert made.low.is_contiguous(memory_format=torch.channels_last) and made.params is None
    assert both_views(made, policy) is made and both_views(here, None) is here


@pytest.mark.parametrize(
    ("changes", "sizes"),
    [
        ({}, (11, 56)),
        ({"rescale_p": 0.5}, (11, 112)),
        ({"rescale_p": 0.0}, (112, 112)),
        ({"rescale_ratio": (0.001, 0.2)}, (1, 22)),
        ({"rescale_ratio": (1.0, 1.0)}, (112, 112)),
    ],
)
def test_tables_cover_every_size_that_is_drawn(changes, sizes):
    policy = dataclasses.replace(OURS, **changes)
    tables = Tables(policy, torch.device("cpu"))
    assert (tables.smallest, tables.largest) == sizes
    drawn = draw(policy, uniforms(0, np.zeros(5000, int), np.arange(5000))).small_height
    assert drawn.min() >= tables.smallest and drawn.max() <= tables.largest
    assert tables.down.shape[2] % 16 == 0 and tables.down.shape[2] >= tables.largest


# --- Matrices against OpenCV's own resizing of images -----------------------------------------------------------------


SIZES = range(11, 57, 15)  # 11, 26, 41, 56


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)


def applied(matrix: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Rows, then columns, in float64."""
    matrix = matrix.astype(np.float64)
    rows = np.tensordot(matrix, image.astype(np.float64), axes=(1, 0))
    return np.clip(np.rint(np.tensordot(rows, matrix, axes=(1, 1)).transpose(0, 2, 1)), 0, 255)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("name", FILTERS)
def test_shrinking(image, name, antialias):
    table = shrink_matrices(112, SIZES, 64, antialias)[FILTERS.index(name)]
    assert table.shape == (len(SIZES), 64, 112) and table.dtype == np.float32
    for size, matrix in zip(SIZES, table, strict=True):
        expected = d.shrink(image, (size, size), name, antialias)
        difference = np.abs(applied(matrix[:size], image) - expected)
        # uint8 rounds after every halving, and OpenCV's weights for uint8 have 11 bits
        assert difference.max() <= (3 if antialias else 1) and difference.mean() < (0.45 if antialias else 0.2)
        assert (matrix[size:] == matrix[size - 1]).all(), "the last row is repeated"
        np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", FILTERS)
def test_enlarging(image, name):
    table = enlarge_matrices(112, SIZES, 64)[FILTERS.index(name)]
    for size, matrix in zip(SIZES, table, strict=True):
        small = image[:size, :size]
        difference = np.abs(applied(matrix[:, :size], small) - d.enlarge(small, (112, 112), name))
        assert difference.max() <= 1 and difference.mean() < 0.2
        assert not matrix[:, size:].any()


def test_the_whole_size_is_left_as_it_is():
    for table in (shrink_matrices(112, range(112, 113), 112, True), enlarge_matrices(112, range(112, 113), 112)):
        assert (table == np.eye(112)).all()
