"""The denominator in blocks against torch's log-sum-exp of one masked matrix: values, gradients, memory."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from qgface_plugin.config.method import QGFaceConfig
from qgface_plugin.queue_softmax import queue_logsumexp

QUERIES, ENTRIES, DIM, CLASSES = 5, 13, 4, 3
OPTIONS = [{}, {"same_identity": "zero"}, {"renormalise": False}, {"same_identity": "zero", "renormalise": False}]


def setting(seed: int = 0):
    """Queries, their identities (the last one of another rank), features of which some are longer than 1, labels."""
    torch.manual_seed(seed)
    query = normalize(torch.randn(QUERIES, DIM, dtype=torch.float64)).requires_grad_()
    own = torch.tensor([0, 1, 2, 1, -1])
    features = normalize(torch.randn(ENTRIES, DIM, dtype=torch.float64)) * (1 + torch.rand(ENTRIES, 1).double())
    return query, own, features, torch.randint(0, CLASSES, (ENTRIES,))


def blocks(features, labels, size: int):
    return list(zip(features.split(size), labels.split(size), strict=True))


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
    query, own = normalize(torch.randn(50, DIM)).requires_grad_(), torch.zeros(50, dtype=torch.long)
    features, labels = normalize(torch.randn(400, DIM)), torch.arange(400)
    with Largest() as largest:
        queue_logsumexp(query, own, blocks(features, labels, 20), QGFaceConfig()).sum().backward()
    assert largest.numbers == 50 * 20  # logits of a block
