"""metrics.jsonl: valid JSON, each step once."""

from __future__ import annotations

import json

from qgface_plugin.training.metrics_jsonl import MetricsLog, is_verification


def lines(path) -> list[dict]:
    return [json.loads(line, parse_constant=lambda c: 1 / 0) for line in path.read_text().splitlines()]


def write(path, start_step: int, steps: range) -> MetricsLog:
    log = MetricsLog(path, start_step)
    for step in steps:
        log.write({"step": step, "run": start_step})
    log.close()
    return log


def test_each_step_once_after_a_resume(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, 0, range(1, 8))
    kept = write(path, 4, range(5, 10)).kept
    assert [line["step"] for line in lines(path)] == list(range(1, 10))
    assert [line["run"] for line in lines(path)] == [0] * 4 + [4] * 5
    assert [line["step"] for line in kept] == [1, 2, 3, 4]


def test_a_run_from_the_start_takes_the_files_place(tmp_path):
    write(tmp_path / "m.jsonl", 0, range(0, 5))
    assert write(tmp_path / "m.jsonl", 0, range(1, 3)).kept == []
    assert [line["step"] for line in lines(tmp_path / "m.jsonl")] == [1, 2]


def test_a_line_cut_short_by_a_kill_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, 0, range(1, 5))
    whole = path.read_bytes()
    path.write_bytes(whole[:-7] + b"\xff")
    write(path, 9, range(10, 11))
    assert [line["step"] for line in lines(path)] == [1, 2, 3, 10]


def test_lines_that_are_no_metrics_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('[1]\n{"step": "x"}\nnull\n{"loss": 1}\n{"step": 1}\n')
    assert MetricsLog(path, 5).kept == [{"step": 1}]


def test_a_line_is_there_at_once_and_has_no_nan(tmp_path):
    log = MetricsLog(tmp_path / "m.jsonl")
    log.write({"step": 1, "loss": float("nan"), "more": [{"x": float("inf")}], "name": "a\nb"})
    assert lines(tmp_path / "m.jsonl") == [{"step": 1, "loss": None, "more": [{"x": None}], "name": "a\nb"}]
    log.close()


def test_what_nobody_can_mean_is_dropped_too(tmp_path):
    path = tmp_path / "metrics.jsonl"
    deep = '{"step": 1, "x": ' + "[" * 900 + "]" * 900 + "}"  # can be read, hardly written
    path.write_text("\n".join(["[" * 100_000, '{"step": ' + "9" * 5000 + "}", '{"step": true}', deep, '{"step": 2}']))
    assert [line["step"] for line in MetricsLog(path, 5).kept][-1] == 2
    assert all(line["step"] in (1, 2) for line in lines(path))


def test_verifications_that_a_resume_goes_on_from():
    whole = {"kind": "verification", "step": 1, "name": "lfw", "accuracy": 0.5, "highest": 0.75}
    assert is_verification(whole)
    for key in ("kind", "name", "accuracy", "highest"):
        assert not is_verification({other: value for other, value in whole.items() if other != key})
        assert not is_verification({**whole, key: None})
