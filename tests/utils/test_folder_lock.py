"""A folder has one owner, who is named to others; its death frees the folder, whatever children it leaves."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace

import pytest
from paths import ROOT

from qgface_plugin.utils import folder_lock
from qgface_plugin.utils.folder_lock import BusyError, FolderLock, Owner

HOLD = """
import os, sys, time
from qgface_plugin.utils.folder_lock import FolderLock
lock = FolderLock(sys.argv[1]).acquire()
if "fork" in sys.argv and os.fork() == 0:
    os.write(1, f"{os.getpid()}\\n".encode())
    time.sleep(60)
    os._exit(0)
os.write(1, b"holds\\n")
time.sleep(60)
"""


def holder(folder, *more) -> subprocess.Popen:
    """Another process that holds the folder's lock."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLD, str(folder), *more]
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
    process.said = [process.stdout.readline() for _ in range(1 + len(more))]
    return process


def test_the_second_is_refused_by_the_firsts_name(tmp_path):
    process = holder(tmp_path)
    try:
        started = time.monotonic()
        with pytest.raises(BusyError, match=rf"process {process.pid} on \S+ has been at work on it since 20"):
            FolderLock(tmp_path).acquire()
        assert time.monotonic() - started < 10
        with pytest.raises(BusyError, match="another process is at work"):
            (tmp_path / ".lock").write_text("no owner")
            FolderLock(tmp_path, patience=0.0).acquire()
    finally:
        process.kill()
        process.wait()


def test_a_killed_owner_is_followed_although_its_forked_child_lives(tmp_path, caplog):
    process = holder(tmp_path, "fork")
    child = next(int(line) for line in process.said if line.strip().isdigit())
    try:
        process.kill()
        process.wait()
        os.kill(child, 0)
        with caplog.at_level(logging.WARNING), FolderLock(tmp_path):
            assert f"left by process {process.pid}" in caplog.text
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_every_way_out_frees_the_folder_and_leaves_nothing(tmp_path, error):
    with pytest.raises(error), FolderLock(tmp_path / "new" / "run"):
        assert (tmp_path / "new" / "run" / ".lock").exists()
        raise error
    assert list(tmp_path.iterdir()) == []
    with FolderLock(tmp_path / "new" / "run"):
        (tmp_path / "new" / "run" / "model.pt").touch()
    assert [path.name for path in (tmp_path / "new" / "run").iterdir()] == ["model.pt"]


def test_waiting_for_the_owner(tmp_path):
    first = FolderLock(tmp_path).acquire()
    threading.Timer(0.5, first.release).start()
    started = time.monotonic()
    with FolderLock(tmp_path, wait=True):
        assert time.monotonic() - started > 0.3


ELSEWHERE = {"host": "another-machine", "boot": "another-boot"}
CASES = {  # what the file says of its owner, seconds since its sign of life, taken over?
    "another machine, alive": (ELSEWHERE, 10.0, False),
    "another machine, silent": (ELSEWHERE, 600.0, True),
    "a restart of the same torchrun elsewhere": (ELSEWHERE | {"launch": "mine"}, 10.0, True),
    "other runs of a torchrun without a name": (ELSEWHERE | {"launch": "none"}, 10.0, False),
    "before this machine was started again": ({"boot": "another-boot"}, 10.0, True),
    "another container of this machine": ({"host": "another-container"}, 10.0, True),
}


@pytest.mark.parametrize("case", CASES)
def test_what_the_file_says_counts_where_the_kernel_cannot_know(tmp_path, monkeypatch, case):
    says, silence, free = CASES[case]
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none" if "without" in case else "mine")
    path = tmp_path / ".lock"
    path.write_text(json.dumps(asdict(replace(Owner.me(), **{"launch": "", **says}))))
    os.utime(path, (time.time() - silence,) * 2)
    lock = FolderLock(tmp_path, patience=0.0)
    if free:
        with lock:
            assert json.loads(path.read_text())["pid"] == os.getpid()
    else:
        with pytest.raises(BusyError, match="another-machine"):
            lock.acquire()


@pytest.mark.parametrize("alive", [True, False])
def test_a_file_system_without_locks(tmp_path, monkeypatch, alive):
    def unknown(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(folder_lock.fcntl, "flock", unknown)
    me = Owner.me()
    with FolderLock(tmp_path):
        with pytest.raises(BusyError, match=f"process {os.getpid()} on"):
            FolderLock(tmp_path, patience=0.0).acquire()
        said = me if alive else replace(me, started=me.started + 1)  # its process id has been used again
        (tmp_path / ".lock").write_text(json.dumps(asdict(said)))
        if alive:
            with pytest.raises(BusyError):
                FolderLock(tmp_path, patience=0.0).acquire()
        else:
            FolderLock(tmp_path, patience=0.0).acquire().release()
