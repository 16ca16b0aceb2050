"""The artefacts of a batch against libjpeg's, of OpenCV's copy of it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from qgface_plugin.data.degradation.cpu import compress
from qgface_plugin.data.degradation.gpu_jpeg import CHROMINANCE, LUMINANCE, JpegBatch, quantisation
from qgface_plugin.data.procedural.face import draw_face


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    return np.array([draw_face(identity, 3) for identity in range(6)])


def padded(image: np.ndarray, size: int) -> np.ndarray:
    missing = size - len(image)
    return np.pad(image, ((0, missing), (0, missing), (0, 0)), mode="edge")


def through(images: list[np.ndarray], quality: int, size: int) -> list[np.ndarray]:
    """Square images of different sides in one batch, each cut to its own again."""
    sides = [len(image) for image in images]
    batch = torch.from_numpy(np.array([padded(image, size) for image in images])).permute(0, 3, 1, 2).float()
    found = JpegBatch(quality, size, torch.device("cpu"))(batch, torch.tensor(sides))
    assert (found == found.round()).all() and found.min() >= 0 and found.max() <= 255
    return [view[:, :side, :side].permute(1, 2, 0).numpy() for view, side in zip(found, sides, strict=True)]


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_artefacts_are_libjpegs_at_any_size(faces, quality):
    """Ties of rounding fall differently here and there, and each moves a block by a step of the quantisation."""
    sides = [11, 12, 16, 17, 24, 31, 33, 40, 47, 48, 55, 56]
    images = [
        cv2.resize(faces[i % len(faces)], (side, side), interpolation=cv2.INTER_AREA) for i, side in enumerate(sides)
    ]
    differences = []
    for image, found in zip(images, through(images, quality, 64), strict=True):
        expected = compress(image, quality).astype(float)
        differences.append(np.abs(found - expected).mean())
        assert differences[-1] < 0.4 * np.abs(expected - image).mean(), len(image)
    assert np.mean(differences) < 0.4 and np.median(differences) < 0.3


def test_a_whole_face(faces):
    (found,) = through([faces[0]], 75, 112)
    difference = np.abs(found - compress(faces[0], 75))
    assert difference.mean() < 0.2 and (difference > 1).mean() < 0.05


@pytest.mark.parametrize("side", range(1, 9))
def test_very_small_images(faces, side):
    images = [np.ascontiguousarray(face[40 : 40 + side, 50 : 50 + side]) for face in faces]
    for image, found in zip(images, through(images, 75, 16), strict=True):
        assert np.abs(found - compress(image, 75)).mean() < 2.1


def test_flat_images_stay_what_they_are():
    images = [np.full((side, side, 3), (90, 120, 200), np.uint8) for side in (9, 20, 32)]
    for image, found in zip(images, through(images, 75, 32), strict=True):
        assert np.abs(found - image).max() <= 3 and np.ptp(found, axis=(0, 1)).max() == 0


def test_images_do_not_depend_on_their_neighbours(faces):
    images = [cv2.resize(face, (side, side)) for face, side in zip(faces, (12, 25, 40, 48, 33, 17), strict=True)]
    alone = [through([image], 75, 48)[0] for image in images]
    for together, one in zip(through(images, 75, 48), alone, strict=True):
        assert np.abs(together - one).mean() < 0.05  # products of matrices may round differently


@pytest.mark.parametrize("quality", [1, 30, 50, 75, 96, 100])
def test_tables_are_those_in_the_file(quality):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    _, encoded = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))
    data, tables, at = encoded.tobytes(), {}, 2
    while data[at + 1] != 0xDA:  # segments up to the start of the scan
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xDB:
            body = data[at + 4 : at + 2 + length]
            for start in range(0, len(body), 65):
                tables[body[start]] = list(body[start + 1 : start + 65])
        at += 2 + length
    zigzag = sorted(range(64), key=lambda n: (n // 8 + n % 8, (n // 8 if (n // 8 + n % 8) % 2 else n % 8)))
    for number, base in enumerate((LUMINANCE, CHROMINANCE)):
        assert quantisation(base, quality).flatten()[zigzag].tolist() == tables[number]
