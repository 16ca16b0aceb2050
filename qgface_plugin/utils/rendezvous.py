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

from torch.distributed import Store, TCPStore

from .errors import ConfigError
from .torch_before_2_8 import PrefixStore

TIMEOUT = timedelta(minutes=30)
POLL = 0.05  # seconds


def attempt_store(environ: Mapping[str, str] = os.environ) -> PrefixStore | None:
    """A store of this attempt alone; None where torchrun does not share its own (then env:// is right)."""
    if environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    store = TCPStore(environ["MASTER_ADDR"], int(environ["MASTER_PORT"]), is_master=False, timeout=TIMEOUT)
    return PrefixStore(agree(store, int(environ["RANK"]), int(environ["WORLD_SIZE"])), store)


def meet(environ: Mapping[str, str] = os.environ) -> PrefixStore:
    """The store of this attempt alone, on every rank that the environment describes.

    Raises:
        ConfigError: naming the variable that is missing or cannot be used.
    """
    rank, ranks = int_from("RANK", environ), int_from("WORLD_SIZE", environ)
    port = int_from("MASTER_PORT", environ)
    if not environ.get("MASTER_ADDR"):
        raise _missing("MASTER_ADDR", environ)
    if not 0 <= rank < ranks:
        raise ConfigError(f"the environment has RANK={rank} and WORLD_SIZE={ranks}: ranks are 0 to WORLD_SIZE - 1")
    try:
        if (store := attempt_store(environ)) is not None:
            return store
        host = environ["MASTER_ADDR"]
        server = TCPStore(
            host, port, ranks, rank == 0, timeout=TIMEOUT, wait_for_workers=False, multi_tenant=True
        )  # the same server serves a process group that others in this process make from the environment
    except RuntimeError as error:  # a DistError; of a port that is taken only since torch 2.6
        where = f"MASTER_ADDR={environ['MASTER_ADDR']}, MASTER_PORT={port}"
        raise ConfigError(f"rank {rank} cannot meet the others at {where}: {str(error).splitlines()[0]}") from error
    return PrefixStore("qgface", server)


def int_from(name: str, environ: Mapping[str, str] = os.environ, default: int | None = None) -> int:
    """A number in the environment of a launcher.

    Raises:
        ConfigError: it is missing, and there is no default; or it is no number.
    """
    text = environ.get(name)
    if not text and default is not None:
        return default
    if not text:
        raise _missing(name, environ)
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"the environment has {name}={text!r}, which is no number") from None


def _missing(name: str, environ: Mapping[str, str]) -> ConfigError:
    return ConfigError(
        f"the environment has WORLD_SIZE={environ.get('WORLD_SIZE')}, but no {name}: start the ranks by torchrun, or "
        "set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT as it does; for a single process unset WORLD_SIZE"
    )


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
