"""InsightFace's own `ijb_evals.py` on the same features, and how far its numbers are from ours."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ....models.embeddings import Embeddings
from ....utils.errors import ConfigError, DataError
from ....utils.text import read_json
from .evaluation import IjbResult
from .identification import RANKS
from .templates import DEFAULT_MODE

AGREE = 1e-6  # the largest difference that counts as none: of fractions
CHILD = Path(__file__).with_name("insightface_child.py")
TOOL = "ijb_evals.py"


@dataclass(frozen=True)
class ToolResult:
    """What the tool gave.

    Attributes:
        tables: what it printed.
        numbers: `one_to_one` by mode, and `one_to_n` by gallery.
    """

    tables: str
    numbers: dict[str, Any]

    def differences(self, result: IjbResult) -> dict[str, float]:
        """For each number that both have, ours minus the tool's, by its name."""
        differences = {}
        for verified in result.verification:
            name = verified.mode.name
            theirs = self.numbers["one_to_one"].get(name)
            if theirs is None:
                continue
            for point, tar in zip(verified.tar_at_far, theirs["tar"], strict=True):
                differences[f"{name} TAR@FAR={point.far:.0e}"] = point.nearest - tar
            differences[f"{name} AUC"] = verified.auc - theirs["auc"]
        for ours in result.identification:
            if ours.mode != DEFAULT_MODE or "one_to_n" not in self.numbers:
                continue
            for gallery, theirs in zip(ours.galleries, self.numbers["one_to_n"]["galleries"], strict=True):
                for k in RANKS:
                    differences[f"{gallery.name} top-{k}"] = gallery.top[k] - theirs["top"][str(k)]
                for rate in gallery.tpir:
                    differences[f"{gallery.name} TPIR@{rate.fpir:g}"] = (
                        rate.insightface - theirs["tpir"][str(rate.fpir)]
                    )
        return differences


def find_tool(folder: str | Path) -> Path:
    """The folder with ijb_evals.py: `folder` itself, or where it lies in an InsightFace checkout.

    Raises:
        ConfigError: it is in neither.
    """
    inside = Path("recognition", "_evaluation_", "ijb")
    for candidate in (Path(folder), Path(folder) / inside):
        if (candidate / TOOL).is_file():
            return candidate
    raise ConfigError(f"--ijb-tools {folder}: no {TOOL} in it, nor in {Path(folder) / inside}")


def run_tool(
    tools: str | Path,
    folder: Path,
    subset: str,
    features: Embeddings | Path,
    all_modes: bool = False,
    one_to_n: bool = False,
    progress: bool = False,
) -> ToolResult:
    """Run the tool on the set in `folder`; 1:N is in the default mode.

    The tool reads the data through a link in a temporary folder, so that what it leaves there does not stay.

    Args:
        tools: folder of the tool, or a checkout.
        folder: with `meta/` and `loose_crop/`.
        subset: "IJBB" or "IJBC".
        features: those of all images, or an .onnx file of which the tool makes its own (it normalises with
            (x - 127.5) / 128).
        all_modes: all eight, else the default one.
        one_to_n: 1:N too.
        progress: let its progress bars through.

    Raises:
        ConfigError: the tool is not there.
        DataError: it fails.
    """
    tools = find_tool(tools)
    with tempfile.TemporaryDirectory(prefix="ijb_evals_") as scratch:
        data = Path(scratch)
        (data / subset).symlink_to(Path(folder).resolve(), target_is_directory=True)
        source = data / "embeddings.npz"
        if isinstance(features, Embeddings):
            np.savez(source, embs=features.original, embs_f=features.mirrored)
        else:
            source = Path(features).resolve()
        command = [sys.executable, str(CHILD), str(tools.resolve()), scratch, subset, str(source), f"{scratch}/r.json"]
        command += ["--all-modes"] * all_modes + ["--one-to-n"] * one_to_n
        ran = subprocess.run(
            command,
            cwd=scratch,
            env={**os.environ, "MPLBACKEND": "Agg", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "ignore"},
            stdout=subprocess.PIPE,
            stderr=None if progress else subprocess.PIPE,
            text=True,
            errors="replace",
        )
        if ran.returncode != 0:
            said = "\n".join(ran.stderr.splitlines()[-8:]) if ran.stderr else "its message is above"
            raise DataError(f"{tools / TOOL} ended with status {ran.returncode} on {folder}: {said}")
        numbers = read_json(data / "r.json", "result of InsightFace's tool")
    tables = "\n".join(line for line in ran.stdout.splitlines() if line.startswith("|"))
    return ToolResult(tables, numbers)
