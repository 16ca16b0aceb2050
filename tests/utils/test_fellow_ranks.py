"""Ranks wait for each other without a limit, and hear of the first failure; the processes' own ends are tested where
they train (tests/training/test_rank_failures.py)."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch.distributed import TCPStore

from qgface_plugin.utils import fellow_ranks
from qgface_plugin.utils.errors import ConfigError, DataError, Stopped, TrainingError, is_said
from qgface_plugin.utils.fellow_ranks import Failure, FellowRanks, Watch, words
from qgface_plugin.utils.rendezvous import int_from, meet
from qgface_plugin.utils.torch_before_2_8 import PrefixStore


@pytest.fixture
def two():
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    clients = [TCPStore("127.0.0.1", server.port, is_master=False, wait_for_workers=False) for _ in range(2)]
    yield [FellowRanks(PrefixStore("attempt", client), rank, 2) for rank, client in enumerate(clients)]
    del server


def test_the_early_wait_for_the_late(two):
    with ThreadPoolExecutor() as pool:
        early = pool.submit(two[0].wait)
        time.sleep(0.3)
        assert not early.done()
        two[1].wait()
        early.result(5)
        two[0].wait(for_all=False)  # rank 0 is here: nobody else is needed
        two[1].wait(for_all=False)


def test_who_waits_hears_of_a_failure_and_both_say_it_once(two, capsys):
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(two[0].wait)
        with pytest.raises(DataError, match="^x.rec: no image$") as own, two[1].reasons():
            raise DataError("x.rec: no image")
        with pytest.raises(DataError, match=r"^rank 1 on \S+: x\.rec: no image$") as heard:
            waiting.result(5)
    assert is_said(own.value) and is_said(heard.value)
    assert capsys.readouterr().err.count("x.rec: no image") == 2


def test_a_broken_connection_becomes_the_reason_of_the_other_rank(two):
    with pytest.raises(KeyError), two[1].reasons():
        raise KeyError("weight")
    with pytest.raises(TrainingError, match=r"^rank 1 on \S+: KeyError: 'weight'$") as heard, two[0].reasons():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:537] Read error: Connection closed by peer")
    assert isinstance(heard.value.__cause__, RuntimeError)


def test_ranks_that_ended_without_a_word_are_named(two, monkeypatch):
    monkeypatch.setattr(fellow_ranks, "ANSWER", 0.5)
    with pytest.raises(TrainingError, match=r"rank\(s\) 1 of 2 ended without giving a reason"), two[0].reasons():
        raise RuntimeError("NCCL communicator was aborted")


def test_ranks_that_are_alive_are_not_called_dead(two, monkeypatch):
    monkeypatch.setattr(fellow_ranks, "ANSWER", 1.5)
    watch = Watch(two[1], None)
    try:
        with pytest.raises(TrainingError, match="all of them are alive"), two[0].reasons():
            raise RuntimeError("Timed out waiting 1800000ms for recv operation to complete")
    finally:
        watch.stop()


def test_a_store_that_is_gone_is_said_so():
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    alone = FellowRanks(TCPStore("127.0.0.1", server.port, is_master=False, wait_for_workers=False), 1, 2)
    del server
    with pytest.raises(TrainingError, match="the ranks' store is gone"), alone.reasons():
        alone.wait()


@pytest.mark.parametrize("error", [Stopped("SIGTERM: saved"), SystemExit(0)])
def test_to_leave_is_no_failure(two, error):
    with pytest.raises(type(error)), two[0].reasons():
        raise error
    assert two[1].failure() is None


def test_the_first_failure_stays_and_an_own_error_is_an_own_error(two):
    with pytest.raises(MemoryError), two[1].reasons():
        raise MemoryError
    with pytest.raises(ZeroDivisionError), two[0].reasons():
        1 / 0  # noqa: B018
    first = two[0].failure()
    assert (first.rank, first.message) == (1, "out of memory")


def test_a_rank_parts_when_the_others_have_heard(two, monkeypatch):
    monkeypatch.setattr(fellow_ranks, "ANSWER", 5.0)
    with pytest.raises(DataError), two[0].reasons():
        raise DataError("no data")
    watch = Watch(two[1], None)
    started = time.monotonic()
    two[0].part()
    watch.stop()
    assert time.monotonic() - started < 3


def test_words():
    assert words(OSError(28, "No space left on device", "a/b")) == "a/b: No space left on device"
    assert words(KeyboardInterrupt()) == "interrupted"
    assert Failure.of(DataError("x"), 3).named().startswith("rank 3 on ")


def test_a_rank_ends_with_its_launcher():
    rank = (
        "import os, sys, time\nfrom qgface_plugin.utils.fellow_ranks import Watch\nWatch(None, os.getppid())\n"
        "print('watches', flush=True)\ntime.sleep(60)\n"
    )
    launcher = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {rank!r}])\n"
    with subprocess.Popen([sys.executable, "-c", launcher], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"watches\n"
        process.kill()
        started = time.monotonic()
        said = process.stderr.read()  # to its end: the rank holds it open as long as it lives
    assert time.monotonic() - started < 5 and b"torchrun is gone" in said


GOOD = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    "name, value",
    [("MASTER_ADDR", None), ("MASTER_PORT", None), ("RANK", None), ("MASTER_PORT", "http"), ("RANK", "2")],
)
def test_an_environment_that_does_not_say_where_the_ranks_meet(name, value):
    environ = {key: text for key, text in (GOOD | {name: value}).items() if text is not None}
    with pytest.raises(ConfigError, match=name):
        meet(environ)


def test_a_port_that_is_taken_is_named():
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with pytest.raises(ConfigError, match=f"cannot meet the others at .*MASTER_PORT={server.port}"):
        meet(GOOD | {"RANK": "0", "MASTER_PORT": str(server.port)})
    assert int_from("ABSENT", {}, 1) == 1
