"""Every JSON file that the project writes itself, damaged: its own errors or "there is none", never anything else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from qgface_plugin.data.procedural import dataset
from qgface_plugin.evaluation.feature_cache import FeatureCache
from qgface_plugin.evaluation.report.results import RESULT, read_result
from qgface_plugin.experiments import runner
from qgface_plugin.experiments.plan import RECORD, read_record
from qgface_plugin.experiments.run_metrics import read_metrics
from qgface_plugin.training.checkpoints.run_id import RUN_FILE, run_id
from qgface_plugin.training.metrics_jsonl import MetricsLog
from qgface_plugin.training.trackers import TRACKING_FILE, known_ids
from qgface_plugin.utils import text
from qgface_plugin.utils.errors import ConfigError, DataError
from qgface_plugin.utils.folder_lock import FolderLock
from qgface_plugin.utils.outputs import check_output
from qgface_plugin.utils.text import read_json, read_json_lines

DAMAGED = {
    "empty": b"",
    "cut": b'{"id": "a", "steps": [{"what"',
    "NUL": b'{"id": 1}\0\0\0\0\n' + bytes(4096),
    "deep": b"[" * 100_000,
    "digits": b'{"step": ' + b"9" * 5000 + b', "pid": 1}',
    "latin1": b'{"id": "Jos\xe9", "step": 1, "kind": "train"}',
    "twice": b'{"id": "a", "id": "b", "step": 1, "step": 2}',
    "list": b"[1, 2]",
    "numbers": b'{"id": 7, "steps": 7, "step": 1.5, "kind": 3, "pid": "x", "complete": 1, "bytes": 4, "bad": 1}',
    "null": b"null",
    "text": b'"id"',
    "list of numbers": b'{"steps": [1, 2], "id": null, "bytes": {"x": "y"}, "complete": true}',
    "UTF-16": '{"id": "a"}'.encode("utf-16"),
}


def cache(folder: Path) -> object:
    features = FeatureCache(folder, "faces", {"model": "a"}, count=3, chunk=2)
    features.folder.mkdir()
    (folder / "x.json").rename(features.folder / "complete.json")
    return features.load()


def of_run(folder: Path) -> SimpleNamespace:
    return SimpleNamespace(folder=folder, config={})


READERS = {  # the file's name, and what reads it
    "run.json": (RUN_FILE, lambda folder: run_id(folder, new=False)),
    "metrics.jsonl, to go on": ("metrics.jsonl", lambda folder: MetricsLog(folder / "metrics.jsonl", 5).close()),
    "metrics.jsonl, for figures": ("metrics.jsonl", read_metrics),
    "metrics.jsonl, under way": ("metrics.jsonl", lambda folder: runner._step_of(of_run(folder))),
    "record": (RECORD, lambda folder: read_record(of_run(folder))),
    "tracking": (TRACKING_FILE, known_ids),
    "result": ("x.json", lambda folder: read_result(folder / "x.json")),
    "report": ("x.json", lambda folder: check_output(folder / "x.json", RESULT)),
    "drawn": (dataset.MARKER, lambda folder: dataset._complete(folder / dataset.MARKER, {"seed": 1})),
    "cache": ("x.json", cache),
    "lock": ("run.lock", lambda folder: FolderLock(folder, "run.lock", patience=0.0).acquire().release()),
}


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("reader", READERS)
def test_damage_is_an_error_of_the_projects_own_or_no_file(tmp_path, reader, damage):
    name, read = READERS[reader]
    (tmp_path / name).write_bytes(DAMAGED[damage])
    try:
        read(tmp_path)
    except (DataError, ConfigError) as error:
        assert str(tmp_path) in str(error)


@pytest.mark.parametrize("kind", ["FIFO", "folder", "too large"])
@pytest.mark.parametrize("reader", [name for name in READERS if name != "lock"])
def test_no_regular_file_and_one_too_large_are_not_read(tmp_path, monkeypatch, reader, kind):
    name, read = READERS[reader]
    path = tmp_path / name
    if kind == "too large":
        monkeypatch.setattr(text, "MAX_JSON", 64)
        monkeypatch.setattr(text, "MAX_LINES", 64)
        path.write_bytes(b'{"id": "a"}' + b" " * 64)
    else:
        path.mkdir() if kind == "folder" else os.mkfifo(path)
    try:
        read(tmp_path)
    except (DataError, ConfigError, IsADirectoryError) as error:
        assert str(tmp_path) in str(error)


def test_what_is_too_large_is_said(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"a": "b" * 100}))
    assert read_json(path, "result") == {"a": "b" * 100}
    monkeypatch.setattr(text, "MAX_JSON", 64)
    with pytest.raises(DataError, match="x.json: the result cannot be read .*too large"):
        read_json(path, "result")


def test_lines(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"a": 1}\r\n\n{"a": \n[2]\n\0\0\0\0')
    assert list(read_json_lines(path, "log", damaged=True)) == [(1, {"a": 1}), (4, [2])]
    with pytest.raises(DataError, match="m.jsonl line 5: a NUL byte"):
        list(read_json_lines(path, "log"))
    path.write_bytes(b'{"a": 1}\n{"a": \n')
    with pytest.raises(DataError, match="m.jsonl line 2: not JSON"):
        list(read_json_lines(path, "log"))
