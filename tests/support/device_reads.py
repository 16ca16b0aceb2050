"""Reads of the device, counted: what a step does that needs a number or a size from there."""

from __future__ import annotations

import torch
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
