"""Writing that leaves the old file or the new one: failures, kills, full disks, writers at once."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from multiprocessing.process import BaseProcess as Process
from pathlib import Path

import pytest

from qgface_plugin.utils import files
from qgface_plugin.utils.files import atomic_path, atomic_write, leftovers, write_bytes, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def forked(work: Callable[[], object]) -> Process:
    """A process at `work`, which ends with status 0, or 1 and a traceback on stderr."""
    process = get_context("fork").Process(target=work)
    process.start()
    return process


def test_the_file_has_its_name_only_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "deep" / "a.txt"
    with atomic_write(path, "w") as file:
        file.write("ä\n")
        (temporary,) = path.parent.iterdir()
        assert f".{os.getpid()}." in temporary.name and not path.exists()
    assert path.read_bytes() == "ä\n".encode() and names(path.parent) == ["a.txt"]


def test_bytes_text_and_json(tmp_path):
    write_bytes(tmp_path / "b", b"\0\r\n")
    write_text(tmp_path / "t", "é\r\n")
    write_json(str(tmp_path / "j"), {"a": [1, None]})
    assert (tmp_path / "b").read_bytes() == b"\0\r\n" and (tmp_path / "t").read_bytes() == "é\r\n".encode()
    assert json.loads((tmp_path / "j").read_text()) == {"a": [1, None]}


def test_names_that_are_no_utf8(tmp_path):
    name = os.fsdecode(b"Jos\xe9")
    write_text(tmp_path / "for people", name)
    write_text(tmp_path / "list", name, errors="surrogateescape")
    write_json(tmp_path / "json", {name: name})
    with atomic_write(tmp_path / "stream", "w") as file:
        file.write(name)
    for people in ("for people", "stream"):
        assert (tmp_path / people).read_text() == "Jos\\udce9"
    assert (tmp_path / "list").read_bytes() == b"Jos\xe9"
    assert json.loads((tmp_path / "json").read_text(encoding="ascii")) == {name: name}


def test_names_as_long_as_they_can_be(tmp_path):
    for name in ("a" * 251 + ".txt", "\u00e4" * 125 + ".txt", os.fsdecode(b"\xe9" * 255)):
        write_bytes(tmp_path / name, b"whole")
        assert (tmp_path / name).read_bytes() == b"whole"
    assert len(names(tmp_path)) == 3


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    write_bytes(tmp_path / "a", b"old")
    with pytest.raises(error), atomic_write(tmp_path / "a") as file:
        file.write(b"half")
        raise error
    with pytest.raises(error), atomic_path(tmp_path / "a") as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert (tmp_path / "a").read_bytes() == b"old" and names(tmp_path) == ["a"]


def test_a_failed_rename_leaves_the_old_file(tmp_path, monkeypatch):
    write_bytes(tmp_path / "a", b"old")
    monkeypatch.setattr(os, "replace", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old" and names(tmp_path) == ["a"]


@pytest.mark.parametrize("where", ["while writing", "before the rename"])
def test_a_kill_leaves_the_old_file_and_what_can_be_told(tmp_path, where):
    path = tmp_path / "a.pt"
    path.write_bytes(b"old")

    def work():
        files.os.replace = lambda *_: os._exit(9)
        with atomic_write(path) as file:
            file.write(b"new")
            file.flush()
            if where == "while writing":
                os._exit(9)

    process = forked(work)
    process.join(60)
    assert process.exitcode == 9 and path.read_bytes() == b"old"
    ((left, meant),) = leftovers(tmp_path)
    assert meant == "a.pt" and left.read_bytes() == b"new" and f".{process.pid}." in left.name
    write_bytes(path, b"newer")  # what the kill left is in nobody's way
    assert path.read_bytes() == b"newer"


def test_files_of_others_are_no_leftovers(tmp_path):
    for name in ("a.part", "a.pt.part", "a.12.part", "notes.12.txt", "a.12.deadbeef.part2"):
        (tmp_path / name).touch()
    assert list(leftovers(tmp_path)) == []


def test_a_full_disk(tmp_path, capfd):
    resource = pytest.importorskip("resource")
    (tmp_path / "a").write_bytes(b"old")

    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # of what it says on standard error, too
        write_bytes(tmp_path / "a", b"x" * 200_000)

    process = forked(work)
    process.join(60)
    assert process.exitcode == 1 and "File too large" in capfd.readouterr().err
    assert (tmp_path / "a").read_bytes() == b"old" and names(tmp_path) == ["a"]


def test_an_error_names_the_file_and_not_its_temporary(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(OSError) as caught:
        write_bytes(tmp_path / "a" / "b", b"")  # `a` is no folder
    assert caught.value.filename in (str(tmp_path / "a"), str(tmp_path / "a" / "b"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_bytes(tmp_path / "folder", b"")
    assert caught.value.filename == str(tmp_path / "folder") and names(tmp_path) == ["a", "folder"]


def test_a_folder_that_cannot_be_written(tmp_path):
    folder = tmp_path / "read-only"
    folder.mkdir()
    (folder / "a").write_bytes(b"old")
    folder.chmod(0o555)
    try:
        if os.access(folder, os.W_OK):
            pytest.skip("this user may write everywhere")
        with pytest.raises(PermissionError) as caught:
            write_bytes(folder / "a", b"new")
    finally:
        folder.chmod(0o755)
    assert caught.value.filename == str(folder / "a")
    assert (folder / "a").read_bytes() == b"old" and names(folder) == ["a"]


def test_a_refused_name_is_said_of_the_file(tmp_path, monkeypatch):
    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(files, "open", refuse, raising=False)
    with pytest.raises(PermissionError) as caught:
        write_bytes(tmp_path / "a", b"new")
    assert caught.value.filename == str(tmp_path / "a")


def test_two_processes_at_once(tmp_path):
    path = tmp_path / "a"

    def work(letter):
        for _ in range(500):
            write_bytes(path, letter * 50_000)

    running = [forked(partial(work, letter)) for letter in (b"x", b"y")]
    seen = set()
    while any(process.is_alive() for process in running):
        if path.exists():
            content = path.read_bytes()
            assert len(content) == 50_000 and len(set(content)) == 1
            seen |= set(content)
    assert [process.exitcode for process in running] == [0, 0]
    assert seen and seen <= set(b"xy") and names(tmp_path) == ["a"]


def test_two_writers_in_one_process(tmp_path):
    with atomic_write(tmp_path / "a") as first, atomic_write(tmp_path / "a") as second:
        first.write(b"first")
        second.write(b"second")
    assert (tmp_path / "a").read_bytes() == b"first" and names(tmp_path) == ["a"]


def test_the_mode_of_a_replaced_file_is_kept_and_a_new_file_has_the_users(tmp_path):
    for mode in (0o640, 0o444, 0o755):
        (tmp_path / "a").unlink(missing_ok=True)
        (tmp_path / "a").touch()
        (tmp_path / "a").chmod(mode)
        write_bytes(tmp_path / "a", b"new")
        assert (tmp_path / "a").stat().st_mode & 0o777 == mode
    (tmp_path / "plain").touch()
    write_bytes(tmp_path / "b", b"new")
    assert (tmp_path / "b").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_file_that_nobody_may_read_is_replaced_by_one_that_its_owner_may(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "a").chmod(0)
    with atomic_write(tmp_path / "a", durable=True) as file:
        file.write(b"new")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o400 and (tmp_path / "a").read_bytes() == b"new"


def test_a_link_is_replaced_and_what_it_names_stays(tmp_path):
    (tmp_path / "shared").write_bytes(b"shared")
    (tmp_path / "a").symlink_to("shared")
    write_bytes(tmp_path / "a", b"mine")
    assert not (tmp_path / "a").is_symlink() and (tmp_path / "shared").read_bytes() == b"shared"


def test_a_durable_file_is_synced_before_its_name_and_its_name_after(tmp_path, monkeypatch):
    done, sync, replace = [], os.fsync, os.replace

    def note_sync(descriptor):
        done.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    def note_replace(old, new):
        done.append("replace")
        replace(old, new)

    if not Path("/proc/self/fd").exists():
        pytest.skip("no /proc")
    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    with atomic_write(tmp_path / "a", durable=True) as file:
        file.write(b"x")
    assert len(done) == 3 and Path(done[0]).name.startswith("a.") and done[1:] == ["replace", str(tmp_path)]
    done.clear()
    write_bytes(tmp_path / "a", b"y")
    assert done == ["replace"]


def test_digest_of_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert files.file_digest(tmp_path / "a").startswith("ba7816bf8f01cfea")
