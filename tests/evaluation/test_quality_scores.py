"""Qualities of images, and the files that other tools write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from qgface_plugin.evaluation.quality_scores import (
    OF_EMBEDDINGS,
    check_sources,
    image_sources,
    quality_of_images,
    read_scores,
    split_column,
)
from qgface_plugin.loss.quality import sharpness
from qgface_plugin.models.embeddings import Embeddings
from qgface_plugin.utils.errors import ConfigError, DataError


def save(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_of_embeddings() -> None:
    original, mirrored = np.random.default_rng(0).standard_normal((2, 5, 7)).astype(np.float32)
    mirrored[3] = 0
    embeddings = Embeddings(original, mirrored)
    for row in range(5):
        a, b = original[row].astype(float), mirrored[row].astype(float)
        assert OF_EMBEDDINGS["norm"](embeddings)[row] == pytest.approx(sum(a * a) ** 0.5)
        expected = sum(a * b) / ((sum(a * a) * sum(b * b)) ** 0.5 or 1)
        assert OF_EMBEDDINGS["flip"](embeddings)[row] == pytest.approx(expected, abs=1e-12)


def test_sharpness_is_the_loss_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qgface_plugin.evaluation.quality_scores.PIXELS", 3)
    images = np.random.default_rng(1).integers(0, 256, (7, 112, 112, 3), np.uint8)
    images[2] = 128
    expected = sharpness(torch.tensor(images.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2))
    np.testing.assert_allclose(quality_of_images("sharpness", images), expected.numpy(), atol=1e-5)
    assert "sharpness" in image_sources() and not {"norm", "certainty", "degradation"} & set(image_sources())


OFIQ = (
    "Filename;UnifiedQualityScore;Sharpness;UnifiedQualityScore.scalar;Sharpness.scalar;\n"
    "/data/faces/a/1.png;24.5;-3.25;71;40\n"
    "/data/faces/b/1.png;0;0;-1;-1\n"
    "/data/faces/b/2.jpg;18.5;2;12;33\n"
)


def test_ofiqs_file(tmp_path: Path) -> None:
    """Its scalar -1 marks a failure; raw scores have their own column."""
    found = read_scores(save(tmp_path / "ofiq.csv", OFIQ))
    assert found.column == "UnifiedQualityScore.scalar"
    assert found.of(["a/1.jpg", "faces/b/2.jpg", "b/1.png"]).tolist() == [71, 12, -np.inf]
    assert found.of(["2.jpg"]).tolist() == [12]
    with pytest.raises(DataError, match=r"ofiq.csv: 1 of 2 images fit several of its lines: 1\.png"):
        found.of(["2", "1.png"])
    with pytest.raises(DataError, match=r"2 of 3 images have no line in it: c/3\.png, 7\.png"):
        found.of(["b/2.jpg", "c/3.png", "7.png"])
    column = read_scores(tmp_path / "ofiq.csv", "Sharpness")
    assert column.of(["a/1", "b/2"]).tolist() == [-3.25, 2]
    with pytest.raises(DataError, match="no column 'Sharp'; it has Filename, UnifiedQualityScore, "):
        read_scores(tmp_path / "ofiq.csv", "Sharp")


@pytest.mark.parametrize("separator", [" ", "\t"])
def test_xqlfws_scores(tmp_path: Path, separator: str) -> None:
    lines = [("ID", "Num", "Score"), ("Ann_Bee", "1", "0.75"), ("Ann_Bee", "12", "0.5"), ("Cy_Dee", "1", "1e-2")]
    found = read_scores(save(tmp_path / "xqlfw_scores.txt", "\n".join(separator.join(line) for line in lines)))
    assert found.of(["Cy_Dee/Cy_Dee_0001", "Ann_Bee/Ann_Bee_0012.jpg", "Ann_Bee_0001"]).tolist() == [0.01, 0.5, 0.75]
    with pytest.raises(DataError, match="line 2: 'Ann b 0.5' is not `name number score`"):
        read_scores(save(tmp_path / "bad.txt", "ID Num Score\nAnn b 0.5\n"))


@pytest.mark.parametrize(
    "text",
    ["a/1.jpg 0.5\nb/1.jpg 2\n", "a/1.jpg,0.5\nb/1.jpg,2\n", "path,score\na/1.jpg,0.5\nb/1.jpg,2\n",
     "n,name,quality,blur\n1,a/1.jpg,0.5,9\n2,b/1.jpg,2,8\n", "image\tconfidence\na/1.jpg\t0.5\nb/1.jpg\t2\n",
     "name,score\n./a/1.jpg,0.5\nb\\1.jpg,2\n"],
)  # fmt: skip
def test_other_files(tmp_path: Path, text: str) -> None:
    assert read_scores(save(tmp_path / "s.csv", text)).of(["x/b/1.jpg", "x/a/1.png"]).tolist() == [2, 0.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the list of quality scores is empty"),
        ("name,blur,pose\na,1,2\n", "which of blur, pose columns is the quality\\? Name it: .*s.csv:COLUMN"),
        ("name,score\na,high\n", "line 2: the quality 'high' is no number"),
        ("name,score\na,1\na,2\n", "line 3: a is there twice"),
        ("name,score\n", "no score is in it"),
        ("name,score\n,3\n", "line 2: no name of an image in column 1"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_scores(save(tmp_path / "s.csv", text))
    assert read_scores(save(tmp_path / "t.csv", "name,score\na,\nb,nan\nc,3")).of(["a", "b", "c"]).tolist() == [
        -np.inf, -np.inf, 3,
    ]  # fmt: skip


def test_names_of_sources(tmp_path: Path) -> None:
    file = save(tmp_path / "s:1.csv", "name,score\na,1\n")
    assert split_column(str(file)) == (str(file), None) and split_column(f"{file}:blur") == (str(file), "blur")
    check_sources(["norm", "flip", "sharpness", str(file), f"{file}:score"])
    with pytest.raises(ConfigError, match="quality 'nrom' is neither norm, flip, .*sharpness.* nor a file"):
        check_sources(["nrom"])
    with pytest.raises(ConfigError, match="named twice"):
        check_sources(["norm", "norm"])
