"""qgface: the list of commands, and attach, detach, doctor and run, as typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from compat_tools import TRAINER, write_checkout
from paths import ROOT

from qgface_plugin import __version__
from qgface_plugin.__main__ import COMMANDS, MODULES, main

SCRIPT = """
import sys
import numpy as np
from helper import twice

print(__name__, sys.argv, twice(np.array([1.9]).astype(np.int)[0]), np.int)
if sys.argv[1:] == ["--fail"]:
    raise RuntimeError("the script's own error")
"""


def run(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "qgface_plugin", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_attach_and_detach(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = write_checkout(tmp_path) / "train_v2.py"
    said = []
    for command in ("attach", "attach", "detach", "detach"):
        assert main([command, str(tmp_path)]) == 0
        said.append(capsys.readouterr().out)
    starts = (f"attached: {file} line 1", f"already attached: {file}", f"detached: {file}", f"not attached: {file}")
    assert said == [line + "\n" for line in starts]
    assert file.read_text() == TRAINER


@pytest.mark.parametrize("command", ["attach", "detach"])
def test_an_unknown_folder_is_status_2(command: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([command, str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"qgface {command}: {tmp_path}: no train_v2.py in it") and captured.out == ""


def test_doctor_as_text_and_json(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch) -> None:
    monkeypatch.delenv("ARCFACE_TORCH", raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(["doctor"]) == 0
    assert "Versions\n" in capsys.readouterr().out
    assert main(["doctor", str(tmp_path), "--json"]) == 1
    given = json.loads(capsys.readouterr().out)
    assert given["can_train"] is False and "no train_v2.py" in given["problems"][0]
    assert main(["doctor", "--data", str(ROOT / "tests" / "golden" / "insightface")]) == 0
    assert "InsightFace, with header record" in capsys.readouterr().out


def test_a_script_runs_as_python_runs_it_and_repaired(tmp_path: Path) -> None:
    write_checkout(tmp_path, eval_ijbc=SCRIPT, helper="def twice(x):\n    return 2 * x\n")
    done = run("run", "eval_ijbc.py", "--network", "r18", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    *log, last = done.stdout.splitlines()
    assert last == "__main__ ['eval_ijbc.py', '--network', 'r18'] 2 <class 'int'>"
    if np.lib.NumpyVersion(np.__version__) < "1.24.0":  # which has the names
        assert log == []
    else:
        assert len(log) == 1 and "repaired for arcface_torch, in this process: names of NumPy; " in log[0]

    done = run("run", tmp_path / "eval_ijbc.py", "--fail")
    assert done.returncode == 1 and "RuntimeError: the script's own error" in done.stderr


def test_a_script_that_is_in_no_checkout_is_status_2(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "alone.py").write_text("print('must not run')\n")
    assert main(["run", str(tmp_path / "alone.py")]) == 2
    captured = capsys.readouterr()
    assert "not in an arcface_torch checkout" in captured.err and captured.out == ""


def test_the_list_of_commands(capsys: pytest.CaptureFixture) -> None:
    said = []
    for arguments in ([], ["--help"], ["-h"], ["help"]):
        assert main(arguments) == 0
        said.append(capsys.readouterr().out)
    assert len(set(said)) == 1
    lines = said[0].splitlines()
    assert max(map(len, lines)) <= 120 and all(f"{title}:" in lines for title in COMMANDS)
    for name in MODULES:
        assert len([line for line in lines if line.startswith(f"  {name} ")]) == 1
    with pytest.raises(SystemExit, match="0"):
        main(["help", "pack"])
    assert capsys.readouterr().out.startswith("usage: qgface pack ")
    assert main(["help", "pakc"]) == 2 and "did you mean pack? " in capsys.readouterr().err
    assert main(["--version"]) == 0 and capsys.readouterr().out == f"qgface {__version__}\n"


def test_every_module_of_the_room_is_a_command() -> None:
    folder = ROOT / "qgface_plugin" / "commands"
    assert set(MODULES.values()) == {path.stem for path in folder.glob("*.py")} - {"__init__"}


@pytest.mark.parametrize(
    ("typed", "near"),
    [("attatch", "attach"), ("eval_pairs", "eval-pairs"), ("pack_rec", "pack"), ("evalijb", "eval-ijb"), ("zzz", None)],
)
def test_an_unknown_command_names_the_nearest(typed, near, capsys: pytest.CaptureFixture) -> None:
    assert main([typed, "x"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(f"qgface: error: {typed!r} is no command: ")
    assert (f"did you mean {near}? " in said.err) == (near is not None) and "`qgface` lists them" in said.err


def test_errors_begin_as_those_of_the_arguments_do(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """With what was typed, as `train_v2.py: ...` does for the trainer."""
    with pytest.raises(SystemExit):
        main(["attach", str(tmp_path), "--all"])
    assert capsys.readouterr().err.splitlines()[-1].startswith("qgface attach: error: ")
    assert main(["run", str(tmp_path / "eval_ijbc.py")]) == 2
    assert capsys.readouterr().err.startswith("qgface run: ")


def test_a_trainer_that_cannot_be_written_is_status_1(tmp_path: Path, monkeypatch, capsys) -> None:
    def denied(folder: str) -> str:
        raise PermissionError(13, "Permission denied", f"{folder}/train_v2.py")

    monkeypatch.setattr("qgface_plugin.arcface_torch.attach.attach", denied)
    assert main(["attach", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"qgface attach: {tmp_path}/train_v2.py: Permission denied; ")
