"""qgface eval-quality as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from identification_sets import write_face, write_model, write_scface
from tiny import write_faces

from qgface_plugin.commands import eval_quality, export
from qgface_plugin.evaluation.report.results import read_result
from qgface_plugin.models import load_model
from qgface_plugin.models.quality_calibration import QualityCalibration

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """dev.bin and SCface."""
    folder = write_faces(tmp_path_factory.mktemp("quality") / "data")
    write_scface(folder / "scface", subjects=3)
    return folder


def run(*arguments: object) -> int:
    return eval_quality.main([*map(str, arguments), "--quiet"])


def test_a_pair_set_and_a_file_of_scores(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    model = write_model(tmp_path / "run" / "model.pt")
    assert run("--data", data / "dev.bin", "--write-images", tmp_path / "files") == 0
    assert "written: 40 images of dev.bin" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "files").iterdir())
    lines = "".join(f"{name};3;{'-1' if name == names[0] else 50}\n" for name in names)
    (tmp_path / "ofiq.csv").write_text(f"Filename;UnifiedQualityScore;UnifiedQualityScore.scalar\n{lines}")
    given = ["--model", model, "--data", data / "dev.bin", "--fmr", "0.3", "1e-3"]
    assert run(*given, "--quality", "norm", "flip", "sharpness", tmp_path / "ofiq.csv") == 0
    shown = capsys.readouterr()
    assert "FNMR in %, with flip fusion" in shown.out and "10 impostor pairs show no FAR below" in shown.out
    assert "no score of 1 items; they are discarded first" in shown.err
    results = tmp_path / "run" / "results"
    saved = read_result(results / "quality.json")
    sources = saved.results["sets"]["dev"]["sources"]
    assert set(sources) == {"norm", "flip", "sharpness", str(tmp_path / "ofiq.csv")}
    curve = sources["norm"]["curves"][0]
    assert curve["fmr"] == 0.3 and curve["impostors"] == 10 and len(curve["errors"]) == len(curve["discarded"]) == 200
    assert f"{curve['threshold']:.4f}" in shown.out and f"{curve['area']:.4f}" in shown.out
    assert sources["norm"]["curves"][1]["reason"] and saved.settings["layout"] == "bin" and saved.settings["dim"] == 8
    assert (results / "quality_dev.png").read_bytes()[:4] == b"\x89PNG"
    assert (results / "quality_dev.pdf").read_bytes()[:4] == b"%PDF"
    assert run(*given, "--quality", "norm", "--no-flip") == 0  # writes over its own
    assert "without flip fusion" in capsys.readouterr().out


def test_layouts_are_told_apart(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    model = write_model(tmp_path / "run" / "model.pt")
    assert run("--model", model, "--data", data / "scface", "--fmr", "0.1", "--quality", "norm") == 0
    assert read_result(tmp_path / "run" / "results" / "quality.json").settings["layout"] == "scface"
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        (["--data", tmp_path / "empty"], "neither .bin sets, nor xqlfw_pairs.txt, nor SCface's aligned/"),
        (["--data", data / "dev.bin", "--quality", "blur"], "quality 'blur' is neither norm, flip,"),
        (["--data", data, "--layout", "ijb"], "--subset says which set of IJB it is"),
        ([], "--data names a .bin set"),
        (["--calibrate", data], "-o FILE names the calibration"),
    ):
        assert run("--model", model, *arguments) == 2
        assert message in capsys.readouterr().err
    assert run("--data", data) == 2 and "--model names the encoder" in capsys.readouterr().err


def test_calibration_from_a_folder_to_an_onnx_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    onnx = pytest.importorskip("onnx")
    for number in range(12):
        write_face(tmp_path / "archive" / f"{number}.jpg", number, 0)
    model, other = (write_model(tmp_path / name / "model.pt", seed) for seed, name in enumerate(("run", "other")))
    output = tmp_path / "calibration.json"
    assert run("--model", model, "--calibrate", tmp_path / "archive", "-o", output) == 0
    assert "norms of 12 images" in capsys.readouterr().out
    calibration = QualityCalibration.load(output)
    assert (calibration.images, calibration.reference) == (12, "archive")
    from qgface_plugin.evaluation.embed_files import embed_files

    paths = sorted((tmp_path / "archive").iterdir())
    norms = np.linalg.norm(embed_files(load_model(str(model)), paths, flip=False).features, axis=1)
    assert calibration.norms[0] == pytest.approx(norms.min(), rel=1e-6)
    assert calibration.norms[50] == pytest.approx(np.median(norms), rel=1e-6)
    graph = tmp_path / "x.onnx"
    assert export.main(["--model", str(model), "-o", str(graph), "--calibration", str(output)]) == 0
    kept = {entry.key: entry.value for entry in onnx.load(str(graph)).metadata_props}
    assert QualityCalibration.from_metadata(kept) == calibration
    assert json.loads(kept["quality_calibration"])["images"] == 12
    assert export.main(["--model", str(other), "-o", str(tmp_path / "y.onnx"), "--calibration", str(output)]) == 2
    assert "is of another model than" in capsys.readouterr().err and not (tmp_path / "y.onnx").exists()
