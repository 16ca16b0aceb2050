"""What the tools share: exit status by the kind of error, tables."""

from __future__ import annotations

import argparse
import errno
import os
import subprocess
import sys

import pytest

from qgface_plugin.utils.command_line import add_on_corrupt, guarded, print_table
from qgface_plugin.utils.errors import CheckpointError, ConfigError, DataError


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ConfigError("size is 0"), 2, "tool.py: size is 0\n"),
        (DataError("a.rec: cut short"), 2, "tool.py: a.rec: cut short\n"),
        (CheckpointError("model.pt"), 2, "tool.py: model.pt\n"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/x/y"),
            1,
            "tool.py: /x/y: Permission denied; name a place that can be written and has room\n",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            1,
            "tool.py: No space left on device; name a place that can be written and has room\n",
        ),
        (KeyboardInterrupt(), 130, "tool.py: interrupted\n"),
    ],
)
def test_status_and_message(
    error: BaseException, status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> int:
        raise error

    assert guarded("tool.py", run) == status
    assert capsys.readouterr().err == message
    assert guarded("tool.py", lambda: 0) == 0


def test_what_is_no_users_error_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        guarded("tool.py", lambda: 1 // 0)


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_table({"a": 1, "long name": "x"})
    assert capsys.readouterr().out == "a          1\nlong name  x\n"


@pytest.mark.parametrize(
    ("flags", "value", "notice"),
    [
        ([], "error", ""),
        (["--on-corrupt", "skip"], "skip", ""),
        (["--on-bad", "skip"], "skip", "tool.py: --on-bad is called --on-corrupt skip now\n"),
        (["--on-bad", "error"], "error", "tool.py: --on-bad is called --on-corrupt error now\n"),
        (["--skip-bad"], "skip", "tool.py: --skip-bad is called --on-corrupt skip now\n"),
    ],
)
def test_on_corrupt(flags: list[str], value: str, notice: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser(prog="tool.py")
    add_on_corrupt(parser)
    assert parser.parse_args(flags).on_corrupt == value
    assert capsys.readouterr().err == notice


def test_on_corrupt_alone_is_in_the_help() -> None:
    parser = argparse.ArgumentParser()
    add_on_corrupt(parser)
    shown = parser.format_help()
    assert "--on-corrupt {error,skip}" in shown and "bad" not in shown


def test_names_that_are_no_utf8_are_printed() -> None:
    code = (
        "import os; from qgface_plugin.utils.command_line import guarded;"
        "guarded('tool.py', lambda: print(os.fsdecode(b'Jos\\xe9')) or 0)"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, text=True)
    assert (done.stdout, done.stderr) == ("Jos\\udce9\n", "")
