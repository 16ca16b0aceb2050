"""qgface eval-scface as a user types it."""

from __future__ import annotations

import hashlib

import pytest
import small_models
from identification_sets import write_face, write_model, write_scface

from qgface_plugin.commands import eval_scface
from qgface_plugin.evaluation.data_mark import data_mark
from qgface_plugin.evaluation.report.results import read_result


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_scface(tmp_path_factory.mktemp("scface"), subjects=2)


def run(data, model, *more) -> int:
    return eval_scface.main(["--data", str(data), "--model", str(model), "--network", "quick", "--quiet", *more])


def test_table_result_and_figure(data, tmp_path, capsys):
    model = write_model(tmp_path / "mine" / "model.pt")
    assert run(data, model) == 0
    shown = capsys.readouterr()
    assert "warning: subjects: 130 in the protocol, 2 here" in shown.out and shown.err == ""
    assert "rank-1 (%)" in shown.out and "similarity, same person" in shown.out and "gain" not in shown.out
    saved = read_result(tmp_path / "mine" / "results" / "scface.json")
    assert set(saved.results["rank1"]) == {"d1", "d2", "d3"} and saved.results["mated_probes"]["d1"] == 10
    digest = hashlib.sha256((tmp_path / "mine" / "model.pt").read_bytes()).hexdigest()
    assert saved.settings == {
        "sha256": digest, "data_mark": data_mark(data, "scface"),
        "name": "mine", "dim": 8, "color": "rgb", "mean": [127.5], "std": [127.5], "flip_fusion": True,
        "on_corrupt": "error", "subjects": None,
    }  # fmt: skip
    assert saved.warnings[0] == "subjects: 130 in the protocol, 2 here" and saved.data == str(data)
    assert (tmp_path / "mine" / "results" / "scface.png").read_bytes()[:4] == b"\x89PNG"


def test_against_another_model(data, tmp_path, capsys):
    models = [write_model(tmp_path / name / "model.pt", seed) for seed, name in enumerate("ab")]
    files = ["--json", str(tmp_path / "x.json"), "--figure", str(tmp_path / "y.png"), "--sample", "0"]
    assert run(data, models[0], "--against", str(models[1]), "--against-network", "quick", *files) == 0
    assert "gain in rank-1 (%)" in capsys.readouterr().out
    results = read_result(tmp_path / "x.json").results
    assert results["against"]["model"] == str(models[1]) and (tmp_path / "y.png").is_file()
    for d in ("d1", "d2", "d3"):
        expected = results["rank1"][d] - results["against"]["rank1"][d]
        assert results["improvement"][d]["rank1"] == pytest.approx(expected)
    assert not (tmp_path / "a" / "results").exists()


def test_a_gallery_of_another_model(data, tmp_path, capsys):
    """The result is another file than the model's own, and names both models and their digests."""
    new, old = (write_model(tmp_path / name / "model.pt", seed) for seed, name in enumerate(("new", "old")))
    assert run(data, new, "--sample", "0") == 0
    alone = read_result(tmp_path / "new" / "results" / "scface.json")
    assert run(data, new, "--sample", "8", "--gallery-model", str(old), "--gallery-network", "quick") == 0
    assert f"SCface, {new}, gallery by {old}" in capsys.readouterr().out
    mixed = read_result(tmp_path / "new" / "results" / "scface_gallery.json")
    assert read_result(tmp_path / "new" / "results" / "scface.json") == alone
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (new, old)]
    of_gallery = mixed.settings["gallery_model"]
    assert [mixed.settings["sha256"], of_gallery["sha256"]] == digests and mixed.model == str(new)
    assert (of_gallery["model"], of_gallery["dim"], of_gallery["color"]) == (str(old), 8, "rgb")
    assert mixed.results["similarity"] != alone.results["similarity"] and "gallery_model" not in alone.settings
    assert run(data, new, "--sample", "0", "--gallery-model", str(new), "--gallery-network", "quick") == 0
    same = read_result(tmp_path / "new" / "results" / "scface_gallery.json")
    assert same.results == alone.results
    small_models.write_model(tmp_path / "wide", "quick", 16)
    assert run(data, new, "--sample", "0", "--gallery-model", str(tmp_path / "wide")) == 2
    assert "new gives features of 8 numbers and the gallery's model wide of 16" in capsys.readouterr().err


def test_a_corrupt_image(tmp_path, capsys):
    root = write_scface(tmp_path / "set", subjects=2)
    (root / "aligned" / "002_cam1_1.jpg").write_bytes(b"x")
    model = write_model(tmp_path / "model.pt")
    assert run(root, model, "--sample", "0") == 2
    assert "qgface eval-scface: " in (error := capsys.readouterr().err) and "002_cam1_1.jpg: neither" in error
    assert run(root, model, "--sample", "0", "--on-corrupt", "skip") == 0
    assert "warning: 1 images cannot be decoded and are left out: " in capsys.readouterr().out
    assert read_result(tmp_path / "results" / "scface.json").results["mated_probes"] == {"d1": 9, "d2": 10, "d3": 10}


def test_subjects(tmp_path, capsys):
    root = write_scface(tmp_path / "set", subjects=2)
    write_face(root / "aligned" / "003_frontal.jpg", 3, 0)
    (tmp_path / "two.txt").write_text("1\n2\n")
    model = write_model(tmp_path / "model.pt")
    assert run(root, model, "--sample", "0", "--subjects", str(tmp_path / "two.txt"), "--no-flip") == 0
    assert "warning" not in capsys.readouterr().out
    saved = read_result(tmp_path / "results" / "scface.json")
    assert saved.settings["subjects"] == str(tmp_path / "two.txt") and saved.settings["flip_fusion"] is False


@pytest.mark.parametrize(
    ("data_is", "model_is", "message"),
    [("absent", "model.pt", "absent: no such folder"), ("set", "absent.pt", "absent.pt does not exist")],
)
def test_input_that_does_not_fit(tmp_path, capsys, data_is, model_is, message):
    write_scface(tmp_path / "set", subjects=1)
    write_model(tmp_path / "model.pt")
    assert run(tmp_path / data_is, tmp_path / model_is) == 2
    assert capsys.readouterr().err.startswith("qgface eval-scface: ")


def test_help_and_a_missing_argument(capsys):
    with pytest.raises(SystemExit, match="0"):
        eval_scface.main(["--help"])
    assert "--against MODEL" in (shown := capsys.readouterr().out) and "--subjects FILE" in shown
    with pytest.raises(SystemExit, match="2"):
        eval_scface.main([])
