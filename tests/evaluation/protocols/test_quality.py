"""Pairs of every layout against loops over their images, and that qualities belong to the images they are of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from identification_sets import BlockModel, write_face, write_scface
from ijb_sets import FlatModel, write_set
from tiny import write_faces

from qgface_plugin.data.bin_files import read_bin
from qgface_plugin.data.images import decode
from qgface_plugin.evaluation.protocols.ijb.features import load_faces
from qgface_plugin.evaluation.protocols.ijb.metadata import read_images
from qgface_plugin.evaluation.protocols.ijb.templates import Mode
from qgface_plugin.evaluation.protocols.quality import (
    evaluate_quality,
    pairs_of_bin,
    pairs_of_ijb,
    pairs_of_scface,
    pairs_of_xqlfw,
    write_images,
)
from qgface_plugin.evaluation.protocols.scface_files import read_scface
from qgface_plugin.evaluation.quality_scores import quality_of_images
from qgface_plugin.models.embeddings import Embeddings
from qgface_plugin.utils.errors import DataError

SOURCES = ["norm", "flip", "sharpness"]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(float), b.astype(float)
    return float(sum(a * b) / (sum(a * a) * sum(b * b)) ** 0.5)


def assert_qualities(found, row: int, embeddings: Embeddings, image: np.ndarray) -> None:
    assert found.qualities["norm"][row] == pytest.approx(np.linalg.norm(embeddings.original[0]), rel=1e-5)
    assert found.qualities["flip"][row] == pytest.approx(cosine(embeddings.original[0], embeddings.mirrored[0]))
    assert found.qualities["sharpness"][row] == pytest.approx(quality_of_images("sharpness", image[None])[0], abs=1e-5)


@pytest.mark.parametrize("flip", [True, False])
def test_a_pair_set(tmp_path: Path, flip: bool) -> None:
    """And its images as files, by whose names a file of scores goes."""
    folder = write_faces(tmp_path / "data")
    pairs = read_bin(folder / "dev.bin")
    assert write_images(folder / "dev.bin", tmp_path / "files") == 40
    names = sorted(path.name for path in (tmp_path / "files").iterdir())
    assert [(tmp_path / "files" / name).read_bytes() for name in names] == pairs.images
    lines = "".join(f"{name};{number}\n" for number, name in enumerate(names))
    (tmp_path / "q.csv").write_text(f"Filename;Mine.scalar\n{lines}")
    model, file = BlockModel(), str(tmp_path / "q.csv")
    found = pairs_of_bin(model, folder / "dev.bin", [*SOURCES, file], flip)
    assert found.name == "dev" and found.flip_fusion == flip and found.qualities[file].tolist() == list(range(40))
    for pair in range(20):
        first, second = (decode(pairs.images[2 * pair + side], "x") for side in (0, 1))
        both = [model.embed(image[None]) for image in (first, second)]
        features = [one.features[0] if flip else one.original[0] for one in both]
        assert found.scores[pair] == pytest.approx(cosine(*features), abs=1e-6)
        assert found.same[pair] == pairs.same[pair]
        assert (found.first[pair], found.second[pair]) == (2 * pair, 2 * pair + 1)
        assert_qualities(found, 2 * pair + 1, both[1], second)
    result = evaluate_quality(found, [0.2, 0.001])
    assert set(result.curves) == {*SOURCES, file} and result.failed == dict.fromkeys(result.curves, 0)
    assert result.curves["norm"][1].at.reason == "10 impostor pairs show no FAR below 1.0e-01"
    saved = result.as_dict()
    assert (saved["pairs"], saved["genuine"], saved["impostors"]) == (20, 10, 10)
    assert saved["sources"]["flip"]["curves"][0]["fmr"] == 0.2 and saved["sources"]["flip"]["constant"] is False


def write_xqlfw(root: Path) -> Path:
    for who in range(4):
        for number in (1, 2, 3):
            write_face(root / "xqlfw_aligned_112" / f"P_{who}" / f"P_{who}_{number:04d}.jpg", who, number)
    genuine = [f"P_{who}\t1\t{number}" for who in range(4) for number in (2, 3)]
    impostors = [f"P_{who}\t{number}\tP_{(who + number) % 4}\t1" for who in range(4) for number in (1, 2)]
    (root / "xqlfw_pairs.txt").write_text("\n".join(["1\t8", *genuine, *impostors]) + "\n")
    return root


def test_xqlfw(tmp_path: Path) -> None:
    root = write_xqlfw(tmp_path / "xqlfw")
    scores = [("ID", "Num", "Score"), *((f"P_{who}", n, who + n / 10) for who in range(4) for n in (1, 2, 3))]
    (root / "xqlfw_scores.txt").write_text("\n".join(" ".join(map(str, line)) for line in scores))
    file, model = str(root / "xqlfw_scores.txt"), BlockModel()
    found, warnings = pairs_of_xqlfw(model, root, ["norm", file])
    assert warnings == [] and found.same.tolist() == [True] * 8 + [False] * 8
    for row, (a, b) in enumerate([((0, 1), (0, 2)), ((0, 1), (0, 3)), ((1, 1), (1, 2))]):
        assert found.qualities[file][found.first[row]] == a[0] + a[1] / 10
        assert found.qualities[file][found.second[row]] == b[0] + b[1] / 10
        images = [
            decode((root / "xqlfw_aligned_112" / f"P_{w}" / f"P_{w}_{n:04d}.jpg").read_bytes(), "x") for w, n in (a, b)
        ]
        both = [model.embed(image[None]).features[0] for image in images]
        assert found.scores[row] == pytest.approx(cosine(*both), abs=1e-6)
    (root / "xqlfw_aligned_112" / "P_1" / "P_1_0002.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 12 images are missing .*: P_1/P_1_0002. --on-corrupt skip leaves"):
        pairs_of_xqlfw(model, root, ["norm"])
    fewer, warnings = pairs_of_xqlfw(model, root, ["norm", file], on_corrupt="skip")
    assert len(fewer.scores) == 14 and len(warnings) == 1 and len(fewer.qualities[file]) == 11


def test_scface(tmp_path: Path) -> None:
    images, model = read_scface(write_scface(tmp_path, subjects=3)), BlockModel()
    found = pairs_of_scface(model, images, SOURCES)
    assert len(found.scores) == 45 * 3 and found.same.sum() == 45
    paths = [*images.gallery, *images.probes]
    for pair in (0, 5, 77, 134):
        first, second = (decode(paths[rows[pair]].read_bytes(), "x") for rows in (found.first, found.second))
        both = [model.embed(image[None]) for image in (first, second)]
        assert found.scores[pair] == pytest.approx(cosine(*(one.features[0] for one in both)), abs=1e-6)
        assert_qualities(found, found.first[pair], both[0], first)
        who = [int(paths[rows[pair]].name[:3]) for rows in (found.first, found.second)]
        assert found.same[pair] == (who[0] == who[1])


def test_templates_have_the_mean_of_their_images(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    images = read_images(write_set(tmp_path / "IJBB"), "IJBB")
    with ThreadPoolExecutor(1) as pool:
        faces, _ = load_faces(images, 0, 12, pool)
    embeddings = FlatModel().embed(faces)
    values = [*range(11), ""]
    (tmp_path / "q.csv").write_text("name,score\n" + "".join(f"{n + 1}.jpg,{v}\n" for n, v in enumerate(values)))
    file = str(tmp_path / "q.csv")
    usable = np.arange(12) != 2
    found = pairs_of_ijb(images, embeddings, [*SOURCES, file], Mode(flip=False), usable)
    assert found.qualities[file].tolist() == [0.5, 3, 4.5, 6.5, 8.5, 10] and not found.flip_fusion
    norms = embeddings.norms
    expected = [(norms[0] + norms[1]) / 2, norms[3], *((norms[2 * t] + norms[2 * t + 1]) / 2 for t in range(2, 6))]
    assert found.qualities["norm"] == pytest.approx(expected, rel=1e-6)
    sharp = quality_of_images("sharpness", faces)
    assert found.qualities["sharpness"][5] == pytest.approx(sharp[10:].mean(), abs=1e-5)
    result = evaluate_quality(found, [0.5])
    assert result.failed[file] == 0 and len(found.scores) == 15
    assert result.curves["norm"][0].genuine == 5
