"""Ranks that start again meet the ranks of their own attempt, whatever an earlier one has left in the store."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from torch.distributed import HashStore

from qgface_plugin.utils.rendezvous import agree, attempt_store


def attempt(store: HashStore, order: list[int], delay: float = 0.0) -> list[str]:
    """The names that the ranks agree on, started in this order."""
    found: dict[int, str] = {}

    def start(rank: int) -> None:
        found[rank] = agree(store, rank, len(order), timedelta(seconds=20))

    threads = [threading.Thread(target=start, args=(rank,)) for rank in order]
    for thread in threads:
        thread.start()
        thread.join(delay)
    for thread in threads:
        thread.join()
    return [found[rank] for rank in sorted(found)]


def test_attempts_do_not_mix():
    store, names = HashStore(), []
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]):  # late ones find an old offer first
        found = attempt(store, order, delay=0.2)
        assert len(found) == 3 and len(set(found)) == 1
        names.append(found[0])
    assert len(set(names)) == 4


def test_an_attempt_that_ended_before_all_had_met_is_left_behind():
    store = HashStore()
    store.set("qgface/offer", "dead")
    store.set("qgface/dead/1", "a process that was killed")
    assert len(set(attempt(store, [1, 0], delay=0.2))) == 1
    assert store.get("qgface/offer").decode() != "dead"


def test_waiting_ends():
    with pytest.raises(TimeoutError, match="rank 1 has waited 0:00:00.200000"):
        agree(HashStore(), 1, 2, timedelta(seconds=0.2))


def test_without_a_shared_store_there_is_nothing_to_agree_on():
    assert attempt_store({}) is None and attempt_store({"TORCHELASTIC_USE_AGENT_STORE": "False"}) is None
