"""The package's log handlers come and go with the block."""

from __future__ import annotations

import logging
import re

from qgface_plugin.hosts.logs import logging_to


def test_lines_in_the_file_and_on_the_console(tmp_path, capsys):
    package, deep = logging.getLogger("qgface_plugin"), logging.getLogger("qgface_plugin.data.records")
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
