"""Saved results: one shape, complete files, and only results are read as results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from qgface_plugin.evaluation.report.results import Result, default_path, read_result, read_results, write_result
from qgface_plugin.utils.errors import ConfigError, DataError


def save(folder: Path, protocol: str = "scface", **changes) -> Path:
    values = dict(data="/data/x", model=folder / "model.pt", settings={"flip": True}, results={"rank1": {"d1": 0.5}})
    return write_result(protocol, **{**values, **changes})


def test_beside_the_model_and_back(tmp_path):
    path = save(tmp_path, warnings=["130 subjects in the protocol, 3 here"])
    assert path == tmp_path / "results" / "scface.json"
    expected = Result(
        "scface", "/data/x", str(tmp_path / "model.pt"), {"flip": True}, {"rank1": {"d1": 0.5}},
        ["130 subjects in the protocol, 3 here"],
    )  # fmt: skip
    assert read_result(path) == expected
    assert list(json.loads(path.read_text())) == ["protocol", "data", "model", "settings", "results", "warnings"]
    assert [entry.name for entry in path.parent.iterdir()] == ["scface.json"]


def test_another_file(tmp_path):
    path = save(tmp_path, path=tmp_path / "deep" / "other.json")
    assert path == tmp_path / "deep" / "other.json" and not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("work_dirs/x/model.pt", "work_dirs/x/results/pairs.json"),
        ("model.onnx", "results/pairs.json"),
        ("x/checkpoint_gpu_0.pt", "x/results/pairs.json"),
        ("zoo/faces.onnx", "zoo/faces/results/pairs.json"),
        ("zoo/faces.v2.onnx", "zoo/faces.v2/results/pairs.json"),
        ("buffalo_l", "work_dirs/buffalo_l/results/pairs.json"),
    ],
)
def test_default_places(model, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert default_path(model, "pairs") == Path(expected)


def test_a_file_without_suffix(tmp_path):
    (tmp_path / "weights").touch()
    assert default_path(tmp_path / "weights", "pairs") == tmp_path / "results" / "pairs.json"


def test_a_folder_as_model(tmp_path):
    assert default_path(tmp_path, "pairs") == tmp_path / "results" / "pairs.json"


def test_numpy_and_numbers_that_json_has_not(tmp_path):
    results = {
        "a": np.float32(0.5), "b": np.arange(3), 1: (np.int64(4), True), "c": float("nan"), "d": np.array([np.inf, 1]),
        "e": Path("x"), "f": None,
    }  # fmt: skip
    saved = read_result(save(tmp_path, results=results)).results
    assert saved == {"a": 0.5, "b": [0, 1, 2], "1": [4, True], "c": None, "d": [None, 1.0], "e": "x", "f": None}


def test_all_results_of_a_run(tmp_path):
    for protocol in ("tinyface", "pairs"):
        save(tmp_path, protocol)
    (tmp_path / "results" / "scface.png").write_bytes(b"")
    assert list(read_results(tmp_path)) == ["pairs", "tinyface"] == list(read_results(tmp_path / "results"))
    assert read_results(tmp_path / "results" / "..")["pairs"].results == {"rank1": {"d1": 0.5}}


def test_a_run_without_results(tmp_path):
    assert read_results(tmp_path) == {}
    with pytest.raises(DataError, match="no such folder"):
        read_results(tmp_path / "absent")


def test_two_files_of_one_protocol(tmp_path):
    save(tmp_path)
    save(tmp_path, path=tmp_path / "results" / "copy.json")
    with pytest.raises(DataError, match="scface.json: protocol 'scface'"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "not a saved result: 'protocol' is missing or no str"),
        ('{"protocol": "x", "data": "d", "model": "m", "settings": {}, "results": []}', "not .* 'results' is missing"),
    ],
)  # fmt: skip
def test_other_files(text, message, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=f"x.json: {message}"):
        read_result(tmp_path / "x.json")


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "x.json").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="x.json"):
        read_result(tmp_path / "x.json")
    with pytest.raises(DataError, match="y.json"):
        read_result(tmp_path / "y.json")


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="the result cannot be written"):
        save(tmp_path, path=tmp_path / "file" / "x.json")


def test_a_protocol_is_a_file_name(tmp_path):
    with pytest.raises(ConfigError, match="protocol is '../x'"):
        save(tmp_path, "../x")


def test_paths_say_the_same_from_another_folder(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.pt").touch()
    monkeypatch.chdir(tmp_path)
    saved = write_result("pairs", data="run", model="run/model.pt", settings={}, results={})
    names = write_result(
        "scface", data="gone", model="buffalo_l", settings={}, results={}, path="run/results/scface.json"
    )
    monkeypatch.chdir(tmp_path / "run")
    found, named = read_result(tmp_path / saved), read_result(tmp_path / names)
    assert (found.model, found.data) == (str(tmp_path / "run" / "model.pt"), str(tmp_path / "run"))
    assert (named.model, named.data) == ("buffalo_l", "gone")


def test_a_result_as_an_editor_saves_it(tmp_path):
    path = write_result("pairs", data="d", model=tmp_path / "model.pt", settings={}, results={})
    before = read_result(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_result(path) == before
    path.write_text("[" * 100_000)
    with pytest.raises(DataError, match="pairs.json: not JSON"):
        read_result(path)
