"""Names that are imported when they are asked for: all are there, and what needs no PyTorch does not import it."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

PACKAGES = ["", ".loss", ".models", ".evaluation", ".evaluation.protocols"]
COMMANDS = [*sorted(path for path in (ROOT / "tools").glob("*.py")), ROOT / "train_v2.py"]


def run(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there(package: str) -> None:
    """In a process of its own, where nothing else has imported its module before."""
    name = f"qgface_plugin{package}"
    module = importlib.import_module(name)
    assert set(module.__all__) <= set(dir(module))
    code = f"import {name} as p; print(all(getattr(p, name) is not None for name in p.__all__), hasattr(p, 'nothing'))"
    assert run(code) == "True False"


def test_the_rooms_are_attributes() -> None:
    code = (
        "import qgface_plugin as q; print(q.loss.heads.__name__, q.config.QGFaceConfig.__name__, hasattr(q, 'heads'))"
    )
    assert run(code) == "qgface_plugin.loss.heads QGFaceConfig False"


@pytest.mark.parametrize("module", ["qgface_plugin", "qgface_plugin.config", "qgface_plugin.evaluation"])
def test_no_pytorch_is_imported(module: str) -> None:
    assert run(f"import sys, {module}; print('torch' in sys.modules)") == "False"


def test_settings_are_checked_without_an_import_of_the_loss() -> None:
    """Names that the loss registers are known to whoever checks them, whatever was imported before."""
    code = "from qgface_plugin.config.method import QGFaceConfig as C; C(margin='magface', quality='certainty')"
    assert run(f"{code}; print(1)") == "1"
    code = "from qgface_plugin.utils.registry import MARGIN_HEADS as M; print('magface' in M, len(M) == len(M.own), *M)"
    assert run(code) == "True True adaface arcface cosface curricularface magface softmax"
    code = "import qgface_plugin as q\ntry: q.margin_head('adaface')(object)\nexcept Exception as e: print(e)"
    assert "'adaface'" in run(code)


def test_threads_that_ask_at_once_all_find_the_names() -> None:
    """The runs of an ablation check their recipes at the same time, and the first one to ask imports the loss."""
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from threading import Barrier\n"
        "from qgface_plugin.config.method import QGFaceConfig\n"
        "at_once = Barrier(4)\n"
        "def ask(_):\n"
        "    at_once.wait()\n"
        "    return QGFaceConfig(margin='magface', quality='certainty').quality\n"
        "with ThreadPoolExecutor(4) as pool: print(*pool.map(ask, range(4)))"
    )
    assert run(code) == "certainty certainty certainty certainty"


@pytest.mark.parametrize("command", COMMANDS, ids=[path.name for path in COMMANDS])
def test_help_of_a_script_waits_for_no_pytorch(command: Path) -> None:
    code = (
        f"import runpy, sys; sys.argv = [{str(command)!r}, '--help']; sys.path.insert(0, {str(command.parent)!r})\n"
        f"try: runpy.run_path({str(command)!r}, run_name='__main__')\n"
        "except SystemExit as left: print(left.code, 'torch' in sys.modules)"
    )
    said = run(code)
    assert said.startswith("usage: ") and said.endswith("0 False")
