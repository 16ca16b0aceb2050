"""Rendezvous of the ranks of one attempt, where torchrun's store outlives the attempts.

torchrun (PyTorch 2.4 and later) keeps one store over all restarts, and a rank that starts again may read there the
address of a process that is dead. TORCHELASTIC_RESTART_COUNT is no help: each machine's agent counts on its own. So
rank 0 makes a name for the attempt up, and every rank takes part under a name of its own that no one had before.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Mapping
from datetime import timedelta

from torch.distributed import PrefixStore, Store, TCPStore

TIMEOUT = timedelta(minutes=30)
POLL = 0.05  # seconds


def attempt_store(environ: Mapping[str, str] = os.environ) -> Store | None:
    """A store of this attempt alone; None where torchrun does not share its own (then env:// is right)."""
    if environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    store = TCPStore(environ["MASTER_ADDR"], int(environ["MASTER_PORT"]), is_master=False, timeout=TIMEOUT)
    return PrefixStore(agree(store, int(environ["RANK"]), int(environ["WORLD_SIZE"])), store)


def agree(store: Store, rank: int, ranks: int, timeout: timedelta = TIMEOUT) -> str:
    """The name of this attempt, the same on all ranks and on no earlier attempt.

    Rank 0 offers a name; a rank accepts an offer under a fresh name of its own; rank 0 lists those it has met. Who does
    not find itself on the list has read an earlier attempt's offer and looks again.

    Raises:
        TimeoutError: Not all ranks have come in time.
    """
    own, until = uuid.uuid4().hex, time.monotonic() + timeout.total_seconds()
    if rank == 0:
        store.set("qgface/offer", own)
        met = [own]
        for other in range(1, ranks):
            store.wait([f"qgface/{own}/{other}"], timeout)
            met.append(store.get(f"qgface/{own}/{other}").decode())
        store.set(f"qgface/{own}/met", json.dumps(met))
        return own
    while time.monotonic() < until:
        if store.check(["qgface/offer"]):
            offer = store.get("qgface/offer").decode()
            store.set(f"qgface/{offer}/{rank}", own)
            if store.check([f"qgface/{offer}/met"]) and own in json.loads(store.get(f"qgface/{offer}/met")):
                return offer
        time.sleep(POLL)
    raise TimeoutError(f"rank {rank} has waited {timeout} for the other ranks to start")
