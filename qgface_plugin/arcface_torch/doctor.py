"""Doctor: what is there, what is missing and what will be repaired, before a run finds out."""

from __future__ import annotations

import json
import platform
import subprocess
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path

import torch

from ..data.packing.inspection import data_found
from ..utils.errors import ConfigError, DataError
from . import compat
from .attach import is_attached
from .checkout import missing_parts, named_folder, trainer_of
from .compat.repair import import_failure, is_stand_in
from .seam_report import seams_of


@dataclass(frozen=True)
class Report:
    """What the doctor found.

    Attributes:
        versions: package -> its version, or why it is not there.
        cuda: one line for each device.
        checkout: facts about the arcface_torch folder; None when there is none to look at.
        seams: seam -> "found", or what is wrong.
        repairs: repair -> "needed: reason", or "not needed".
        data: facts about the data set; None when none was named.
        problems: what must be put right before training.

    Example:
        >>> report = Report({"torch": "2.13.0"}, [], None, {}, {}, None, ["numpy is not installed: pip install numpy"])
        >>> report.can_train, report.as_text().splitlines()[-1]
        (False, '  numpy is not installed: pip install numpy')
    """

    versions: dict[str, str]
    cuda: list[str]
    checkout: dict[str, str] | None
    seams: dict[str, str]
    repairs: dict[str, str]
    data: dict[str, str] | None
    problems: list[str]

    @property
    def can_train(self) -> bool:
        """Whether nothing is missing."""
        return not self.problems

    def as_json(self) -> str:
        """Everything, for programs."""
        return json.dumps({**asdict(self), "can_train": self.can_train}, indent=2)

    def as_text(self) -> str:
        """Everything, as tables for people; what is missing comes last."""
        tables = {
            "Versions": self.versions,
            "CUDA": {f"device {number}": line for number, line in enumerate(self.cuda)} or {"devices": "none"},
            "Checkout": self.checkout or {"arcface_torch": "none looked at: the built-in loop trains"},
            "Seams": self.seams,
            "Repairs": self.repairs,
            "Data": self.data or {},
        }
        lines = []
        for title, table in tables.items():
            if table:
                width = max(map(len, table))
                lines += [title, *(f"  {name:<{width}}  {value}" for name, value in table.items()), ""]
        if self.can_train:
            return "\n".join([*lines, "Nothing is missing: this can train."])
        return "\n".join([*lines, "Missing", *(f"  {problem}" for problem in self.problems)])


def examine(folder: str | None = None, data: str | None = None) -> Report:
    """Look at this process, at a checkout and at a data set; nothing is changed.

    Args:
        folder: an arcface_torch folder; None: the one that ARCFACE_TORCH names, else the working directory if it is
            one.
        data: a folder that `config.rec` may name.
    """
    packages = versions()
    problems = [f"{name} is not installed: pip install {name}" for name in NEEDED if packages[name] == "missing"]
    checkout: dict[str, str] | None = None
    seams: dict[str, str] = {}
    repairs: dict[str, str] = {}
    if (looked_at := named_folder(folder)) is not None:
        named, _ = looked_at
        checkout, wrong = _checkout(named)
        problems += wrong
        if not wrong:
            for name, why in NEEDED_BY_CHECKOUT.items():
                if packages[name] == "missing":
                    problems.append(f"{name} is not installed, which the checkout's {why} needs: pip install {name}")
            repairs = {r.name: f"needed: {r.reason}" if r.needed() else "not needed" for r in compat.repairs(named)}
            seams, wrong = _seams(named)
            problems += wrong
    found = None
    if data is not None:
        try:
            found = data_found(Path(data))
        except DataError as error:
            found = {"folder": data}
            problems.append(str(error))
    return Report(packages, _cuda(), checkout, seams, repairs, found, problems)


def _checkout(folder: Path) -> tuple[dict[str, str], list[str]]:
    """Facts, and why it is no checkout."""
    facts = {"folder": str(folder.resolve())}
    try:
        trainer = trainer_of(folder)
        missing = missing_parts(folder)
    except ConfigError as error:
        return {**facts, "arcface_torch": "no"}, [str(error)]
    if missing:
        return {**facts, "arcface_torch": "no"}, [f"{folder}: no arcface_torch checkout: {', '.join(missing)} missing"]
    facts.update(arcface_torch="yes", attached="yes" if is_attached(trainer) else "no", commit=_commit(folder))
    return facts, []


def _commit(folder: Path) -> str:
    try:
        done = subprocess.run(["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True)
    except OSError:
        return "unknown (git is not installed)"
    return done.stdout.strip() if done.returncode == 0 else "unknown (not a git checkout)"


def _seams(checkout: Path) -> tuple[dict[str, str], list[str]]:
    try:
        found = seams_of(checkout)
    except ConfigError as error:
        return {}, [str(error)]
    return {seam: wrong or "found" for seam, wrong in found.items()}, [wrong for wrong in found.values() if wrong]


def _cuda() -> list[str]:
    if not torch.cuda.is_available():
        return []
    devices = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return [f"{d.name}, {d.total_memory / 2**30:.0f} GiB, compute capability {d.major}.{d.minor}" for d in devices]


# --- The versions of what training, the checkout's scripts and export build on ----------------------------------------


OPENCV = "opencv-python-headless"
NEEDED = ("numpy", "torch", OPENCV, "simplejpeg", "easydict", "tensorboard", "tqdm")
NEEDED_BY_CHECKOUT = {"scikit-learn": "eval/verification.py", "scipy": "eval/verification.py"}
REPAIRED = ("mxnet", "torchvision")  # stand-ins take their places
OPTIONAL = {
    "timm": "backbones vit_*",
    "onnxscript": "torch2onnx.py",
    "onnx": "export",
    "onnxruntime": "export",
    "insightface": "onnx_ijbc.py",
    "scikit-image": "eval_ijbc.py",
    "pandas": "eval_ijbc.py",
    "matplotlib": "eval_ijbc.py",
    "prettytable": "eval_ijbc.py",
    "menpo": "eval_ijbc.py",
}
SAME_FILES = ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")


def versions() -> dict[str, str]:
    """Python's version and, for each package, its version, "missing", or what is known about its absence."""
    found = {"python": platform.python_version()}
    for name in (*NEEDED, *NEEDED_BY_CHECKOUT):
        found[name] = _version(name) or "missing"
    found["torch"] = str(torch.__version__)  # with its CUDA, which what pip has noted may lack
    if found[OPENCV] == "missing" and util.find_spec("cv2"):
        found[OPENCV] = next((f"{_version(name)} ({name})" for name in SAME_FILES if _version(name)), "unknown version")
    for name in REPAIRED:
        version = _version(name)
        failure = import_failure(name) if version and not is_stand_in(name) else None
        found[name] = f"{version}, does not import: {failure}" if failure else version or "missing (has a stand-in)"
    for name, use in OPTIONAL.items():
        found[name] = _version(name) or f"missing (for {use})"
    if _version("timm") and (failure := import_failure("timm")):  # installed, but it also needs a whole torchvision
        found["timm"] += f", does not import (for {OPTIONAL['timm']}): {failure}"
    return found


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
