"""The log of the steps alone: pictures, and what is not repeated beside a checkout's own log."""

from __future__ import annotations

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from qgface_plugin.config.method import QGFaceConfig
from qgface_plugin.data.pair_batch import PairBatch
from qgface_plugin.training.pair_grid import pair_grid
from qgface_plugin.training.step_log import StepLog

U = torch.tensor([0.9, 0.1, 0.3, 0.0])


@pytest.fixture
def writer(tmp_path):
    with SummaryWriter(tmp_path / "tensorboard") as found:
        yield found


def events(folder) -> EventAccumulator:
    return EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0}).Reload()


def image(event) -> np.ndarray:
    decoded = cv2.imdecode(np.frombuffer(event.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def criterion() -> SimpleNamespace:
    terms = {"loss": torch.tensor(2.0), "classification": torch.tensor(1.5), "b": torch.tensor(0.2)}
    return SimpleNamespace(terms=terms, queue=None, u_views=U)


def batch(paired: bool = True) -> PairBatch:
    high, low = torch.randint(0, 256, (2, 2, 3, 112, 112), dtype=torch.uint8)
    return PairBatch(high, low if paired else None, torch.zeros(2, dtype=torch.long))


def test_an_image_comes_back_as_it_was(tmp_path, writer):
    shown = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    StepLog(tmp_path, writer, 2).show("pairs", shown, 7)
    writer.flush()
    (event,) = events(tmp_path).Images("pairs")
    assert (event.step, event.width, event.height) == (7, 30, 20)
    assert np.array_equal(image(event), shown)


@pytest.mark.parametrize(("every", "steps"), [(0, []), (1, [1, 2, 3, 4, 5]), (3, [1, 4])])
def test_pairs_are_shown_from_the_first_step_on(tmp_path, writer, every, steps):
    log, pairs = StepLog(tmp_path, writer, 2, pair_grid_every=every), batch()
    for step in range(1, 6):
        log.step(step, 0, 0.1, criterion(), pairs)
    log.step(6, 0, 0.1, criterion(), batch(paired=False))
    writer.flush()
    found = events(tmp_path)
    shown = found.Images("quality/pairs") if steps else []
    assert [event.step for event in shown] == steps and found.Tags()["images"] == ["quality/pairs"] * bool(steps)
    expected = pair_grid(pairs.high, pairs.low, U[:2], U[2:], 0.2, contrasted=False)  # this criterion has no queue
    assert all(np.array_equal(image(event), expected) for event in shown)


@pytest.mark.parametrize(("every", "steps"), [(0, []), (100, [1, 4, 8])])
def test_every_epoch_ends_with_pairs(tmp_path, writer, every, steps):
    log = StepLog(tmp_path, writer, 2, pair_grid_every=every, steps_per_epoch=4)
    for step in range(1, 10):
        log.step(step, (step - 1) // 4, 0.1, criterion(), batch())
    writer.flush()
    assert [event.step for event in events(tmp_path).Images("quality/pairs")] == steps if every else not steps


@pytest.mark.parametrize("total", [None, 3])
def test_beside_a_checkout_nothing_is_said_twice(tmp_path, writer, caplog, total):
    log = StepLog(tmp_path, writer, 2, total_steps=total)
    with caplog.at_level("INFO", "qgface_plugin"):
        means = [log.step(step, 0, 0.25, criterion(), batch()) for step in (1, 2, 3)]
    log.close()
    assert [line is not None for line in means] == [False, True, total == 3]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(line["loss"] == 2.0 and line["lr"] == 0.25 for line in lines)
    scalars = set(events(tmp_path).Tags()["scalars"])
    repeated = {"loss/loss", "speed/learning_rate"}
    assert {"loss/classification", "quality/b"} <= scalars and scalars & repeated == (repeated if total else set())
    if total:
        assert "Loss 2.0000   LearningRate 0.250000   Epoch: 0   Global Step: 2   Required" in caplog.text
    else:
        assert caplog.messages == ["QGFace Classification: 1.5000   Global Step: 2"]


@pytest.mark.parametrize(("gate", "weight", "share", "said"), [
    ("exact", 1.0, 0.0, 2), ("exact", 1.0, 0.02, 0), ("none", 1.0, 0.0, 0), ("exact", 0.0, 0.0, 0),
])  # fmt: skip
def test_a_contrast_that_does_nothing_is_said_once_an_epoch(tmp_path, caplog, gate, weight, share, said):
    method = QGFaceConfig(contrastive_gate=gate, contrastive_weight=weight)
    idle = criterion()
    idle.config, idle.queue, idle.weight = method, SimpleNamespace(drift=lambda weight: 0.0), None
    idle.terms["lq_share_pair"] = torch.tensor(share)
    log = StepLog(tmp_path, None, 10)
    for step in range(1, 121):
        log.step(step, (step - 1) // 60, 0.1, idle, batch())
    log.close()
    assert caplog.text.count("the contrast does nothing") == said
