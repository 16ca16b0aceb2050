"""Checkouts of arcface_torch: found, and told from other folders and files."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from pathlib import Path

from ..utils.errors import ConfigError

SCRIPT = "train_v2.py"
PARTS = (SCRIPT, "partial_fc_v2.py", "losses.py", "dataset.py", "lr_scheduler.py", "backbones", "utils", "configs")
EXPECTED = ("PartialFC_V2", "get_dataloader")  # what every version of it imports, and the seams replace


def trainer_of(folder: Path) -> Path:
    """The `train_v2.py` of an arcface_torch checkout, which `attach` edits; its other parts are not looked at.

    Raises:
        ConfigError: There is no such folder or file, or it is no Python, or it does not import what arcface_torch's
            does.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; name the folder recognition/arcface_torch of InsightFace")
    file = folder / SCRIPT
    if not file.is_file():
        raise ConfigError(
            f"{folder}: no {SCRIPT} in it; name the folder recognition/arcface_torch of an InsightFace checkout"
        )
    missing = [name for name in EXPECTED if name not in _imported(parse(file, file.read_bytes()))]
    if missing:
        raise ConfigError(f"{file}: not arcface_torch's {SCRIPT}: it does not import {' and '.join(missing)}")
    return file


def checkout_of(script: Path) -> Path:
    """The checkout that a script belongs to: the nearest folder above it with arcface_torch's `train_v2.py`.

    Raises:
        ConfigError: The script or such a folder is not there.
    """
    if not script.is_file():
        raise ConfigError(f"{script}: no such script")
    for folder in script.resolve().parents:
        if (folder / SCRIPT).is_file():
            return trainer_of(folder).parent
    raise ConfigError(f"{script}: not in an arcface_torch checkout: no folder above it has a {SCRIPT}")


def parse(file: Path, source: bytes) -> ast.Module:
    """The syntax tree of a Python file.

    Raises:
        ConfigError: It is none; the message names the file and the line.
    """
    try:
        return ast.parse(source, str(file))
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"{file}: not valid Python ({error})") from error


def _imported(tree: ast.Module) -> set[str]:
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    return {alias.name for node in imports for alias in node.names}


def missing_parts(folder: Path) -> list[str]:
    """What an arcface_torch checkout has and this folder lacks; empty for a checkout."""
    return [part for part in PARTS if not (folder / part).exists()]


def named_folder(host: str | None = None, environ: Mapping[str, str] = os.environ) -> tuple[Path, str] | None:
    """The folder that is to be the checkout, looked at or not, and what named it.

    Args:
        host: what `config.host`, or a command line, names; it comes first.
        environ: the environment, whose ARCFACE_TORCH comes second. Third is the working directory, if it is a checkout.

    Returns:
        None when nothing names one.
    """
    for named, by in ((host, "config.host"), (environ.get("ARCFACE_TORCH"), "ARCFACE_TORCH")):
        if named:
            return Path(named), by
    here = Path.cwd()
    return None if missing_parts(here) else (here, "the working directory")


def find_checkout(host: str | None = None, environ: Mapping[str, str] = os.environ) -> tuple[Path, str] | None:
    """The checkout to train in and what named it, as `named_folder` has it for `config.host`.

    Raises:
        ConfigError: The folder that is named is no checkout.
    """
    found = named_folder(host, environ)
    if found is None:
        return None
    folder, by = found
    if missing := missing_parts(folder):
        inner = folder / "recognition" / "arcface_torch"
        advice = f"did you mean {inner}?" if not missing_parts(inner) else "name the folder of its train_v2.py"
        raise ConfigError(
            f"{by} names {folder}, which is no arcface_torch checkout ({missing[0]} is not there): {advice}"
        )
    return folder.resolve(), by


def may_be_own_config(argument: str) -> bool:
    """Whether a command line has the form in which a checkout's users name its own configs: configs/ms1mv3_r50."""
    return argument.startswith("configs/")


def is_own_config(argument: str, checkout: Path) -> bool:
    """Whether a command line names one of the checkout's own configs.

    A file configs/... where the user stands is the user's recipe and comes first, unless it is the checkout's own.

    Args:
        argument: of the command line.
        checkout: its folder.
    """
    if not may_be_own_config(argument):
        return False
    named, own = Path(argument), (checkout / "configs").resolve()
    files = [file for file in (named, named.with_name(f"{named.name}.py")) if file.is_file()]
    return all(file.resolve().parent == own for file in files)
