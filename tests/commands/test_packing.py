"""The command lines of alignment, packing, pairs and inspection, as a user runs them, with wrong input too."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest

from qgface_plugin.data.bin_files import read_bin
from qgface_plugin.data.images import encode_jpeg
from qgface_plugin.data.packing.alignment import TEMPLATE
from qgface_plugin.data.sources.records import FaceRecords


def command(name: str) -> Callable[[list[str]], int]:
    module = import_module(f"qgface_plugin.commands.{name}")
    return lambda arguments: module.main([str(argument) for argument in arguments])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = []
    for person in ("Ann", "Bob"):
        for number in (1, 2):
            path = tmp_path / "photos" / person / f"{person}_{number:04d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            small = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
            path.write_bytes(encode_jpeg(cv2.resize(small, (160, 140)), 95))
            points = (TEMPLATE + 20).ravel().tolist()
            rows.append(",".join([f"{person}/{path.name}", *map(str, points)]))
    (tmp_path / "landmarks.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "photos"


def test_from_photographs_to_training_data(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("skimage")
    monkeypatch.chdir(tmp_path)
    assert command("align")(["photos", "-o", "aligned", "--landmarks", "landmarks.csv", "--json", "align.json"]) == 0
    assert json.loads(Path("align.json").read_text())["aligned"] == 4
    assert command("pack")(["aligned", "-o", "packed", "--json", "pack.json"]) == 0
    assert json.loads(Path("pack.json").read_text())["as_they_were"] == 4
    assert FaceRecords("packed").labels().tolist() == [0, 0, 1, 1]
    Path("pairs.txt").write_text("1\nAnn 1 2\nAnn 1 Bob 2\n")
    assert command("make_bin")(["pairs.txt", "--root", "aligned", "-o", "packed/mine.bin", "--json", "bin.json"]) == 0
    assert read_bin("packed/mine.bin").same.tolist() == [True, False]
    assert command("inspect")(["packed", "--sheet", "sheets/a.png", "--json", "found.json"]) == 0
    assert cv2.imread("sheets/a.png") is not None and json.loads(Path("found.json").read_text())["sound"] is True
    shown = capsys.readouterr().out
    for line in ("aligned now         4", "images                   4", "pairs             2", "verdict"):
        assert line in shown


@pytest.mark.parametrize(
    ("name", "arguments", "status", "message"),
    [
        (
            "align",
            ["none", "-o", "out", "--landmarks", "landmarks.csv"],
            2,
            "qgface align: none: no such folder; name the",
        ),
        ("align", ["photos", "-o", "out", "--landmarks", "none.csv"], 2, "none.csv: the landmarks cannot be read"),
        ("align", ["photos", "-o", "photos/out", "--landmarks", "landmarks.csv"], 2, "choose an output folder beside"),
        (
            "align",
            ["photos", "-o", "file/out", "--landmarks", "landmarks.csv"],
            1,
            "file: Not a directory; name a place",
        ),
        ("align", ["photos", "-o", "out", "--landmarks", "other.csv"], 1, "no landmarks are given for it"),
        ("pack", ["empty", "-o", "out"], 2, "qgface pack: empty: no sub-folder in it; images belong in one"),
        ("pack", ["photos", "-o", "out"], 2, "4 of 4 inputs cannot be packed, all listed in out/left_out.tsv"),
        ("pack", ["photos", "-o", "file/out"], 1, "file/out: Not a directory; name a place that can be written"),
        ("pack", ["photos", "photos", "-o", "out"], 2, "photos is named twice: name each source once"),
        ("make_bin", ["none.txt", "-o", "out.bin"], 2, "none.txt: the pairs file cannot be read"),
        ("make_bin", ["pairs.csv", "--root", "photos", "-o", "out.bin"], 2, "2 of 2 images are missing or bad"),
        ("make_bin", ["pairs.csv", "--root", "photos", "-o", "out.txt"], 2, "a pair set's name ends in .bin"),
        ("inspect", ["empty"], 2, "no .rec file in this folder"),
        ("inspect", ["file"], 2, "the index is missing and rebuilding it failed"),
    ],
)
def test_wrong_input(
    name: str,
    arguments: list[str],
    status: int,
    message: str,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("skimage")
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("file").write_text("a file in the way")
    Path("other.csv").write_text("x.jpg,1,2,3,4,5,6,7,8,9,10\n")
    Path("pairs.csv").write_text("Ann/Ann_0001.jpg,Bob/Bob_0009.jpg,0\n")
    assert command(name)(arguments) == status
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("flag", [["--on-corrupt", "skip"], ["--skip-bad"], ["--on-bad", "skip"]])
def test_pairs_left_out(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: list[str]) -> None:
    ann = photos / "Ann"
    for path in ann.iterdir():
        path.write_bytes(encode_jpeg(np.full((112, 112, 3), len(path.name), np.uint8), 90))
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("Ann/Ann_0001.jpg,Ann/Ann_0002.jpg,1\nAnn/Ann_0001.jpg,Bob/none.jpg,0\n")
    made = ["--root", photos, "-o", tmp_path / "out.bin", "--json", tmp_path / "bin.json"]
    assert command("make_bin")([pairs, *made]) == 2
    assert "--on-corrupt skip" in capsys.readouterr().err
    assert command("make_bin")([pairs, *made, *flag]) == 0
    assert json.loads((tmp_path / "bin.json").read_text())["left_out"] == 1


def test_help_reads_well(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("align", "pack", "make_bin", "inspect", "export"):
        with pytest.raises(SystemExit) as done:
            command(name)(["--help"])
        shown = capsys.readouterr().out
        assert done.value.code == 0 and f"qgface {name.replace('_', '-')} " in shown and "--json FILE" in shown


def test_nothing_of_somebody_elses_is_written_over(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("skimage")
    monkeypatch.chdir(tmp_path)
    assert command("align")(["photos", "-o", "aligned", "--landmarks", "landmarks.csv"]) == 0
    assert command("pack")(["aligned", "-o", "packed"]) == 0
    Path("pairs.txt").write_text("1\nAnn 1 2\nAnn 1 Bob 2\n")
    Path("mine.bin").write_bytes(b"a program")
    Path("mine.png").write_bytes(b"no picture")
    Path("mine.json").write_text("{}")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    again = ["align", "photos", "-o", "aligned", "--landmarks", "landmarks.csv"]
    for typed, message in (
        (["make_bin", "pairs.txt", "--root", "aligned", "-o", "mine.bin"], "mine.bin is there already"),
        (["make_bin", "pairs.txt", "--root", "aligned", "-o", "x.bin", "--json", "pairs.txt"], "is an input"),
        (["inspect", "packed", "--sheet", "mine.png"], "mine.png is there already"),
        (["inspect", "packed", "--json", "packed"], "packed is an input"),
        (["pack", "aligned", "-o", "new", "--json", "mine.json"], "mine.json is there already"),
        ([*again, "--json", "landmarks.csv"], "landmarks.csv is an input"),
    ):
        assert command(typed[0])(typed[1:]) == 2
        assert message in capsys.readouterr().err
        assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    Path("aligned/failures.csv").write_text("mine")
    assert command("align")(again[1:]) == 2 and "failures.csv is there already" in capsys.readouterr().err
    assert Path("aligned/failures.csv").read_text() == "mine"


def test_landmarks_in_another_order(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("skimage")
    monkeypatch.chdir(tmp_path)
    align = command("align")
    assert align(["photos", "-o", "right", "--landmarks", "landmarks.csv", "--format", "png"]) == 0
    rows = [line.split(",") for line in Path("landmarks.csv").read_text().splitlines()]
    Path("mtcnn.csv").write_text("".join(",".join([name, *v[::2], *v[1::2]]) + "\n" for name, *v in rows))
    capsys.readouterr()
    assert align(["photos", "-o", "wrong", "--landmarks", "mtcnn.csv"]) == 2
    assert "five x before five y; if so, --landmark-order x-then-y" in capsys.readouterr().err
    assert not Path("wrong").exists()
    arguments = ["--landmarks", "mtcnn.csv", "--landmark-order", "x-then-y", "--format", "png"]
    assert align(["photos", "-o", "given", *arguments]) == 0
    for path in Path("right").rglob("*.png"):
        assert path.read_bytes() == (Path("given") / path.relative_to("right")).read_bytes()
    upside_down = [[name, *(str(160 - float(x)) for x in v)] for name, *v in rows]
    Path("turned.csv").write_text("\n".join(map(",".join, upside_down)))
    assert align(["photos", "-o", "turned", "--landmarks", "turned.csv"]) == 0
    assert "qgface align: warning: 4 of 4 faces are turned by more than 60 degrees" in capsys.readouterr().err
