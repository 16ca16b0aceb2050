"""Embeddings of photographs: as by hand, in RGB whatever the file, and every photograph that cannot be used named."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from small_models import noise_images, write_model, write_onnx

from qgface_plugin.data.images import encode_jpeg, encode_png
from qgface_plugin.data.packing.alignment import TEMPLATE, align
from qgface_plugin.models import load_model
from qgface_plugin.models.photographs import read_face_of
from qgface_plugin.models.quality_calibration import QualityCalibration
from qgface_plugin.utils.errors import ConfigError, DataError

SHIFT = np.array([30.0, 12.0])


def finds_one(image: np.ndarray) -> list[np.ndarray]:
    return [TEMPLATE + SHIFT]


@pytest.fixture
def model(tmp_path: Path):
    write_model(tmp_path / "run")
    return load_model(str(tmp_path / "run" / "model.pt"), device="cpu")


def write_photos(folder: Path, count: int) -> list[Path]:
    """Photographs of 170 x 140 whose face stands at SHIFT."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, face in enumerate(noise_images(count)):
        photo = np.full((140, 170, 3), 90, np.uint8)
        photo[12:124, 30:142] = cv2.GaussianBlur(face, (0, 0), 4)
        paths.append(folder / f"{number}.png")
        paths[-1].write_bytes(encode_png(photo))
    return paths


def test_aligned_faces_as_by_hand(model, tmp_path: Path) -> None:
    faces = noise_images(5)
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for path, face in zip(paths, faces, strict=True):
        path.write_bytes(encode_png(face))
    for flip in (True, False):
        found = model.embed_files(paths, flip=flip, batch_size=2)
        plain = model.embed(faces)
        features = (plain.original + plain.mirrored if flip else plain.original).astype(np.float64)
        expected = features / np.linalg.norm(features, axis=1, keepdims=True)
        np.testing.assert_allclose(found.embeddings, expected, atol=1e-6)
        np.testing.assert_allclose(found.norms, np.linalg.norm(plain.original, axis=1), rtol=1e-5)
        assert found.paths == tuple(map(str, paths)) and found.faces.tolist() == [1] * 5
        assert found.cosine(0, 3) == pytest.approx(float(expected[0] @ expected[3]), abs=1e-6)


def test_photographs_are_aligned_and_channels_are_what_the_file_has(model, tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    paths = write_photos(tmp_path / "photos", 3)
    seen = []

    def detector(image: np.ndarray) -> list[np.ndarray]:
        seen.append(image.copy())
        return finds_one(image)

    found = model.embed_files(paths, detector, workers=1)
    rgb = [cv2.imread(str(path))[..., ::-1] for path in paths]
    for one, photo in zip(seen, rgb, strict=True):
        np.testing.assert_array_equal(one, photo)
    aligned = np.stack([align(np.ascontiguousarray(photo), TEMPLATE + SHIFT) for photo in rgb])
    expected = model.embed(aligned)
    np.testing.assert_allclose(found.norms, expected.norms, rtol=1e-5)
    features = expected.features / np.linalg.norm(expected.features, axis=1, keepdims=True)
    np.testing.assert_allclose(found.embeddings, features, atol=1e-6)


def test_a_model_of_bgr_turns_the_channels_itself(tmp_path: Path) -> None:
    write_model(tmp_path / "run")
    face = noise_images(1)[0]
    (tmp_path / "rgb.png").write_bytes(encode_png(face))
    (tmp_path / "bgr.png").write_bytes(encode_png(np.ascontiguousarray(face[..., ::-1])))
    of_rgb, of_bgr = (load_model(str(tmp_path / "run"), color=color, device="cpu") for color in ("rgb", "bgr"))
    one, other = of_rgb.embed_files([tmp_path / "rgb.png"]), of_bgr.embed_files([tmp_path / "bgr.png"])
    np.testing.assert_array_equal(one.embeddings, other.embeddings)
    assert abs(one.embeddings - of_bgr.embed_files([tmp_path / "rgb.png"]).embeddings).max() > 1e-3


def test_onnx_models_too(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    backbone = write_model(tmp_path / "run")
    file = write_onnx(tmp_path / "model.onnx", backbone)
    (tmp_path / "a.png").write_bytes(encode_png(noise_images(1)[0]))
    one = load_model(str(file)).embed_files([tmp_path / "a.png"])
    other = load_model(str(tmp_path / "run"), device="cpu").embed_files([str(tmp_path / "a.png")])
    np.testing.assert_allclose(one.embeddings, other.embeddings, atol=1e-5)


def test_what_cannot_be_used_is_refused_or_a_failure(model, tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    paths = write_photos(tmp_path, 2)
    (tmp_path / "damaged.jpg").write_bytes(encode_jpeg(noise_images(1)[0], 90)[:500])
    files = [paths[0], tmp_path / "damaged.jpg", tmp_path / "absent.png", paths[1]]
    with pytest.raises(DataError, match=r"damaged\.jpg.*--on-corrupt skip"):
        model.embed_files(files, finds_one)
    found = model.embed_files(files, finds_one, on_corrupt="skip")
    assert found.paths == (str(paths[0]), str(paths[1])) and len(found) == len(found.norms) == 2
    assert list(found.failures) == [str(tmp_path / "damaged.jpg"), str(tmp_path / "absent.png")]
    with pytest.raises(DataError, match="none of 2 photographs .* no face found"):
        model.embed_files(paths, lambda image: [], on_corrupt="skip")
    with pytest.raises(DataError, match="lie outside the image"):
        model.embed_files(paths, lambda image: [TEMPLATE + 900])
    with pytest.raises(DataError, match="no photograph"):
        model.embed_files([])
    with pytest.raises(ConfigError, match="workers"):
        model.embed_files(paths, workers=0)


@pytest.mark.parametrize(("height", "width"), [(140, 170), (250, 250), (56, 56)])
@pytest.mark.parametrize("encode", [encode_png, lambda image: encode_jpeg(image, 90)], ids=["png", "jpeg"])
def test_a_photograph_is_no_aligned_face(tmp_path: Path, height: int, width: int, encode) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encode(np.full((height, width, 3), 90, np.uint8)))
    with pytest.raises(DataError, match="not square|no aligned face.*--detector"):
        read_face_of(path, None)


def test_quality_by_a_calibration(model, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode_png(noise_images(1)[0]))
    norm = float(model.embed_files([tmp_path / "a.png"]).norms[0])
    calibration = QualityCalibration.of_norms(np.linspace(norm - 30, norm + 70, 1001), "r", "")
    assert model.embed_files([tmp_path / "a.png"], calibration=calibration).quality[0] == pytest.approx(30, abs=0.01)
