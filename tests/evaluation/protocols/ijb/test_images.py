"""The check of the order of channels on IJB: which pairs it takes from the templates, and that it warns."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from ijb_sets import FlatModel, write_set

from qgface_plugin.evaluation.protocols.ijb import images as images_module
from qgface_plugin.evaluation.protocols.ijb.images import (
    check_color_of_templates,
    check_present,
    fingerprint,
    load_faces,
    read_crop,
)
from qgface_plugin.evaluation.protocols.ijb.metadata import find_folder, read_images
from qgface_plugin.utils.errors import DataError


def paint(folder, index: int, template: int) -> None:
    """Blue belongs to the template, red to the image alone."""
    person, own = np.random.default_rng(template), np.random.default_rng(1000 + index)
    picture = np.full((9, 8, 3), 127, dtype=np.uint8)
    picture[..., 0], picture[..., 2] = person.integers(0, 256, (9, 8)), own.integers(0, 256, (9, 8))
    picture = cv2.resize(picture, (130, 150), interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(folder / "loose_crop" / f"{index + 1}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 98])


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    folder = write_set(tmp_path_factory.mktemp("ijb"), images=120)
    for index in range(120):
        paint(folder, index, index // 2)
    return read_images(folder, "IJBB")


class FirstChannel(FlatModel):
    """Looks at the first channel only, which is blue for a model that was trained on BGR."""

    color = "rgb"

    def embed(self, images, batch_size=64, progress=None):
        seen = images.copy()
        seen[..., 1:] = 127
        return super().embed(seen, batch_size)


def test_it_warns_when_the_other_order_is_better(painted):
    found = check_color_of_templates(FirstChannel(), painted, 120)
    assert found.other_auc > 0.9 > found.auc and "use --color bgr" in found.warning


def test_pairs_are_within_and_between_templates(painted, monkeypatch):
    given = {}
    monkeypatch.setattr(images_module, "check_color_order", lambda *values: given.update(values=values))
    monkeypatch.setattr(images_module, "load_faces", lambda images, start, *_: (np.full((1, 2, 2, 3), start), {}))
    check_color_of_templates(FirstChannel(), painted, 24, 5)
    _, faces, same, pairs, batch_size = given["values"]
    numbers = faces[:, 0, 0, 0].reshape(-1, 2)
    assert (pairs, batch_size) == (24, 5) and same.tolist() == [True] * 12 + [False] * 12
    templates, medias = painted.templates[numbers], painted.medias[numbers]
    assert ((templates[:, 0] == templates[:, 1]) == same).all() and (medias[:, 0] != medias[:, 1]).all()
    assert len(np.unique(templates[same])) == 12


def test_nothing_to_check(tmp_path, painted):
    model = FirstChannel()
    assert check_color_of_templates(model, painted, 0) is None
    few = write_set(tmp_path / "few", images=18)
    assert check_color_of_templates(model, read_images(few, "IJBB")) is None
    broken = write_set(tmp_path / "broken", images=40)
    for path in (broken / "loose_crop").iterdir():
        path.write_bytes(b"x")
    assert check_color_of_templates(model, read_images(broken, "IJBB")) is None


# --- Loose crops: decoded and warped as insightface's tools do it; what cannot be used is named -----------------------


TEMPLATE = [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.729904, 92.2041]]


def test_like_insightface(lfw: Path) -> None:
    """The warp in the words of its tools: scikit-image's similarity, OpenCV's warpAffine on BGR."""
    transform = pytest.importorskip("skimage.transform")
    images = read_images(find_folder(lfw / "ijb", "IJBB"), "IJBB")
    with ThreadPoolExecutor(2) as pool:
        faces, bad = load_faces(images, 40, 60, pool)
    assert not bad and faces.shape == (20, 112, 112, 3)
    for face, name, points in zip(faces, images.names[40:60], images.landmarks[40:60], strict=True):
        estimate = transform.SimilarityTransform()
        estimate.estimate(points, np.array(TEMPLATE, np.float32))
        crop = cv2.imread(str(images.folder / "loose_crop" / name))
        warped = cv2.warpAffine(crop, estimate.params[:2], (112, 112), borderValue=0.0)
        assert np.array_equal(face, warped[:, :, ::-1])


def test_bad_images(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", images=6)
    crops = folder / "loose_crop"
    encoded = (crops / "1.jpg").read_bytes()
    (crops / "2.jpg").write_bytes(encoded[: len(encoded) // 2])
    (crops / "3.jpg").write_bytes(b"not an image")
    (crops / "4.jpg").write_bytes(b"")
    (crops / "5.jpg").unlink()
    images = read_images(folder, "IJBB")
    images.landmarks[5] = 7.0
    assert list(check_present(images)) == [4]
    with ThreadPoolExecutor(2) as pool:
        faces, bad = load_faces(images, 0, 6, pool)
    assert list(bad) == [1, 2, 3, 4, 5] and not faces[1:].any() and faces[0].any()
    assert "2.jpg: the JPEG is cut short after" in bad[1]
    assert "3.jpg: undecodable image of 12 bytes" in bad[2] and "4.jpg: undecodable image of 0 bytes" in bad[3]
    assert "5.jpg: No such file" in bad[4] and "landmarks all lie at" in bad[5]


def test_no_folder(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set")
    images = read_images(folder, "IJBB")
    os.rename(folder / "loose_crop", folder / "crops")
    with pytest.raises(DataError, match="loose_crop: no such folder"):
        check_present(images)


def test_grey_and_trailing_bytes(tmp_path: Path) -> None:
    grey = np.full((20, 30), 90, np.uint8)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    assert (read_crop(tmp_path / "grey.png") == 90).all()
    cv2.imwrite(str(tmp_path / "a.jpg"), grey)
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes() + b"\0" * 100)
    assert read_crop(tmp_path / "b.jpg").shape == (20, 30, 3)


def test_fingerprint(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set")
    seen = {fingerprint(read_images(folder, "IJBB"))}
    assert fingerprint(read_images(folder, "IJBB")) in seen
    os.utime(folder / "loose_crop" / "3.jpg", (1, 1))
    seen.add(fingerprint(read_images(folder, "IJBB")))
    (folder / "loose_crop" / "4.jpg").unlink()
    seen.add(fingerprint(read_images(folder, "IJBB")))
    moved = read_images(folder, "IJBB")
    moved.landmarks[0, 0, 0] += 1
    seen.add(fingerprint(moved))
    assert len(seen) == 4


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    folder = write_set(tmp_path, images=4)
    for name in ("ijbb_face_tid_mid.txt", "ijbb_name_5pts_score.txt"):
        path = folder / "meta" / name
        path.write_bytes(path.read_bytes().replace(b"3.jpg", b"Jos\xe9.jpg"))
    absent = read_images(folder, "IJBB")
    before = fingerprint(absent)
    (folder / "loose_crop" / "3.jpg").rename(folder / "loose_crop" / os.fsdecode(b"Jos\xe9.jpg"))
    images = read_images(folder, "IJBB")
    assert check_present(images) == {} and fingerprint(images) != before
