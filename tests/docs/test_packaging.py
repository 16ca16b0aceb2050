"""What the README promises of installing: its two commands, the pins, and one OpenCV."""

from __future__ import annotations

import ast
import configparser
import re
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from paths import ROOT

PYTHONS = ("3.10.0", "3.11.0", "3.11.5", "3.12.0", "3.13.0", "3.14.0")
EXTRAS = ("docs", "eval", "foreign", "logging", "test", "versions")
IMPORT_NAMES = {"opencv-python-headless": "cv2", "scikit-image": "skimage", "scikit-learn": "sklearn"}


def settings() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def names(lines: str) -> set[str]:
    return {re.split(r"[<>=; ]", line)[0].lower() for line in lines.split("\n") if line and not line.startswith("#")}


def imports_of(lines: str) -> set[str]:
    return {IMPORT_NAMES.get(name, name) for name in names(lines)}


def pins(python: str) -> dict[str, str]:
    """The pinned versions for a version of Python."""
    found: dict[str, str] = {}
    environment = {"python_version": ".".join(python.split(".")[:2]), "python_full_version": python}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pin = Requirement(line)
        (only,) = pin.specifier
        assert only.operator == "==" and not only.version.endswith("*"), f"constraints.txt: {line!r} is no pin"
        if pin.marker is None or pin.marker.evaluate(environment):
            assert pin.name.lower() not in found, f"constraints.txt: {pin.name} is pinned twice"
            found[pin.name.lower()] = only.version
    return found


def imported(folder: str, nested: bool = True) -> set[str]:
    """Foreign packages that the modules of a folder import, also within functions when `nested`."""
    modules: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree) if nested else tree.body:
            if isinstance(node, ast.Import):
                modules.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                modules.add(node.module.split(".")[0])
    return modules - set(sys.stdlib_module_names) - {"qgface_plugin"}


@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_is_pinned_inside_its_range(python):
    extras = settings()["options.extras_require"]
    lines = "".join([settings()["options"]["install_requires"], *(extras[name] for name in EXTRAS)])
    pinned = pins(python)
    wanted = [Requirement(line) for line in lines.split("\n") if line]
    assert {"torch", "numpy", "pytest"} <= {item.name for item in wanted}
    for item in wanted:
        assert item.specifier.contains(pinned[item.name.lower()]), f"{item} does not admit its pin"


def test_the_package_requires_what_it_imports_and_nothing_else():
    """But for what a benchmark compares with, where it is there."""
    required = imports_of(settings()["options"]["install_requires"])
    extras = settings()["options.extras_require"]
    optional = {"insightface", "mlflow", "timm"}.union(*(imports_of(extras[name]) for name in EXTRAS if name != "test"))
    compared = {"PIL", "losses", "partial_fc_v2"}
    assert imported("qgface_plugin") - optional - compared == required
    others = [path.name for path in (ROOT / "qgface_plugin").iterdir() if path.is_dir() and path.name != "benchmarks"]
    assert len(others) > 9 and not set().union(*(imported(f"qgface_plugin/{name}") for name in others)) & compared
    assert not imported("qgface_plugin", nested=False) & optional


def test_advice_names_packages_that_an_index_has():
    """This project is on none, so `pip install qgface-plugin[eval]` would find nothing."""
    extras = settings()["options.extras_require"]
    every = names(settings()["options"]["install_requires"]).union(*(names(extras[name]) for name in EXTRAS))
    texts = [
        node.value
        for path in (ROOT / "qgface_plugin").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "pip install " in node.value
    ]
    advised = {
        word for text in texts for found in re.findall(r"pip install ((?:[\w.-]+ ?)+)", text) for word in found.split()
    }
    assert {"matplotlib", "onnx", "scikit-image"} <= advised
    assert not any("qgface" in text.partition("pip install")[2] for text in texts)
    added = {"timm"}  # an extra without pins: its torchvision has to be the one of the torch that is installed
    assert advised - every <= {"--no-deps", "insightface", "requests", "scikit-learn", "and", "pip", "install"} | added


def test_there_is_one_opencv_and_no_mxnet_in_the_package():
    every = names(settings()["options"]["install_requires"])
    for lines in settings()["options.extras_require"].values():
        every |= names(lines)
    assert {name for name in every if name.startswith("opencv")} == {"opencv-python-headless"}
    assert "insightface" not in every  # it brings opencv-python
    assert not imported("qgface_plugin") & {"mxnet", "torchvision"}


def test_the_readme_shows_the_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = [
        line.split("#")[0].strip()
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        for line in block.split("\n")
    ]
    assert {"make quickstart", "make test"} <= set(shown)


def test_make_lists_every_target():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert set(phony.split()) == set(re.findall(r"^([a-z-]+):.*## \w", text, re.MULTILINE))


def test_ci_runs_the_readmes_test_command():
    script = ROOT / ".ci" / "run"
    lines = script.read_text(encoding="utf-8").splitlines()
    assert lines[-1] == "make test"
    assert "set -euo pipefail" in lines
    assert script.stat().st_mode & 0o111 == 0o111


def test_the_paths_that_the_readme_names_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\b(?:recipes|qgface_plugin|tools|docs)/[\w/]+\.(?:py|md)", text)) | {"train_v2.py"}
    named |= {f"qgface_plugin/{name}" for name in re.findall(r"`(\w+\.py)`", text) if name != "train_v2.py"}
    assert len(named) > 5
    assert [path for path in sorted(named) if not (ROOT / path).is_file()] == []


def test_the_installed_version_is_the_packages():
    try:
        installed = metadata.version("qgface-plugin")
    except metadata.PackageNotFoundError:
        pytest.skip("qgface-plugin is not installed in this environment")
    import qgface_plugin

    assert installed == qgface_plugin.__version__
