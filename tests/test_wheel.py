"""The wheel: it holds recipes, commands and benchmarks, and works in an environment and a folder of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from paths import RECIPES, ROOT

from qgface_plugin import __version__
from qgface_plugin.__main__ import MODULES

LEFT_BEHIND = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "work_dirs", "tests", "docs")
SHORT = ["qgface.data.identities=8", "qgface.data.images_per_identity=8", "qgface.data.pairs=40", "num_workers=0"]


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """In an environment without this checkout on any path."""
    left_out = ("PYTHONPATH", "DATA_ROOT", "ARCFACE_TORCH", "VIRTUAL_ENV")
    environ = {key: value for key, value in os.environ.items() if key not in left_out} | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environ, capture_output=True, text=True, timeout=600
    )


def said(*command: object, cwd: Path) -> str:
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, so that nothing of an earlier build is in it."""
    pytest.importorskip("setuptools", minversion="70.1", reason="an earlier setuptools needs a package to write wheels")
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "source", ignore=LEFT_BEHIND)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    said(*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, folder / "source", cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The `bin` of an environment with the wheel in it; the packages it needs are those of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(said(python, "-c", code, cwd=folder).strip())
    (packages / "those_of_the_tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--ignore-installed"]
    said(*pip, "--no-deps", "--no-index", "--no-warn-script-location", wheel, cwd=folder)
    where = said(python, "-c", "import qgface_plugin; print(qgface_plugin.__file__)", cwd=folder).strip()
    assert Path(where).is_relative_to(packages)
    return folder / "bin"


def test_what_is_in_it(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "qgface_plugin").rglob("*.py")}
    recipes = {f"qgface_plugin/recipes/{path.relative_to(RECIPES).as_posix()}" for path in RECIPES.rglob("*.py")}
    files = {name for name in names if ".dist-info/" not in name}
    assert files == package | recipes and len(recipes) > 25
    about = f"qgface_plugin-{__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        said_of_it = archive.read(f"{about}/METADATA").decode()
    assert re.search(r"^License(-Expression)?: MIT$", said_of_it, re.M) and "License-File: LICENSE" in said_of_it
    assert {name.rsplit("/", 1)[-1] for name in names if name.startswith(about)} > {"LICENSE", "RECORD"}


def test_the_quickstart_and_an_evaluation(installed, tmp_path):
    qgface = installed / "qgface"
    assert said(qgface, "--version", cwd=tmp_path) == f"qgface {__version__}\n"
    out = said(qgface, "train", "quickstart", "--set", *SHORT, "qgface.train.max_steps=3", cwd=tmp_path)
    assert re.search(r"recipe of the package: .*/qgface_plugin/recipes/quickstart.py", out)
    written = {path.name for path in (tmp_path / "work_dirs" / "quickstart").iterdir()}
    assert {"model.pt", "recipe.json", "training.log"} <= written
    said(
        qgface, "eval-pairs", "--model", "work_dirs/quickstart/model.pt", "--data", "work_dirs/procedural_faces",
        "--quiet", cwd=tmp_path,
    )  # fmt: skip
    result = json.loads((tmp_path / "work_dirs" / "quickstart" / "results" / "pairs.json").read_text())
    assert list(result["results"]["sets"]) == ["procedural_dev"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["work_dirs"]


@pytest.mark.long
def test_everything_of_it(installed, tmp_path):
    """The whole quickstart, a recipe of one's own by torchrun, an ablation in a folder that is somebody else's git
    checkout, and the help of all commands."""
    qgface, python = installed / "qgface", installed / "python"
    out = said(qgface, "train", "quickstart", cwd=tmp_path)
    found = [float(line.split()[-1].split("+")[0]) for line in out.splitlines() if "Accuracy-Flip" in line]
    assert len(found) == 4 and found[-1] > 0.6
    said(qgface, "recipe", "quickstart", "-o", "mine.py", cwd=tmp_path)
    launch = [python, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "qgface_plugin"]
    said(*launch, "train", "mine.py", "--set", *SHORT, "qgface.train.max_steps=3", "rec=few_faces", cwd=tmp_path)
    assert (tmp_path / "work_dirs" / "mine" / "checkpoint_gpu_1.pt").is_file()
    said("git", "init", "-q", cwd=tmp_path)
    said(
        qgface, "ablation", "--recipes", "mine.py", "--data", "few_faces", "--eval", "few_faces", "--seeds", "1",
        "--set", "qgface.data.source=recordio", "qgface.train.max_steps=2", "--quiet", cwd=tmp_path,
    )  # fmt: skip
    tables = json.loads((tmp_path / "work_dirs" / "ablation" / "tables.json").read_text())
    assert tables["commit"] == f"qgface-plugin {__version__}"
    for command in MODULES:
        assert said(qgface, command, "--help", cwd=tmp_path).startswith(f"usage: qgface {command} ")
    small = ["--classes", "40", "--rows", "12", "--dim", "16", "--rounds", "1"]
    said(qgface, "benchmark", "criterion", *small, cwd=tmp_path)
