"""A folder that a run cannot write into is refused by name, before anything in it is touched."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from tiny import tiny_model, tiny_run, write_faces

from qgface_plugin.training import build, output_folder
from qgface_plugin.training.output_folder import own_folder, warn_if_nearly_full
from qgface_plugin.training.trainer import train
from qgface_plugin.utils.errors import ConfigError


@pytest.mark.parametrize("kind", ["file", "dangling", "log is a folder", "below a file"])
def test_what_is_no_folder_is_refused_by_name(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(build, "get_model", tiny_model)
    write_faces(tmp_path / "data")
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    elif kind == "dangling":
        out.symlink_to(tmp_path / "absent" / "there")
    elif kind == "log is a folder":
        (out / "training.log").mkdir(parents=True)
    else:
        out.write_text("mine")
        out = out / "run"
    with pytest.raises(ConfigError, match=rf"config\.output is {out}, which cannot be written"):
        train(tiny_run(tmp_path, output=str(out)))
    left = {path.relative_to(tmp_path).parts[0] for path in tmp_path.iterdir()}
    assert left == {"data", "out"} and not (kind == "log is a folder" and (out / "recipe.json").exists())


@pytest.mark.parametrize("name", ["checkpoint_gpu_3.pt", "model.pt", "metrics.jsonl"])
def test_anothers_files_in_a_shared_folder(tmp_path, monkeypatch, name):
    """Where only a file's owner may replace it (the sticky bit, as in /tmp)."""
    (tmp_path / name).write_text("another user's")
    tmp_path.chmod(0o1777)

    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    with own_folder(tmp_path):
        pass
    monkeypatch.setattr(output_folder.os, "utime", refuse)
    with pytest.raises(ConfigError, match=f"{name}: Operation not permitted"), own_folder(tmp_path):
        pass
    assert os.listdir(tmp_path) == [name]


def test_a_nearly_full_disk_is_a_warning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        warn_if_nearly_full(tmp_path, 1000)
        assert caplog.text == ""
        warn_if_nearly_full(tmp_path, 1 << 60)
    assert caplog.text.count("GB of free space") == 1 and str(tmp_path) in caplog.text
