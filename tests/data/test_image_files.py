"""Image files: photographs of any size, what they may cost, and files that are none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from golden.make_golden import draw
from photographs import png_of

from qgface_plugin.data.image_files import MAX_BYTES, check_face, load_face, read_photo, read_photo_noting
from qgface_plugin.data.images import decode
from qgface_plugin.data.sources.folder import FaceFolder
from qgface_plugin.evaluation.embed_files import read_face
from qgface_plugin.evaluation.protocols.ijb.images import read_crop
from qgface_plugin.models.onnx_export import sample_faces
from qgface_plugin.utils.errors import DataError

JPEG = cv2.imencode(".jpg", draw(3, 2, 112))[1].tobytes()


def raised(path: Path) -> None:
    face, _ = read_face(path)
    raise face


READERS = {
    "photograph": read_photo,
    "face to check": check_face,
    "face to pack": load_face,
    "evaluation": raised,
    "IJB": read_crop,
    "folder of identities": lambda path: FaceFolder(path.parent.parent).read(0),
    "export": lambda path: sample_faces(path.parent),
}


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("what", ["FIFO", "device"])
def test_only_regular_files_are_read(what: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "1" / "a.jpg"
    path.parent.mkdir()
    os.mkfifo(path) if what == "FIFO" else path.symlink_to("/dev/zero")
    with pytest.raises(DataError, match="regular file"):
        READERS[kind](path)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "a.jpg", "wb") as file:
        file.truncate(MAX_BYTES + 1)  # a hole: no byte on the disk
    with pytest.raises(DataError, match="a file of 537 MB is too large"):
        read_photo(tmp_path / "a.jpg")


@pytest.mark.parametrize("read", [read_photo, read_crop])
def test_a_small_file_of_many_pixels_is_not_decoded(read: Callable, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_of(16_000, 4500))
    with pytest.raises(DataError, match="16000 x 4500 pixels is too large"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("progressive", [0, 1])
def test_photographs_with_surplus_bytes_and_cut_ones(progressive: int, tmp_path: Path) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    whole = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])[1].tobytes()
    path = tmp_path / "a.jpg"
    path.write_bytes(whole)
    expected = read_photo(str(path))
    for odd in (whole[:-2], whole + bytes(5000), whole[:-2] + bytes(100)):
        path.write_bytes(odd)
        image, noted = read_photo_noting(path)
        assert noted and np.array_equal(image, expected) and np.array_equal(read_crop(path), expected)
    for cut in (whole[: len(whole) // 2], whole[: len(whole) * 9 // 10] + bytes(len(whole) // 10)):
        path.write_bytes(cut)
        for read, message in (
            (read_photo, "^the JPEG is cut short"),
            (read_crop, "a.jpg: the JPEG is cut short after"),
        ):
            with pytest.raises(DataError, match=message):
                read(path)


def test_a_cut_png_photograph_is_refused(tmp_path: Path) -> None:
    whole = cv2.imencode(".png", np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8))[1].tobytes()
    (tmp_path / "a.png").write_bytes(whole[:-900])
    with pytest.raises(DataError, match="PNG cut short"):
        read_photo(tmp_path / "a.png")


def test_faces_with_surplus_bytes_are_packed_as_they_are(tmp_path: Path) -> None:
    for odd in (JPEG[:-2], JPEG[:20] + b"\0\0" + JPEG[20:], JPEG + bytes(9)):
        path = tmp_path / "a.jpg"
        path.write_bytes(odd)
        found = check_face(path)
        assert found.fits and found.surplus and load_face(path) == odd
        assert not check_face(path, 64).fits and decode(load_face(path, 64), "a", 64).shape == (64, 64, 3)
