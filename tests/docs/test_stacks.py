"""The stacks of noxfile.py: the ranges of setup.cfg, the workflow and the page of versions say the same."""

from __future__ import annotations

import ast
import configparser
import re

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from paths import ROOT

WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
NOXFILE = (ROOT / "noxfile.py").read_text(encoding="utf-8")


def constant(name: str):
    """What noxfile.py sets a name to; nox itself need not be installed."""
    for node in ast.parse(NOXFILE).body:
        if isinstance(node, ast.Assign) and [getattr(target, "id", None) for target in node.targets] == [name]:
            return ast.literal_eval(node.value)
    raise AssertionError(f"noxfile.py sets no {name}")


def settings() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def range_of(package: str) -> SpecifierSet:
    lines = settings()["options"]["install_requires"].split("\n")
    (found,) = [item.specifier for item in map(Requirement, filter(None, lines)) if item.name == package]
    return found


def workflow() -> dict:
    return pytest.importorskip("yaml").safe_load(WORKFLOW.read_text(encoding="utf-8"))


def test_every_python_of_the_classifiers_has_a_stack():
    classifiers = settings()["metadata"]["classifiers"]
    named = set(re.findall(r"Python :: (3\.\d+)", classifiers))
    assert named == {python for python, _ in constant("STACKS").values()} == {f"3.{minor}" for minor in range(10, 15)}
    assert settings()["options"]["python_requires"] == ">=3.10"


def test_the_lowest_stack_has_the_lower_end_and_each_is_in_the_range():
    torch, stacks = range_of("torch"), constant("STACKS")
    lower = next(part.version for part in torch if part.operator == ">=")
    assert stacks["lowest"] == ("3.10", f"{lower}.0")
    assert all(torch.contains(version) for _, version in stacks.values() if version)
    assert {"pinned", "newest"} <= {name for name, (_, version) in stacks.items() if not version}


def test_the_workflow_runs_every_stack_and_lint():
    jobs = workflow()["jobs"]
    assert jobs["tests"]["strategy"]["matrix"]["stack"] == list(constant("STACKS"))
    commands = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}
    assert commands == {
        "lint": ["uvx nox -s lint"],
        "tests": ['uvx nox -s "tests(${{ matrix.stack }})" -- -n 4 --dist loadfile'],
    }
    sessions = [node.name for node in ast.parse(NOXFILE).body if isinstance(node, ast.FunctionDef)]
    assert sessions == ["tests", "lint"]


def test_the_workflow_can_only_read_and_its_actions_are_pinned():
    loaded = workflow()
    assert loaded["permissions"] == {"contents": "read"} and not any(
        "permissions" in job for job in loaded["jobs"].values()
    )
    lines = re.findall(r"uses: (.*)", WORKFLOW.read_text(encoding="utf-8"))
    assert len(lines) == 4
    for line in lines:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_make_and_nox_install_the_same_insightface():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f'"{constant("INSIGHTFACE")}"' in makefile


def test_the_page_has_the_ranges():
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([\w-]+) \| ([\d.]+) to \d", page, re.M))
    lines = filter(None, settings()["options"]["install_requires"].split("\n"))
    for item in map(Requirement, lines):
        lower = next(part.version for part in item.specifier if part.operator == ">=")
        assert lower.startswith(rows.pop(item.name)), item
    assert rows == {"Python": "3.10"}
