"""Stores that are cloned: the same keys by another connection. `reduce_scatter` is tested among real ranks in
test_distributed.py."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from torch.distributed import TCPStore

from qgface_plugin.utils.torch_before_2_8 import PrefixStore


@pytest.fixture
def nested():
    """A store under two prefixes."""
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=20))
    yield PrefixStore("inner", PrefixStore("outer", server))
    del server


def test_a_clone_has_the_same_keys_and_does_not_wait_for_the_other(nested):
    other = nested.clone()
    assert isinstance(other, PrefixStore)  # which can be cloned again
    nested.set("here", "1")
    assert other.get("here") == b"1" and not other.check(["there"])
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(nested.get, "there")  # holds its connection
        other.set("there", "2")
        assert waiting.result(10) == b"2"
