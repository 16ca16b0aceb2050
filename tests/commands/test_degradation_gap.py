"""The command that measures how far policies are from probes, on drawn faces in folders."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from identification_sets import UntrainedModel

from qgface_plugin.commands import degradation_gap
from qgface_plugin.config.degradation import OURS
from qgface_plugin.data.images import encode_png
from qgface_plugin.data.procedural.face import draw_face
from qgface_plugin.evaluation.degradation_gap import degraded


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    faces = np.array([draw_face(number, number) for number in range(16)])
    views = degraded(faces, OURS, 5)
    for folder, images in (("faces", faces), ("probes", views)):
        (tmp_path / folder / "deep").mkdir(parents=True)
        for number, image in enumerate(images):
            (tmp_path / folder / "deep" / f"{number:02}_far.png").write_bytes(encode_png(image))
    (tmp_path / "probes" / "near.png").write_bytes(encode_png(faces[0]))

    def model(given):
        given.sha256 = "0"
        return UntrainedModel()

    monkeypatch.setattr(degradation_gap, "model_from_arguments", model)
    return ["--model", "x", "--faces", str(tmp_path / "faces"), "--probes", str(tmp_path / "probes"),
            "--match", "*_far.png"]  # fmt: skip


def test_numbers_and_sheet(arguments, tmp_path, capsys):
    report, sheet = tmp_path / "gap.json", tmp_path / "gap.png"
    assert degradation_gap.main([*arguments, "--json", str(report), "--sheet", str(sheet)]) == 0
    shown = capsys.readouterr().out
    assert "16 faces of" in shown and "16 probes of" in shown
    found = json.loads(report.read_text())
    assert list(found["gaps"]) == ["none", "ours", "adaface"] and found["count"] == [16, 16]
    assert found["gaps"]["ours"]["spectrum_db"] < 0.5 * found["gaps"]["none"]["spectrum_db"]
    assert cv2.imread(str(sheet)).shape == (4 * 112, 12 * 112, 3)
    assert degradation_gap.main([*arguments, "--json", str(report)]) == 0  # its own report is written over
    assert json.loads(report.read_text()) == found


def test_what_does_not_fit(arguments, tmp_path, capsys):
    (tmp_path / "foreign.json").write_text("{}")
    for further, said in (
        (["--policies", "our"], "--policies names our: neither a recipe's file nor one of none, ours, adaface"),
        (["--match", "*.bmp"], "0 images whose names are like '*.bmp'"),
        (["--count", "1"], "--count is 1"),
        (["--json", str(tmp_path / "foreign.json")], "foreign.json is there already"),
    ):
        assert degradation_gap.main([*arguments, *further]) == 2
        assert said in capsys.readouterr().err
