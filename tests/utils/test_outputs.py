"""What a tool may write over: its own files of before, and nothing else."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from qgface_plugin.data.bin_files import write_bin
from qgface_plugin.utils import outputs
from qgface_plugin.utils.errors import ConfigError
from qgface_plugin.utils.outputs import (
    CHECKPOINT,
    ONNX,
    PAIR_SET,
    PDF,
    PNG,
    check_no_input,
    check_output,
    json_with,
    report_of,
    text_with,
)


@dataclass
class Report:
    file: str
    pairs: int


JSON, TEXT = report_of(Report), text_with(["a,b"], (".csv",), "CSV")
OURS = {"x.json": b'{"file": "a", "pairs": 1, "more": 2}', "x.csv": b"a,b\n1,2\n", "x.png": b"\x89PNG\r\n\x1a\nrest",
        "x.pdf": b"%PDF-1.4", "x.onnx": b"\x08\7 graph qgface_plugin 0.2"}  # fmt: skip
KINDS = {".json": JSON, ".csv": TEXT, ".png": PNG, ".pdf": PDF, ".onnx": ONNX, ".bin": PAIR_SET, ".pt": CHECKPOINT}


@pytest.mark.parametrize("name", OURS)
def test_ones_own_files_may_be_written_over(tmp_path: Path, name: str) -> None:
    kind = KINDS[Path(name).suffix]
    path = tmp_path / name
    check_output(None, kind)
    check_output(path, kind, [tmp_path / "absent", None])
    path.write_bytes(OURS[name])
    check_output(path, kind, [tmp_path / "absent", None, tmp_path])
    path.write_bytes(b"")  # reserved by the user, or of a full disk
    check_output(path, kind)


@pytest.mark.parametrize("name", OURS)
def test_other_files_are_refused(tmp_path: Path, name: str) -> None:
    kind, path = KINDS[Path(name).suffix], tmp_path / name
    for content in (b"what somebody wrote", *(other for key, other in OURS.items() if key != name)):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=rf"{name} is there already and is no .*: name another file, or move"):
            check_output(path, kind)
    path.write_bytes(OURS[name])
    renamed = path.rename(path.with_suffix(".dat"))  # right content, another suffix
    with pytest.raises(ConfigError, match="x.dat is there already"):
        check_output(renamed, kind)
    path.mkdir()
    with pytest.raises(ConfigError, match="is a folder: name the file"):
        check_output(path, kind)


def test_json_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    for content in ({"file": "a"}, [1], "x", {"network": "r34"}):
        path.write_text(json.dumps(content))
        with pytest.raises(ConfigError, match="recipe.json is there already and is no report"):
            check_output(path, JSON)
    with pytest.raises(ConfigError, match="no plan"):
        check_output(path, json_with(["bytes"], "plan"))


def test_pair_sets_and_checkpoints(tmp_path: Path) -> None:
    write_bin(tmp_path / "x.bin", [b"a", b"b"], [True])
    check_output(tmp_path / "x.bin", PAIR_SET)
    torch.save({"state_dict_softmax_fc": {}}, tmp_path / "ours.pt")
    check_output(tmp_path / "ours.pt", CHECKPOINT)
    torch.save({"weight": torch.zeros(2)}, tmp_path / "model.pt")
    (tmp_path / "old.pt").write_bytes(pickle.dumps({}))
    for name in ("model.pt", "old.pt"):
        with pytest.raises(ConfigError, match=f"{name} is there already and is no training checkpoint"):
            check_output(tmp_path / name, CHECKPOINT)


def test_an_input_under_any_name(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(OURS["x.json"])
    os.link(path, tmp_path / "hard.json")
    os.symlink(path, tmp_path / "soft.json")
    for name in ("x.json", "hard.json", "soft.json", "../" + tmp_path.name + "/x.json"):
        with pytest.raises(ConfigError, match="is an input of this tool"):
            check_output(tmp_path / name, JSON, ["absent", path])
        with pytest.raises(ConfigError, match="is an input of this tool"):
            check_no_input(tmp_path / name, [None, path])
    os.symlink(tmp_path / "nowhere", tmp_path / "dangling.json")
    with pytest.raises(ConfigError, match="dangling.json is there already"):
        check_output(tmp_path / "dangling.json", JSON)


@pytest.mark.parametrize("place", ["file/x.json", "file/deeper/x.json", "closed/x.json", "closed/new/x.json"])
def test_a_folder_that_cannot_be_written_is_known_before_the_work(tmp_path, monkeypatch, place):
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "closed").mkdir()
    asked = os.access

    def access(path: str | Path, mode: int, **options: bool) -> bool:
        return Path(path).name != "closed" and asked(path, mode, **options)

    monkeypatch.setattr(outputs.os, "access", access)
    with pytest.raises(OSError) as refused:
        check_output(tmp_path / place, JSON)
    assert refused.value.filename == str(tmp_path / place.split("/")[0]) and refused.value.strerror
    check_output(tmp_path / "new" / "folder" / "x.json", JSON)
    assert not (tmp_path / "new").exists()
