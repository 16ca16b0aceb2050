"""The error file: what torchrun's own reader makes of it."""

from __future__ import annotations

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from qgface_plugin.utils.command_line import guarded
from qgface_plugin.utils.error_file import VARIABLE, note_reason
from qgface_plugin.utils.errors import ConfigError


def test_torchruns_report_says_the_reason(tmp_path, monkeypatch, capsys):
    file = tmp_path / "attempt_0" / "1" / "error.json"
    monkeypatch.setenv(VARIABLE, str(file))

    def refuse() -> int:
        raise ConfigError("config.output is José: $ cannot be written")

    assert guarded("train_v2.py", refuse) == 2
    failure = ProcessFailure(local_rank=1, pid=7, exitcode=2, error_file=str(file))
    report = str(ChildFailedError("train_v2.py", {1: failure}))
    assert "traceback : config.output is José: $ cannot be written" in report
    assert "To enable traceback" not in report and "cannot be written" in capsys.readouterr().err


def test_a_name_that_is_no_utf_8_can_be_printed(tmp_path):
    file = tmp_path / "error.json"
    note_reason("Jos\udce9.jpg: gone", {VARIABLE: str(file)})
    failure = ProcessFailure(local_rank=0, pid=7, exitcode=2, error_file=str(file))
    assert rb"Jos\udce9.jpg: gone" in str(ChildFailedError("x", {0: failure})).encode()


def test_the_first_reason_stays(tmp_path):
    environ = {VARIABLE: str(tmp_path / "error.json")}
    note_reason("rank 1 on a: out of memory", environ)
    before = (tmp_path / "error.json").read_bytes()
    note_reason("Connection closed by peer", environ)
    assert (tmp_path / "error.json").read_bytes() == before


@pytest.mark.parametrize("environ", [{}, {VARIABLE: ""}, {VARIABLE: "/proc/no/such/error.json"}])
def test_without_torchrun_or_a_place_nothing_happens(environ):
    note_reason("a reason", environ)
