"""What is recorded beside a checkout's own log."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from qgface_plugin.arcface_torch.log import checkout_log
from qgface_plugin.config.run import Run
from qgface_plugin.data.pair_dataset import PairBatch


def criterion(step: int, quality_order: float = 1.0) -> SimpleNamespace:
    terms = {"loss": float(step), "quality_order": quality_order, "b": 0.2}
    terms = {name: torch.tensor(value) for name, value in terms.items()}
    return SimpleNamespace(terms=terms, queue=None, weight=None, u_views=torch.tensor([0.1, 0.9]))


@pytest.fixture
def batch() -> PairBatch:
    views = torch.zeros(1, 3, 112, 112, dtype=torch.uint8)
    return PairBatch(views, views, torch.zeros(1, dtype=torch.long))


def record(folder, batch, steps, start=0, quality_order=1.0) -> list[dict]:
    log = checkout_log(Run(output=str(folder)), None, 2, start)
    for step in steps:
        log.step(step, 0, 0.1, criterion(step, quality_order), batch)
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_means_since_the_last_line_without_a_writer(tmp_path, batch):
    lines = record(tmp_path / "out", batch, range(1, 6))
    assert [(line["step"], line["loss"]) for line in lines] == [(2, 1.5), (4, 3.5)]
    assert "samples_per_second" in lines[1]
    assert json.loads((tmp_path / "out" / "recipe.json").read_text())["network"] == "r50"


def test_a_resumed_run_keeps_the_lines_before_it(tmp_path, batch):
    record(tmp_path, batch, range(1, 7))
    lines = record(tmp_path, batch, range(5, 9), start=4)
    assert [line["step"] for line in lines] == [2, 4, 6, 8]


def test_norms_upside_down_are_a_warning(tmp_path, batch, caplog):
    with caplog.at_level(logging.WARNING, "qgface_plugin"):
        record(tmp_path, batch, range(1, 99), quality_order=0.2)
        assert not caplog.records
        record(tmp_path, batch, range(1, 121), quality_order=0.2)
    assert [r.levelname for r in caplog.records] == ["WARNING"] and "upside down" in caplog.text


def test_stall_is_the_share_of_time_spent_waiting_for_data(tmp_path, batch, monkeypatch, caplog):
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    writer = SummaryWriter(tmp_path / "tensorboard")
    log = checkout_log(Run(output=str(tmp_path)), writer, 2, 0)
    with caplog.at_level(logging.INFO, "qgface_plugin"):
        for step in range(1, 7):
            clock[0] += 0.5
            log.step(step, 0, 0.1, criterion(step), batch, waited=0.125 * (step % 3))
    writer.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert "data_stall" not in lines[0] and [line["data_stall"] for line in lines[1:]] == [0.125, 0.25]
    assert "Data Stall: 0.2500" in caplog.text
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.value for event in events.Scalars("speed/data_stall")] == [0.125, 0.25]
