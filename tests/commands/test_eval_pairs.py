"""qgface eval-pairs as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_models import write_model
from tiny import write_faces

from qgface_plugin.commands.eval_pairs import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_faces(tmp_path_factory.mktemp("pairs") / "data")
    write_model(folder.parent / "run", "quick", 16)
    return folder


def test_all_sets_of_a_folder(folder: Path, capsys: pytest.CaptureFixture) -> None:
    (folder / "other.bin").write_bytes((folder / "dev.bin").read_bytes())
    model = folder.parent / "run" / "model.pt"
    assert main(["--model", str(model), "--network", "quick", "--data", str(folder), "--quiet", "--sample", "4"]) == 0
    said = capsys.readouterr()
    saved = folder.parent / "run" / "results" / "pairs.json"
    assert f"saved: {saved}" in said.out and "average" in said.out and said.err == ""
    result = json.loads(saved.read_text())
    assert list(result["results"]["sets"]) == ["dev", "other"] and result["protocol"] == "pairs"
    assert result["settings"]["network"] == "quick" and result["settings"]["color"] == "rgb"
    assert result["settings"]["mean"] == result["settings"]["std"] == [127.5]
    (folder / "other.bin").unlink()


def test_another_normalisation_is_recorded(folder: Path, capsys: pytest.CaptureFixture) -> None:
    json_path = folder.parent / "other.json"
    given = [
        "--model",
        str(folder.parent / "run"),
        "--data",
        str(folder),
        "--sample",
        "0",
        "--json",
        str(json_path),
        "--quiet",
    ]
    found = []
    for more in ([], ["--mean", "90", "100", "110", "--std", "64"]):
        assert main([*given, *more]) == 0
        found.append(json.loads(json_path.read_text()))
    assert found[1]["settings"]["mean"] == [90, 100, 110] and found[1]["settings"]["std"] == [64]
    xnorms = [one["results"]["sets"]["dev"]["xnorm"] for one in found]
    assert xnorms[0] != pytest.approx(xnorms[1], rel=1e-3)
    assert main([*given, "--mean", "90"]) == 2 and "--mean is given alone" in capsys.readouterr().err


def test_a_truncated_set_does_not_stop_the_others(folder: Path, capsys: pytest.CaptureFixture) -> None:
    (folder / "cut.bin").write_bytes((folder / "dev.bin").read_bytes()[:3000])
    json_path = folder.parent / "out.json"
    model = str(folder.parent / "run")
    assert main(["--model", model, "--data", str(folder), "--sample", "0", "--json", str(json_path), "--quiet"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"qgface eval-pairs: {folder / 'cut.bin'}") and "dev " in said.out
    assert list(json.loads(json_path.read_text())["results"]["sets"]) == ["dev"]
    (folder / "cut.bin").unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--network", "r18"], "is no r18, as --network says: conv1.weight is missing. It fits quick: give"),
        (["--sets", "lfw"], "no lfw.bin; it holds dev.bin"),
        (["--model", "missing/model.pt"], "missing/model.pt does not exist"),
        (["--far", "2"], "FAR 2.0 is not a fraction"),
        (["--batch-size", "0"], "batch_size is 0: it must be at least 1"),
        (["--folds", "1"], "20 pairs cannot be split into 1 folds"),
    ],
)
def test_wrong_input(folder: Path, capsys: pytest.CaptureFixture, change: list[str], message: str) -> None:
    given = ["--model", str(folder.parent / "run"), "--data", str(folder), "--quiet", "--sample", "0", *change]
    assert main(given) == 2
    said = capsys.readouterr()
    assert said.err.startswith("qgface eval-pairs: ") and message in said.err and said.out == ""


def test_the_model_and_other_files_are_never_written_over(folder: Path, capsys: pytest.CaptureFixture) -> None:
    model = folder.parent / "run" / "model.pt"
    before = model.read_bytes()
    given = ["--model", str(model), "--network", "quick", "--data", str(folder), "--quiet", "--sample", "0", "--json"]
    assert main([*given, str(model)]) == 2
    assert "model.pt is an input of this tool" in capsys.readouterr().err and model.read_bytes() == before
    other = folder.parent / "recipe.json"
    other.write_text('{"network": "quick"}')
    assert main([*given, str(other)]) == 2
    assert "recipe.json is there already and is no report" in capsys.readouterr().err
    assert other.read_text() == '{"network": "quick"}'
