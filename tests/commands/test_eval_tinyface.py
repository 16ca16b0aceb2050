"""qgface eval-tinyface as a user types it."""

from __future__ import annotations

import hashlib
import shutil

import pytest
from identification_sets import write_model, write_tinyface

from qgface_plugin.commands import eval_tinyface
from qgface_plugin.evaluation.data_mark import data_mark
from qgface_plugin.evaluation.report.results import read_result


def run(data, model, *more) -> int:
    return eval_tinyface.main(["--data", str(data), "--model", str(model), "--network", "quick", "--quiet", *more])


def test_table_and_result(tmp_path, capsys):
    data, model = write_tinyface(tmp_path / "set"), write_model(tmp_path / "mine" / "model.pt")
    assert run(data, model) == 0
    shown = capsys.readouterr()
    assert "warning: distractors: 153,428 in the protocol, 7 here" in shown.out and shown.err == ""
    assert "rank-20" in shown.out and "with distractors      10       17" in shown.out
    saved = read_result(tmp_path / "mine" / "results" / "tinyface.json")
    assert saved.results["counts"] == {"probes": 10, "mated_probes": 10, "matches": 10, "distractors": 7}
    assert set(saved.results["rank"]) == {"1", "5", "20"} and 0 < saved.results["map"] <= 1
    digest = hashlib.sha256((tmp_path / "mine" / "model.pt").read_bytes()).hexdigest()
    assert saved.settings == {
        "sha256": digest, "data_mark": data_mark(data, "tinyface"),
        "name": "mine", "dim": 8, "color": "rgb", "mean": [127.5], "std": [127.5],
        "aligned": "aligned_pad_0.1_pad_high", "flip_fusion": True, "on_corrupt": "error",
    }  # fmt: skip
    assert len(saved.warnings) == 3


def test_a_gallery_of_another_model(tmp_path, capsys):
    data = write_tinyface(tmp_path / "set")
    new, old = (write_model(tmp_path / name / "model.pt", seed) for seed, name in enumerate(("new", "old")))
    assert run(data, new, "--gallery-model", str(old), "--sample", "0") == 0
    assert f"TinyFace, {new}, gallery by {old}" in capsys.readouterr().out
    mixed = read_result(tmp_path / "new" / "results" / "tinyface_gallery.json")
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (new, old)]
    assert [mixed.settings["sha256"], mixed.settings["gallery_model"]["sha256"]] == digests
    assert run(data, new, "--sample", "0") == 0
    alone = read_result(tmp_path / "new" / "results" / "tinyface.json")
    assert alone.results["map"] != mixed.results["map"] and alone.results["counts"] == mixed.results["counts"]


def test_a_corrupt_image_and_another_folder(tmp_path, capsys):
    data, model = write_tinyface(tmp_path / "set"), write_model(tmp_path / "model.pt")
    shutil.move(data / "aligned_pad_0.1_pad_high", tmp_path / "mine")
    (tmp_path / "mine" / "Gallery_Distractor" / "d_3.jpg").write_bytes(b"")
    places = ["--aligned", str(tmp_path / "mine"), "--sample", "0", "--json", str(tmp_path / "t.json")]
    assert run(data, model, *places) == 2
    assert "qgface eval-tinyface: " in (error := capsys.readouterr().err) and "d_3.jpg: neither JPEG nor PNG" in error
    assert run(data, model, *places, "--on-corrupt", "skip") == 0
    assert "1 images cannot be decoded" in capsys.readouterr().out
    assert read_result(tmp_path / "t.json").results["counts"]["distractors"] == 6


@pytest.mark.parametrize("broken", ["aligned_pad_0.1_pad_high", "tinyface"])
def test_input_that_does_not_fit(tmp_path, capsys, broken):
    data, model = write_tinyface(tmp_path / "set", people=1), write_model(tmp_path / "model.pt")
    shutil.rmtree(data / broken)
    assert run(data, model) == 2
    assert capsys.readouterr().err.startswith("qgface eval-tinyface: ")
