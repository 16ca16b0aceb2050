"""Lines from before the host's logging: on the console at once, once; in the host's file afterwards."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys

import pytest

from qgface_plugin.utils.logs import early_log, logging_to

LOGGER = logging.getLogger("qgface_plugin.somewhere")


@pytest.fixture
def host_file(tmp_path):
    """Adds the host's handler to the root logger when called; gives the file."""
    root, level = logging.getLogger(), logging.getLogger().level
    handlers = []

    def init_logging():
        handlers.append(logging.FileHandler(tmp_path / "training.log"))
        root.addHandler(handlers[0])
        root.setLevel(logging.INFO)
        return tmp_path / "training.log"

    yield init_logging
    root.setLevel(level)
    for handler in handlers:
        root.removeHandler(handler)
        handler.close()


def test_lines_are_printed_at_once_and_reach_the_file(capsys, host_file):
    with early_log() as log:
        LOGGER.info("before")
        assert "-before\n" in capsys.readouterr().out
        file = host_file()
        log.hand_over()
        LOGGER.info("after")
        assert file.read_text().splitlines() == ["before", "after"]
        assert capsys.readouterr().out == ""


def test_the_logger_is_as_before_afterwards(capsys):
    package = logging.getLogger("qgface_plugin")
    before = package.level, list(package.handlers)
    with early_log():
        pass
    assert (package.level, list(package.handlers)) == before
    LOGGER.info("unheard")
    assert capsys.readouterr().out == ""


def test_other_ranks_are_silent(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with early_log():
        LOGGER.info("unheard")
    assert capsys.readouterr().out == ""


# --- The package's log handlers come and go with the block ------------------------------------------------------------


def test_lines_in_the_file_and_on_the_console(tmp_path, capsys):
    package, deep = logging.getLogger("qgface_plugin"), logging.getLogger("qgface_plugin.data.sources.records")
    before = (package.level, list(package.handlers))
    with logging_to(tmp_path / "training.log"):
        deep.info("seen")
        deep.debug("too small")
        logging.getLogger("another").warning("not ours")
    deep.warning("after the end")
    pattern = r"Training: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}-seen\n"
    assert re.fullmatch(pattern, (tmp_path / "training.log").read_text())
    assert re.fullmatch(pattern, capsys.readouterr().out)
    assert (package.level, package.handlers) == before


def test_the_file_is_appended_to_and_handlers_go_after_an_error(tmp_path):
    package = logging.getLogger("qgface_plugin")
    before = (package.level, list(package.handlers))
    for word in ("first", "second"):
        try:
            with logging_to(tmp_path / "training.log"):
                package.info(word)
                raise KeyError
        except KeyError:
            pass
    assert re.findall("first|second", (tmp_path / "training.log").read_text()) == ["first", "second"]
    assert (package.level, package.handlers) == before


def test_names_that_are_no_utf8(tmp_path, capsys, host_file):
    name = os.fsdecode(b"Jos\xe9")
    with early_log() as log:
        LOGGER.info("%s before", name)
        file = host_file()
        log.hand_over()
        LOGGER.info("%s after", name)
    assert file.read_text().splitlines() == ["Jos\\udce9 before", "Jos\\udce9 after"]
    with logging_to(tmp_path / "own.log"):
        LOGGER.info("%s", name)
    assert (tmp_path / "own.log").read_text().endswith("-Jos\\udce9\n")
    said = capsys.readouterr()
    assert said.out.count("Jos\\udce9") == 2 and said.err == ""


def test_a_line_in_a_file_is_there_before_what_follows_on_standard_error(tmp_path):
    code = (
        "import logging, pathlib, sys\nfrom qgface_plugin.utils.logs import logging_to\n"
        f"with logging_to(pathlib.Path({str(tmp_path / 'training.log')!r})):\n"
        "    logging.getLogger('qgface_plugin.x').info('first')\n    print('second', file=sys.stderr)\n"
    )
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with open(tmp_path / "both.txt", "wb") as both:
        subprocess.run([sys.executable, "-c", code], stdout=both, stderr=both, env=environ, check=True)
    lines = (tmp_path / "both.txt").read_text().splitlines()
    assert len(lines) == 2 and lines[0].endswith("first") and lines[1] == "second"
