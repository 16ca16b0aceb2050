"""Measures what is quick against a plain way of doing the same, side by side in one run.

qgface benchmark ijb --json ijb.json
qgface benchmark ijb --help

Each file of qgface_plugin/benchmarks/ is a subcommand.
"""

from __future__ import annotations

import argparse
import ast
import os
import platform
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

from ..utils.command_line import command_parser, guarded
from ..utils.files import write_json
from ..utils.outputs import check_output, json_with

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
PACKAGES = ("torch", "numpy", "scipy", "opencv-python-headless", "simplejpeg", "onnxruntime")


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Exit status 0: measured; 1: could not go on, or a check of `acceptance` does not hold; 2: the input does not fit;
    3: `acceptance` without a GPU."""
    given = _parser(sys.argv[1:] if arguments is None else arguments, front).parse_args(arguments)
    return guarded(given.program, lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    check_output(given.json, json_with(("benchmark", "machine", "results"), "report"))
    before, module = machine_facts(), _module(given.benchmark)
    if why := getattr(module, "without_device", lambda _: None)(given):
        print(why)
        return 3
    results = module.run(given)
    report = {"benchmark": given.benchmark, "machine": before, "results": results}
    print("\n".join(table(results)))
    load = before["load"]
    print(f"\n{before['processor']}, {before['cores']} cores, load {load:.1f} at the start; torch {version('torch')}")
    if load > before["cores"] / 2:
        print("other programs are running: compare the ratios, not the seconds", file=sys.stderr)
    if given.json:
        write_json(given.json, report)
    status: int = getattr(module, "status", lambda _: 0)(results)
    return status


def table(results: Mapping[str, Any], indent: str = "") -> list[str]:
    """One number a line, the numbers of a group below its name."""
    plain = {name: value for name, value in results.items() if not isinstance(value, Mapping)}
    width = max(map(len, plain), default=0)
    lines = [f"{indent}{name:<{width}}  {_shown(value)}" for name, value in plain.items()]
    for name, group in results.items():
        if isinstance(group, Mapping):
            lines += [f"{indent}{name}", *table(group, indent + "  ")]
    return lines


def machine_facts() -> dict[str, Any]:
    """What a figure depends on: processor, cores, memory, load, and versions."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load": os.getloadavg()[0],
        "system": platform.platform(),
        "versions": versions,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _parser(arguments: list[str], front: str | None) -> argparse.ArgumentParser:
    parser = command_parser("benchmark", __doc__, front)
    subcommands = parser.add_subparsers(dest="benchmark", metavar="BENCHMARK", required=True)
    for path in sorted(FOLDER.glob("[a-z]*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        one = subcommands.add_parser(
            path.stem,
            help=text.partition("\n")[0],
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        one.add_argument("--json", metavar="FILE", type=Path, help="write the figures and the machine's facts")
        if path.stem in arguments:  # only the benchmark that runs is imported
            _module(path.stem).add_arguments(one)
    return parser


def _module(name: str) -> ModuleType:
    return import_module(f"...{FOLDER.name}.{name}", __name__)
