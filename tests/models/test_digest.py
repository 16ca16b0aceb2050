"""Digest of what --model names."""

from __future__ import annotations

from pathlib import Path

import pytest

from qgface_plugin.models.digest import model_digest
from qgface_plugin.utils.errors import DataError


def test_model_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = tmp_path / "models" / "pack"
    pack.mkdir(parents=True)
    (pack / "a.onnx").write_bytes(b"a")
    (tmp_path / "model.pt").write_bytes(b"a")
    by_file = model_digest(str(tmp_path / "model.pt"))
    assert by_file == model_digest(str(tmp_path)) == model_digest(str(pack)) == model_digest(str(pack / "a.onnx"))
    monkeypatch.setattr("qgface_plugin.models.digest.models_folder", lambda: tmp_path / "models")
    assert model_digest("pack") == by_file
    (pack / "a.onnx").write_bytes(b"b")
    assert model_digest("pack") != by_file
    with pytest.raises(DataError, match="absent: No such file"):
        model_digest("absent")
