"""The marked line: where it goes, that it leaves byte for byte, and which files are refused."""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
from pathlib import Path

import pytest
from compat_tools import TRAINER, write_checkout
from paths import ROOT, TESTS

from qgface_plugin.arcface_torch.attach import LINE, attach, detach, is_attached
from qgface_plugin.arcface_torch.checkout import checkout_of, trainer_of
from qgface_plugin.utils.errors import ConfigError

MARKED = LINE.decode()
FORMER_LINE = b"import qgface_plugin.hosts.autoload  # added by qgface_plugin attach"
MINI_HOST = TESTS / "mini_host"

SOURCES = {
    "plain": (TRAINER, 1),
    "comment first": ("#!/usr/bin/env python\n# a licence\n\n" + TRAINER, 4),
    "docstring": ('"""Train.\n\nLong.\n"""\n\n' + TRAINER, 6),
    "docstring of one line": ('"""Train."""\n' + TRAINER, 2),
    "future": ("from __future__ import division\nfrom __future__ import annotations\n" + TRAINER, 3),
    "docstring and future": (
        '"""Train."""\nfrom __future__ import (\n    division,\n    annotations,\n)\n# next\n' + TRAINER,
        7,
    ),
    "crlf": (('"""Train."""\n' + TRAINER).replace("\n", "\r\n"), 2),
    "old mac": (TRAINER.replace("\n", "\r"), 1),
    "no newline at the end": (TRAINER.rstrip("\n"), 1),
    "mixed endings": ("import os\r\nimport sys\n" + TRAINER, 1),
    "decorated": ("@staticmethod\ndef f():\n    '''\n    '''\n\n" + TRAINER, 1),
    "byte order mark": ("\ufeff# -*- coding: utf-8 -*-\n" + TRAINER + "name = 'é'\n", 2),
    "byte order mark alone": ("\ufeff" + TRAINER, 1),
    "multi-line string with lines of any kind": ("text = '''a\x0cb\x1cc\u2028d'''\n" + TRAINER, 1),
    "semicolons after": ("import os; import sys\n" + TRAINER, 1),
}


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def write(folder: Path, source: str, encoding: str = "utf-8") -> Path:
    file = folder / "train_v2.py"
    file.write_bytes(source.encode(encoding))
    return file


@pytest.mark.parametrize("case", SOURCES)
def test_round_trip_is_byte_for_byte(tmp_path: Path, case: str) -> None:
    source, number = SOURCES[case]
    file = write(tmp_path, source)
    before = digest(file)
    assert attach(tmp_path) == f"attached: {file} line {number}"
    attached = file.read_bytes()
    assert attached.count(LINE) == 1 and is_attached(file)
    # The plugin is loaded before anything but a docstring and `from __future__`, and the file is still Python.
    body = ast.parse(attached).body
    first = next(
        node for node in body if not isinstance(node, ast.Expr) and getattr(node, "module", "") != "__future__"
    )
    assert ast.unparse(first) == "import qgface_plugin.arcface_torch.autoload" and first.lineno == number
    assert attach(tmp_path) == f"already attached: {file}" and file.read_bytes() == attached
    assert detach(tmp_path) == f"detached: {file}" and digest(file) == before
    assert detach(tmp_path) == f"not attached: {file}" and digest(file) == before
    assert [path.name for path in tmp_path.iterdir()] == ["train_v2.py"]


def test_line_ending_is_the_files(tmp_path: Path) -> None:
    file = write(tmp_path, TRAINER.replace("\n", "\r\n"))
    attach(tmp_path)
    assert file.read_bytes().splitlines(keepends=True)[0] == LINE + b"\r\n"
    assert file.read_bytes().count(b"\n") == file.read_bytes().count(b"\r\n")


def test_other_encodings_are_kept(tmp_path: Path) -> None:
    file = write(tmp_path, "# -*- coding: latin-1 -*-\nname = 'Jos\xe9'\n" + TRAINER, "latin-1")
    before = file.read_bytes()
    attach(tmp_path)
    assert b"Jos\xe9" in file.read_bytes()
    assert file.read_bytes().splitlines()[1] == LINE  # the coding stays in the first two lines
    detach(tmp_path)
    assert file.read_bytes() == before


def test_work_between_attach_and_detach_is_kept(tmp_path: Path) -> None:
    file = write(tmp_path, TRAINER)
    attach(tmp_path)
    file.write_text(file.read_text() + "print('mine')\n")
    detach(tmp_path)
    assert file.read_text() == TRAINER + "print('mine')\n"


def test_mode_is_kept_and_links_stay_links(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    file = write(real, TRAINER)
    file.chmod(0o750)
    (tmp_path / "linked").mkdir()
    link = tmp_path / "linked" / "train_v2.py"
    link.symlink_to(file)
    for change, attached in ((attach, True), (detach, False)):
        change(tmp_path / "linked")
        assert link.is_symlink() and is_attached(file) is attached
        assert file.stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("case", SOURCES)
def test_the_line_of_version_0_1_is_known(tmp_path: Path, case: str) -> None:
    source, number = SOURCES[case]
    file = write(tmp_path, source)
    before = digest(file)
    attach(tmp_path)
    new = file.read_bytes()
    file.write_bytes(new.replace(LINE, FORMER_LINE))
    assert is_attached(file) and file.read_bytes() != new
    assert attach(tmp_path) == f"attached: {file} line {number}, in the place of an earlier version's"
    assert file.read_bytes() == new and attach(tmp_path) == f"already attached: {file}"
    file.write_bytes(new.replace(LINE, FORMER_LINE))
    assert detach(tmp_path) == f"detached: {file}" and digest(file) == before


def test_both_lines_leave_together(tmp_path: Path) -> None:
    file = write(tmp_path, FORMER_LINE.decode() + "\n" + MARKED + "\n" + TRAINER)
    assert is_attached(file) and detach(tmp_path) == f"detached: {file}"
    assert file.read_text() == TRAINER


@pytest.mark.parametrize("module", ["arcface_torch", "hosts"])
def test_a_line_written_by_hand_is_respected(tmp_path: Path, module: str) -> None:
    source = f"import os\nimport qgface_plugin.{module}.autoload\n" + TRAINER
    file = write(tmp_path, source)
    assert attach(tmp_path) == f"already attached by hand: {file} line 2 imports the plugin"
    assert is_attached(file)
    assert detach(tmp_path).startswith(f"not attached: {file}; its line 2 imports the plugin, but was not written by")
    assert file.read_text() == source


def test_a_changed_mark_is_not_ours(tmp_path: Path) -> None:
    file = write(tmp_path, MARKED + " (mine)\n" + TRAINER)
    before = file.read_bytes()
    assert "not written by attach" in detach(tmp_path) and file.read_bytes() == before


def test_the_mark_within_a_line_is_not_the_line(tmp_path: Path) -> None:
    source = TRAINER + f"text = '{MARKED}'\n"
    file = write(tmp_path, source)
    assert detach(tmp_path) == f"not attached: {file}"
    attach(tmp_path)
    detach(tmp_path)
    assert file.read_text() == source


@pytest.mark.parametrize("change", [attach, detach])
def test_unknown_places_are_refused(tmp_path: Path, change) -> None:
    with pytest.raises(ConfigError, match="nowhere: no such folder; name the folder recognition/arcface_torch"):
        change(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="no train_v2.py in it; name the folder recognition/arcface_torch"):
        change(tmp_path)
    for source, message in (
        ("print(1)\n", "not arcface_torch's train_v2.py: it does not import PartialFC_V2 and get_dataloader"),
        ("from dataset import get_dataloader\n", "does not import PartialFC_V2$"),
        ("def broken(:\n", "train_v2.py: not valid Python"),
        ("x = 1\0\n", "train_v2.py: not valid Python"),
    ):
        file = write(tmp_path, source)
        with pytest.raises(ConfigError, match=message):
            change(tmp_path)
        assert file.read_text() == source


def test_the_projects_own_trainer_is_refused() -> None:
    with pytest.raises(ConfigError, match="not arcface_torch's train_v2.py"):
        attach(ROOT)


def test_two_statements_on_a_line_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path, '"""Train."""; import os\n' + TRAINER)
    before = file.read_bytes()
    with pytest.raises(ConfigError, match="line 1 holds two statements"):
        attach(tmp_path)
    assert file.read_bytes() == before


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, TRAINER)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        attach(tmp_path)
    assert file.read_text() == TRAINER and [path.name for path in tmp_path.iterdir()] == ["train_v2.py"]


def test_the_miniature_host(tmp_path: Path) -> None:
    folder = tmp_path / "host"
    shutil.copytree(MINI_HOST, folder)
    before = digest(folder / "train_v2.py")
    attach(folder)
    assert digest(folder / "train_v2.py") != before
    detach(folder)
    assert digest(folder / "train_v2.py") == before


@pytest.mark.arcface_torch
def test_a_real_checkout(tmp_path: Path) -> None:
    if not os.environ.get("ARCFACE_TORCH"):
        pytest.skip("ARCFACE_TORCH names no checkout")
    shutil.copy(Path(os.environ["ARCFACE_TORCH"]) / "train_v2.py", tmp_path)
    before = digest(tmp_path / "train_v2.py")
    assert attach(tmp_path).endswith("line 1")
    detach(tmp_path)
    assert digest(tmp_path / "train_v2.py") == before


def test_a_script_belongs_to_the_checkout_above_it(tmp_path: Path) -> None:
    checkout = write_checkout(tmp_path / "af", {"scripts/shuffle_rec": ""})
    assert checkout_of(checkout / "scripts" / "shuffle_rec.py") == checkout
    assert checkout_of(checkout / "train_v2.py") == checkout == trainer_of(checkout).parent
    (tmp_path / "alone.py").write_text("")
    with pytest.raises(ConfigError, match="alone.py: not in an arcface_torch checkout"):
        checkout_of(tmp_path / "alone.py")
    with pytest.raises(ConfigError, match="missing.py: no such script"):
        checkout_of(tmp_path / "missing.py")
