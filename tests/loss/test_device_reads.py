"""How often a step of the loss waits for the device: what it does that needs a number or a size from there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from criteria import batch, criterion
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS = ("aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten.equal", "aten._unique")


class Reads(TorchDispatchMode):
    """Counts operations whose result, or its size, the host has to know; selection by a mask is one of them."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = [leaf for leaf in tree_leaves(args[1:]) if isinstance(leaf, torch.Tensor)]
        by_mask = str(func).startswith("aten.index") and any(leaf.dtype == torch.bool for leaf in given)
        self.count += by_mask or str(func).startswith(READS)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, 4),  # is the batch sound; both gates; what is enqueued; what is alive
        ({"queue": "none"}, 2),
        ({"sample_rate": 0.5}, 5),  # the sampled classes
    ],
)
def test_how_often_a_step_waits(options, expected, monkeypatch):
    out, (features, labels) = criterion(**options), batch(np.random.default_rng(0))
    out(features, labels)
    features.requires_grad_()
    lists, tolist = [], torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: lists.append(self) or tolist(self))
    with Reads() as seen:
        out(features, labels).backward()
    assert seen.count + len(lists) == expected
