"""qgface compare: verdicts and exit statuses as typed, with thresholds that eval-pairs has measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from identification_sets import write_face
from small_models import noise_images, write_model

from qgface_plugin.commands import eval_pairs
from qgface_plugin.commands.compare import main
from qgface_plugin.data.bin_files import write_bin
from qgface_plugin.data.images import encode_png
from qgface_plugin.models import load_model
from qgface_plugin.models.digest import model_digest
from qgface_plugin.models.quality_calibration import QualityCalibration


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_model(tmp_path / "run")
    return tmp_path / "run" / "model.pt"


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    paths = [tmp_path / f"{name}.png" for name in "ab"]
    for path, face in zip(paths, noise_images(2), strict=True):
        path.write_bytes(encode_png(face))
    return list(map(str, paths))


def run(*arguments: object) -> int:
    return main([str(argument) for argument in (*arguments, "--device", "cpu")])


def results(path: Path, model: Path, threshold: float | None) -> Path:
    point = {"far": 1e-4, "threshold": threshold, "impostors": 9000, "false_accepts": 0, "reason": "too few pairs"}
    content = {"protocol": "pairs", "data": "d", "model": str(model), "settings": {"sha256": model_digest(model)}}
    content |= {"results": {"sets": {"lfw": {"thresholds": {"points": [point]}}}}, "warnings": []}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_verdicts_and_statuses(model: Path, photos: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    found = load_model(str(model), device="cpu").embed_files(photos)
    cosine = found.cosine(0, 1)
    file = tmp_path / "pairs.json"
    for threshold, verdict, status in (
        (cosine - 1e-4, "same", 0),
        (cosine + 1e-4, "different", 3),
        (None, "cannot tell", 4),
    ):
        results(file, model, threshold)
        arguments = (*photos, "--model", model, "--thresholds", file, "--json", tmp_path / "out.json")
        assert run(*arguments) == status
        saved = json.loads((tmp_path / "out.json").read_text())
        assert saved["verdict"] == verdict and saved["cosine"] == pytest.approx(cosine, abs=1e-6)
        assert saved["first"]["norm"] == pytest.approx(float(found.norms[0]), rel=1e-5)
        shown = capsys.readouterr().out
        assert f"verdict           {verdict}" in shown and "FAR 0.0001" in shown
        assert ("9,000 impostor pairs" in shown) == (threshold is not None)


def test_quality_limits(model: Path, photos: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    norms = load_model(str(model), device="cpu").embed_files(photos).norms
    results(tmp_path / "pairs.json", model, -1.0)
    arguments = (*photos, "--model", model, "--thresholds", tmp_path / "pairs.json")
    assert run(*arguments, "--min-norm", norms.min() * 0.99) == 0
    assert run(*arguments, "--min-norm", norms.max() * 1.01) == 4
    shown = capsys.readouterr().out
    assert "because the quality of a.png" in shown and "because the quality of b.png" in shown
    assert run(*arguments, "--min-quality", 3) == 2 and "--calibration" in capsys.readouterr().err
    middle = np.linspace(norms.min() - 1, norms.min() + 1, 101)
    QualityCalibration.of_norms(middle, "the archive", model_digest(model)).save(tmp_path / "c.json")
    assert run(*arguments, "--calibration", tmp_path / "c.json") == 0
    assert "better than 50 % of the archive" in capsys.readouterr().out
    assert run(*arguments, "--calibration", tmp_path / "c.json", "--min-quality", 51) == 4


def test_thresholds_beside_the_model_are_its_own(
    model: Path, photos: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run(*photos, "--model", model) == 4
    assert "because there is no threshold: measure one by qgface eval-pairs" in capsys.readouterr().out
    beside = results(model.parent / "results" / "pairs.json", model, -1.0)
    assert run(*photos, "--model", model) == 0
    other = json.loads(beside.read_text())
    other["settings"]["sha256"] = "0" * 64
    beside.write_text(json.dumps(other))
    assert run(*photos, "--model", model) == 2 and "another model" in capsys.readouterr().err
    assert run(*photos, "--model", model, "--thresholds", beside) == 0
    assert "right only if both are the same encoder" in capsys.readouterr().err


def test_with_what_eval_pairs_has_saved(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    images = []
    for number in range(40):
        write_face(tmp_path / "f" / f"{number}.jpg", number // 2, number)
        images.append((tmp_path / "f" / f"{number}.jpg").read_bytes())
    pairs = [images[i] for k in range(20) for i in (2 * k, 2 * k + 1)] + [
        images[i] for k in range(20) for i in (2 * k, (2 * k + 5) % 40)
    ]
    write_bin(tmp_path / "tiny.bin", pairs, [True] * 20 + [False] * 20)
    given = ["--model", model, "--data", tmp_path / "tiny.bin", "--far", 0.1, 1e-4, "--sample", 0, "--device", "cpu"]
    assert eval_pairs.main([*map(str, given), "--quiet"]) == 0
    first, second = (tmp_path / "f" / f"{number}.jpg" for number in (0, 1))
    assert run(first, first, "--model", model, "--far", 0.1) == 0
    assert run(first, second, "--model", model) == 4
    assert "20 impostor pairs show no FAR below" in capsys.readouterr().out
    assert run(first, second, "--model", model, "--far", 0.01) == 2
    assert run(tmp_path / "absent.png", second, "--model", model) == 2
