"""The contrastive term on one rank: couplings, masks, where gradients stop."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from qgface_plugin.config.method import QGFaceConfig
from qgface_plugin.loss.contrast import contrast, mean_contrast, queue_logsumexp
from qgface_plugin.loss.feature_queue import FeatureQueue
from qgface_plugin.loss.gates import Taking, pair_gate
from qgface_plugin.loss.partial_softmax import PartialSoftmax

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
        column = self.column if column is None else column
        part = contrast(unit, unit, column, self.pairs(), self.queue, self.centres, candidates, self.config)
        return self.mean(part)

    def pairs(self) -> Taking:
        part = pair_gate(U_PAIRS, self.config)
        return Taking(part, part.nonzero().squeeze(1))

    def mean(self, part: PartialSoftmax) -> Tensor:
        return mean_contrast(part, self.config, self.pairs(), self.queue.living)

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
    every = Taking(torch.ones(PAIRS, dtype=torch.bool), torch.arange(PAIRS))
    part = contrast(unit, unit, column, every, setting.queue, setting.centres, None, setting.config)
    assert part.target.tolist() == [0.0] * PAIRS
    now = setting.queue.refreshed(setting.centres)[setting.queue.alive()]
    expected = (unit[PAIRS:] @ now.T * 8.0).logsumexp(1)
    torch.testing.assert_close(part.lse, expected)


def test_dead_slots_do_not_compete():
    setting = Setting(contrastive_gate="none")
    before = float(setting.loss().detach())
    with torch.no_grad():
        setting.queue.residual[~setting.queue.alive()] = 3.0
    assert float(setting.loss().detach()) == before


@pytest.mark.parametrize("coupling", ["degraded_to_original", "both"])
def test_no_pair_takes_part(coupling):
    setting = Setting(coupling=coupling)
    unit, none = normalize(setting.raw), Taking(torch.zeros(PAIRS, dtype=torch.bool), torch.zeros(0, dtype=torch.long))
    part = contrast(unit, unit, setting.column, none, setting.queue, setting.centres, None, setting.config)
    loss = mean_contrast(part, setting.config, none, setting.queue.living)
    loss.backward()
    assert loss.detach() == 0 and (setting.raw.grad == 0).all()


# --- The denominator in blocks against torch's log-sum-exp of one masked matrix: values, gradients, memory ------------


QUERIES, ENTRIES, WIDTH, IDENTITIES = 5, 13, 4, 3
OPTIONS = [{}, {"same_identity": "zero"}, {"renormalise": False}, {"same_identity": "zero", "renormalise": False}]


def setting(seed: int = 0):
    """Queries, their identities (the last one of another rank), features of which some are longer than 1, labels."""
    torch.manual_seed(seed)
    query = normalize(torch.randn(QUERIES, WIDTH, dtype=torch.float64)).requires_grad_()
    own = torch.tensor([0, 1, 2, 1, -1])
    features = normalize(torch.randn(ENTRIES, WIDTH, dtype=torch.float64)) * (1 + torch.rand(ENTRIES, 1).double())
    return query, own, features, torch.randint(0, IDENTITIES, (ENTRIES,))


def blocks(features, labels, size: int):
    return [(part, own, None) for part, own in zip(features.split(size), labels.split(size), strict=True)]


@pytest.mark.parametrize("size", [1, 4, 13])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("s", [1.0, 64.0])
def test_blocks_add_up(options, size, s):
    query, own, features, labels = setting()
    config = QGFaceConfig(s=s, **options)
    found = queue_logsumexp(query, own, blocks(features, labels, size), config)
    weight = torch.arange(1.0, QUERIES + 1)
    (slope,) = torch.autograd.grad((found * weight).sum(), query)
    cosine = query @ features.T
    if not config.renormalise:
        assert (cosine.abs() > 1).any()
        cosine = cosine.clamp(-1, 1)
    same = own.unsqueeze(1) == labels
    cosine = cosine.masked_fill(same, 0.0 if config.same_identity == "zero" else -math.inf)
    expected = (cosine * s).logsumexp(1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    (wanted,) = torch.autograd.grad((expected * weight).sum(), query)
    torch.testing.assert_close(slope, wanted, rtol=1e-10, atol=1e-12)


def test_gradcheck():
    query, own, features, labels = setting(1)
    config = QGFaceConfig(s=4.0)
    assert gradcheck(lambda q: queue_logsumexp(q, own, blocks(features, labels, 4), config), query)


@pytest.mark.parametrize("given", [[], [0, 0]])
def test_a_query_without_negatives(given):
    """No entry, or none of another identity: minus infinity and no gradient, also where others have negatives."""
    query, own, features, _ = setting()
    labels = torch.tensor(given, dtype=torch.long)
    found = queue_logsumexp(query, own, blocks(features[: len(given)], labels, 1) if given else [], QGFaceConfig())
    assert found[0] == -math.inf and (found[1:].isfinite().all() if given else (found == -math.inf).all())
    (slope,) = torch.autograd.grad(found.nan_to_num(neginf=0.0).sum() + found[0], query)
    assert (slope[0] == 0).all() and bool((slope[1:] != 0).all()) == bool(given)


def test_an_entry_that_is_far_ahead_of_those_before():
    """The maximum moves from block to block by more than float32's exponential can hold."""
    query = torch.tensor([[1.0, 0.0]], requires_grad=True)
    features = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    found = queue_logsumexp(query, torch.tensor([9]), blocks(features, torch.arange(3), 1), QGFaceConfig(s=300.0))
    (slope,) = torch.autograd.grad(found.sum(), query)
    assert found.tolist() == [300.0] and slope.tolist() == [[300.0, 0.0]]


class Largest(TorchDispatchMode):
    """Numbers in the largest tensor that an operation has made."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.numbers = max(
            [self.numbers, *(leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor))]
        )
        return out


def test_nothing_is_as_large_as_queries_times_entries():
    query, own = normalize(torch.randn(50, WIDTH)).requires_grad_(), torch.zeros(50, dtype=torch.long)
    features, labels = normalize(torch.randn(400, WIDTH)), torch.arange(400)
    with Largest() as largest:
        queue_logsumexp(query, own, blocks(features, labels, 20), QGFaceConfig()).sum().backward()
    assert largest.numbers == 50 * 20  # logits of a block
