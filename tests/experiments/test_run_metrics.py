"""Reading a run's metrics.jsonl: what is there, and what is refused by its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qgface_plugin.experiments.run_metrics import read_metrics
from qgface_plugin.utils.errors import DataError

TRAIN = {"kind": "train", "step": 1, "loss": 2.5, "queue": None, "name": "x"}
VERIFIED = {"kind": "verification", "step": 2, "name": "lfw", "accuracy": 0.75}


def write(folder: Path, *lines: object) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "metrics.jsonl").write_text("\n".join(texts) + "\n")
    return folder


def test_numbers_by_name(tmp_path: Path) -> None:
    further = {"kind": "something new"}
    found = read_metrics(write(tmp_path, TRAIN, VERIFIED, {**TRAIN, "step": 3, "loss": 1}, further))
    assert {key: value[0].tolist() for key, value in found.terms.items()} == {"loss": [1, 3]}
    assert found.terms["loss"][1].tolist() == [2.5, 1] and found.accuracy["lfw"][1].tolist() == [0.75]


def test_numbers_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    odd = '{"kind": "train", "step": 2, "loss": NaN, "lr": Infinity, "big": 1' + "0" * 400 + ', "flag": true}'
    assert read_metrics(write(tmp_path, TRAIN, odd)).terms.keys() == {"loss"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"step": 2, "loss": 1.0}, "has a `kind`"),
        ({"kind": 3, "step": 2}, "has a `kind`"),
        ("[1]", "has a `kind`"),
        ("null", "has a `kind`"),
        ("{", "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"kind": "train", "step": ' + "9" * 5000 + "}", "not JSON|its step is"),
        ({"kind": "train", "loss": 1.0}, "its step is None"),
        ({**TRAIN, "step": True}, "its step is True"),
        ({**TRAIN, "step": "1"}, "its step is '1'"),
        ({**VERIFIED, "name": None}, "without name or accuracy"),
        ({**VERIFIED, "accuracy": "x"}, "without name or accuracy"),
        ('{"kind": "train", "step": 2, "loss": 1.0, "loss": 2.0}', "'loss' is there twice"),
    ],
)
def test_a_line_that_is_none(tmp_path: Path, line: object, message: str) -> None:
    with pytest.raises(DataError, match=f"metrics.jsonl line 2: .*(?:{message})"):
        read_metrics(write(tmp_path, TRAIN, line, TRAIN))


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="metrics.jsonl: it cannot be read"):
        read_metrics(tmp_path)
