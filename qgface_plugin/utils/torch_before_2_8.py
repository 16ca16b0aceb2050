"""Two things of torch.distributed that torch before 2.8 lacks: gloo's reduce-scatter, and a store's second connection.

Remove this file once torch >= 2.8 is required: both are then those of `torch.distributed`.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed
from torch.distributed import Store, TCPStore

GLOO_SCATTERS = torch.__version__ >= "2.8"


def reduce_scatter(own: Tensor, by_rank: Tensor) -> None:
    """Sum over the ranks, of which each keeps its own part.

    Where gloo cannot, an all-reduce does it: as many times the bytes as there are ranks, on CPUs only.

    Args:
        own: (...) takes this rank's part.
        by_rank: (ranks, ...) contiguous, what this rank adds to each rank's part; overwritten where gloo cannot.
    """
    if GLOO_SCATTERS or by_rank.is_cuda and distributed.get_backend() != "gloo":
        distributed.reduce_scatter(own, list(by_rank.unbind(0)))
    else:
        distributed.all_reduce(by_rank)
        own.copy_(by_rank[distributed.get_rank()])


class PrefixStore(distributed.PrefixStore):
    """`torch.distributed.PrefixStore` that can be cloned before torch 2.8, too.

    Args:
        prefix: of every key.
        store: a TCPStore, or a PrefixStore of this class over one.
    """

    def __init__(self, prefix: str, store: Store) -> None:
        super().__init__(prefix, store)
        self._parts = prefix, store

    def clone(self) -> PrefixStore:
        """The same keys by a connection of its own, so that two threads do not wait for each other."""
        prefix, store = self._parts
        if isinstance(store, PrefixStore):
            return PrefixStore(prefix, store.clone())
        assert isinstance(store, TCPStore)
        timeout = store.timeout  # type: ignore[attr-defined] # not in its stub
        return PrefixStore(prefix, TCPStore(store.host, store.port, timeout=timeout, wait_for_workers=False))
