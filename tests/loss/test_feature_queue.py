"""The queue: order, age, ring, refreshing, saving."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from torch.nn.functional import normalize

from qgface_plugin.loss import feature_queue
from qgface_plugin.loss import functional as F
from qgface_plugin.loss.feature_queue import FeatureQueue

CLASSES, DIM = 5, 3


class Stream:
    """Batches of unit features with labels, and centres that move after each."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.centres = torch.from_numpy(self.rng.normal(size=(CLASSES, DIM)))

    def batch(self, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.from_numpy(self.rng.integers(0, CLASSES, rows))
        return normalize(torch.from_numpy(self.rng.normal(size=(rows, DIM)))), labels

    def move(self) -> None:
        self.centres = self.centres + 0.3 * torch.from_numpy(self.rng.normal(size=(CLASSES, DIM)))


def living(queue: FeatureQueue, centres: torch.Tensor, renormalise: bool = False) -> list[tuple[int, np.ndarray]]:
    """(label, refreshed feature) of the living entries, newest first."""
    order = queue.serial.argsort(descending=True)
    order = order[queue.alive()[order]]
    now = queue.refreshed(centres, renormalise=renormalise)
    return [(int(queue.labels[slot]), now[slot].numpy()) for slot in order]


def assert_same(found: list[tuple[int, np.ndarray]], expected: list[tuple[int, np.ndarray]]) -> None:
    assert [label for label, _ in found] == [label for label, _ in expected]
    np.testing.assert_allclose([f for _, f in found], [f for _, f in expected], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind, size", [("proxy", 7), ("proxy", 12), ("momentum", 7), ("batch", None)])
@pytest.mark.parametrize("sizes", [(4, 4, 4, 4, 4, 4), (2, 9, 4, 1, 30, 2, 3)], ids=["even", "uneven"])
def test_live_entries_are_those_of_the_loop(kind, size, sizes):
    stream, queue = Stream(), FeatureQueue(size, DIM, slots=size or 0).double()
    reference = oracles.Reference(oracles.PAPER | {"queue": kind, "queue_size": size, "renormalise": False})
    for rows in sizes:
        features, labels = stream.batch(rows)
        queue.enqueue(features, labels, stream.centres[labels] if kind == "proxy" else None)
        reference.enqueue(list(features.numpy()), labels.tolist(), stream.centres.numpy(), CLASSES)
        stream.move()
        negatives = reference.negatives(stream.centres.numpy())
        expected = [(y, f) for (_, y, _), f in zip(reference.entries, negatives, strict=True)]
        assert_same(living(queue, stream.centres), expected)
        assert int(queue.living()) == len(expected) == int(queue.alive().sum())
        assert size is None or len(queue.serial) == size  # one rank that owns all classes never grows


def test_first_row_is_the_newest_and_survives_longest():
    queue, features = FeatureQueue(3, 2, slots=3), torch.eye(2)[[0, 1, 0, 1]]
    queue.enqueue(features, torch.tensor([10, 11, 12, 13]), None)
    assert [label for label, _ in living(queue, torch.zeros(14, 2))] == [10, 11, 12]
    queue.enqueue(features[:2], torch.tensor([20, 21]), None)
    assert [label for label, _ in living(queue, torch.zeros(22, 2))] == [20, 21, 10]


@pytest.mark.parametrize("kind", ["proxy", "momentum"])
@pytest.mark.parametrize("slots", [1, 3, 20])
def test_shards_together_hold_what_one_rank_holds(kind, slots):
    """Each rank enqueues only its classes; age is global; a ring that is too short grows and loses nothing."""
    stream, size, bounds = Stream(1), 20, [(0, 1), (1, 4), (4, 5)]
    whole = FeatureQueue(size, DIM, slots=size).double()
    shards = [FeatureQueue(size, DIM, slots=slots).double() for _ in bounds]
    for step in range(12):
        features, labels = stream.batch(6)
        if step in (3, 4):
            labels[:] = 0  # all on one rank
        if step == 5:
            labels[:] = 2
        whole.enqueue(features, labels, stream.centres[labels] if kind == "proxy" else None)
        for queue, (low, high) in zip(shards, bounds, strict=True):
            column = torch.where((labels >= low) & (labels < high), labels - low, -1)
            centres = stream.centres[low:high]
            queue.enqueue(features, column, centres[column.clamp_min(0)] if kind == "proxy" else None)
        stream.move()
        found = {}
        for queue, (low, high) in zip(shards, bounds, strict=True):
            now, alive = queue.refreshed(stream.centres[low:high], renormalise=False), queue.alive()
            for slot in alive.nonzero().squeeze(1).tolist():
                found[int(queue.serial[slot])] = (int(queue.labels[slot]) + low, now[slot].numpy())
            assert len(queue.serial) <= size
            assert int(queue.living()) == int(whole.living())
        assert_same([found[serial] for serial in sorted(found, reverse=True)], living(whole, stream.centres))


def test_rows_of_other_ranks_are_not_kept():
    queue = FeatureQueue(8, DIM, slots=8).double()
    features, _ = Stream().batch(4)
    queue.enqueue(features, torch.full((4,), -1), None)
    assert int(queue.alive().sum()) == 0 and int(queue.living()) == 4


@pytest.mark.parametrize("renormalise", [True, False])
def test_refreshed_is_refresh_with_the_centre_at_enqueue_time(renormalise):
    stream, queue = Stream(2), FeatureQueue(6, DIM, slots=6).double()
    features, labels = stream.batch(6)
    old = stream.centres.clone()
    queue.enqueue(features, labels, old[labels])
    stream.move()
    expected = F.refresh(features, old[labels], stream.centres[labels])
    expected = normalize(expected) if renormalise else expected
    found = living(queue, stream.centres, renormalise)
    assert_same(found, list(zip(labels.tolist(), expected.numpy(), strict=True)))
    assert (expected - features).abs().max() > 0.05


@pytest.mark.parametrize("kind", ["momentum", "batch"])
def test_other_kinds_are_not_refreshed(kind):
    stream, queue = Stream(), FeatureQueue(None if kind == "batch" else 4, DIM, slots=4).double()
    features, labels = stream.batch(4)
    queue.enqueue(features, labels, None)
    stream.move()
    assert_same(living(queue, stream.centres), list(zip(labels.tolist(), features.numpy(), strict=True)))


def test_the_queue_keeps_copies():
    stream, queue = Stream(), FeatureQueue(4, DIM, slots=4).double()
    features, labels = stream.batch(4)
    centres = stream.centres.clone()
    queue.enqueue(features, labels, centres[labels])
    before = queue.refreshed(stream.centres).clone()
    features.zero_(), centres.zero_()
    torch.testing.assert_close(queue.refreshed(stream.centres), before)


def test_drift():
    stream, queue = Stream(), FeatureQueue(8, DIM, slots=8).double()
    assert float(queue.drift(stream.centres)) == 0
    features, labels = stream.batch(4)
    queue.enqueue(features, labels, stream.centres[labels])
    assert float(queue.drift(stream.centres)) == pytest.approx(0, abs=1e-14)
    stream.move()
    moved = [abs(oracles.norm(f) - 1) for _, f in living(queue, stream.centres)]
    assert float(queue.drift(stream.centres)) == pytest.approx(sum(moved) / 4, rel=1e-10)
    assert sum(moved) > 1e-2


@pytest.mark.parametrize("slots", [7, 1, 20])
def test_a_saved_queue_goes_on_as_before(slots):
    stream, size = Stream(3), 20
    queue = FeatureQueue(size, DIM, slots=7).double()
    for _ in range(5):
        features, labels = stream.batch(3)
        queue.enqueue(features, torch.where(labels < 4, labels, -1), stream.centres[labels])
        stream.move()
    other = FeatureQueue(size, DIM, slots=slots).double()
    other.load_state_dict(queue.state_dict())
    assert_same(living(other, stream.centres), living(queue, stream.centres))
    for rows in (3, 2, 9, 6):
        features, labels = stream.batch(rows)
        for each in (queue, other):
            each.enqueue(features, labels, stream.centres[labels])
        stream.move()
        assert_same(living(other, stream.centres), living(queue, stream.centres))
        assert int(queue.living()) == int(other.living())


def test_nothing_is_left_out_of_the_state():
    queue = FeatureQueue(4, DIM, slots=4)
    names = {"residual", "scale", "labels", "serial", "enqueued", "cursor"}
    assert set(queue.state_dict()) == names == {name for name, _ in queue.named_buffers()}


def test_blocks_are_the_living_entries_of_the_wanted_classes(monkeypatch):
    stream, queue = Stream(4), FeatureQueue(9, DIM, slots=12).double()
    monkeypatch.setattr(feature_queue, "BLOCK", 2)
    assert list(queue.blocks(stream.centres)) == []
    for _ in range(4):
        features, labels = stream.batch(3)
        queue.enqueue(features, labels, stream.centres[labels])
        stream.move()
    wanted = torch.tensor([True, False, True, True, False])
    for candidates in (None, wanted):
        blocks = list(queue.blocks(stream.centres, candidates))
        assert all(1 <= len(features) == len(labels) <= 2 and dead is None for features, labels, dead in blocks)
        found = sorted((int(y), tuple(f.tolist())) for fs, ys, _ in blocks for f, y in zip(fs, ys, strict=True))
        kept = [(y, f) for y, f in living(queue, stream.centres, True) if candidates is None or wanted[y]]
        expected = sorted((y, tuple(f.tolist())) for y, f in kept)
        assert [y for y, _ in found] == [y for y, _ in expected] and len(found) > 2
        np.testing.assert_allclose([f for _, f in found], [f for _, f in expected], rtol=0, atol=1e-12)


def test_growing_keeps_type_and_what_is_alive():
    """All entries fall to one rank, which was given room for a quarter of them."""
    stream, queue = Stream(5), FeatureQueue(16, DIM, slots=5).double()
    whole = FeatureQueue(16, DIM, slots=16).double()
    for step in range(9):
        features, labels = stream.batch(3)
        for each in (queue, whole):
            each.enqueue(features, labels, stream.centres[labels])
        stream.move()
        assert_same(living(queue, stream.centres), living(whole, stream.centres))
        assert len(queue.serial) <= 16, step
    assert len(queue.serial) > 5 and queue.residual.dtype == queue.scale.dtype == torch.float64
    assert queue.labels.dtype == queue.serial.dtype == torch.int64
