"""The contrastive term on one rank: gates, couplings, masks, where gradients stop."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from qgface_plugin.config.method import QGFaceConfig
from qgface_plugin.contrast import contrast, pair_gate
from qgface_plugin.feature_queue import FeatureQueue

PAIRS, DIM, CLASSES = 4, 4, 5
U_PAIRS = torch.tensor([0.1, 0.25, 0.6, 0.25], dtype=torch.float64)


class Setting:
    """A queue that is part full, whose centres have moved, and a batch of unit embeddings."""

    def __init__(self, **options) -> None:
        rng = np.random.default_rng(4)
        self.config = QGFaceConfig(b=0.25, s=8.0, **options)
        self.o = oracles.PAPER | {"b": 0.25, "s": 8.0, **options}
        self.old = torch.from_numpy(rng.normal(size=(CLASSES, DIM)))
        self.centres = (self.old + 0.2 * torch.from_numpy(rng.normal(size=(CLASSES, DIM)))).requires_grad_()
        self.stored = normalize(torch.from_numpy(rng.normal(size=(9, DIM))))
        self.stored_labels = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 0])
        self.queue = FeatureQueue(12, DIM, slots=12).double()
        self.queue.enqueue(self.stored, self.stored_labels, self.old[self.stored_labels])
        self.raw = torch.from_numpy(rng.normal(size=(2 * PAIRS, DIM))).requires_grad_()
        self.column = torch.tensor([0, 1, 2, 3] * 2)

    def loss(self, candidates: Tensor | None = None, column: Tensor | None = None) -> Tensor:
        unit = normalize(self.raw)
        pairs = pair_gate(U_PAIRS, self.config).nonzero().squeeze(1)
        column = self.column if column is None else column
        part = contrast(unit, unit, column, pairs, self.queue, self.centres, candidates, self.config)
        return part.loss(part.negatives, part.positive)

    def expected(self, candidates: list[int] | None = None) -> float:
        unit = [oracles.unit(v) for v in self.raw.detach().numpy()]
        now, labels = [], []
        for f, y in zip(self.stored.numpy(), self.stored_labels.tolist(), strict=True):
            moved = oracles.refreshed(f, self.old[y].numpy(), self.centres[y].detach().numpy())
            if candidates is None or y in candidates:
                now.append(oracles.unit(moved) if self.o["renormalise"] else moved)
                labels.append(y)
        losses = []
        for i in range(PAIRS):
            same = [y == int(self.column[i]) for y in labels]
            losses.append(oracles.contrastive(unit[i + PAIRS], unit[i], now, same, float(U_PAIRS[i]), self.o))
            if self.o["coupling"] == "both":
                losses.append(oracles.contrastive(unit[i], unit[i + PAIRS], now, same, float(U_PAIRS[i]), self.o))
        factor = math.log(129) / math.log(1 + len(now)) if self.o["queue_rescale"] else 1.0
        return oracles.mean(losses) * factor


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"contrastive_gate": "zero_logits"},
        {"contrastive_gate": "none"},
        {"positive_in_denominator": False},
        {"same_identity": "zero"},
        {"renormalise": False},
        {"coupling": "both"},
        {"coupling": "both", "contrastive_gate": "zero_logits", "same_identity": "zero", "renormalise": False},
        {"queue_rescale": True},
        {"detach_key": False},
    ],
    ids=str,
)
def test_term_is_the_loops(options):
    setting = Setting(**options)
    assert float(setting.loss().detach()) == pytest.approx(setting.expected(), rel=1e-9)


def test_classes_that_are_no_candidates_do_not_compete():
    candidates = torch.tensor([True, False, True, False, True])
    setting = Setting()
    assert float(setting.loss(candidates).detach()) == pytest.approx(setting.expected([0, 2, 4]), rel=1e-9)


@pytest.mark.parametrize(
    "gate, b, taking_part",
    [
        ("exact", 0.25, [True, True, False, True]),
        ("zero_logits", 0.25, [True, False, False, False]),
        ("none", 0.25, [True] * 4),
        ("exact", 0.0, [False] * 4),
        ("zero_logits", 0.0, [True] * 4),
        ("exact", 1.0, [True] * 4),
    ],
)
def test_pair_gate(gate, b, taking_part):
    assert pair_gate(U_PAIRS, QGFaceConfig(b=b, contrastive_gate=gate)).tolist() == taking_part


@pytest.mark.parametrize("detach_key", [True, False])
@pytest.mark.parametrize("coupling", ["degraded_to_original", "both"])
def test_where_gradients_stop(detach_key, coupling):
    setting = Setting(detach_key=detach_key, coupling=coupling)
    setting.loss().backward()
    assert setting.centres.grad is None  # neither the queue nor the centres it is refreshed with
    originals, degraded = setting.raw.grad.abs().sum(1).chunk(2)
    assert (degraded > 0).tolist() == [True, True, False, True]
    reached = [True, True, False, True] if coupling == "both" or not detach_key else [False] * 4
    assert (originals > 0).tolist() == reached


def test_the_original_view_gets_gradient_as_key_only_when_asked():
    """With `both`, detaching the key takes away the part of the gradient that came through the positive."""
    gradients = []
    for detach_key in (True, False):
        setting = Setting(coupling="both", detach_key=detach_key)
        setting.loss().backward()
        gradients.append(setting.raw.grad)
    assert (gradients[0] - gradients[1]).abs().max() > 1e-3


@pytest.mark.parametrize("positive_in_denominator", [True, False])
@pytest.mark.parametrize("coupling", ["degraded_to_original", "both"])
def test_no_negatives_at_all(positive_in_denominator, coupling):
    setting = Setting(positive_in_denominator=positive_in_denominator, coupling=coupling)
    loss = setting.loss(candidates=torch.zeros(CLASSES, dtype=torch.bool))
    loss.backward()
    assert loss.detach() == 0 and (setting.raw.grad == 0).all()


def test_identities_of_other_ranks():
    """Column -1: the positive is counted where the identity lives, and no entry here is of the same identity."""
    setting = Setting(contrastive_gate="none")
    unit = normalize(setting.raw)
    column = torch.full((2 * PAIRS,), -1)
    part = contrast(unit, unit, column, torch.arange(PAIRS), setting.queue, setting.centres, None, setting.config)
    assert part.positive.tolist() == [0.0] * PAIRS
    now = setting.queue.refreshed(setting.centres)[setting.queue.alive()]
    expected = (unit[PAIRS:] @ now.T * 8.0).logsumexp(1)
    torch.testing.assert_close(part.negatives, expected)


def test_dead_slots_do_not_compete():
    setting = Setting(contrastive_gate="none")
    before = float(setting.loss().detach())
    with torch.no_grad():
        setting.queue.residual[~setting.queue.alive()] = 3.0
    assert float(setting.loss().detach()) == before


@pytest.mark.parametrize("coupling", ["degraded_to_original", "both"])
def test_no_pair_takes_part(coupling):
    setting = Setting(coupling=coupling)
    unit, none = normalize(setting.raw), torch.zeros(0, dtype=torch.long)
    part = contrast(unit, unit, setting.column, none, setting.queue, setting.centres, None, setting.config)
    loss = part.loss(part.negatives, part.positive)
    loss.backward()
    assert loss.detach() == 0 and (setting.raw.grad == 0).all()
