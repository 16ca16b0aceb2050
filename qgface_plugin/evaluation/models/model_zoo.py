"""Models by the names that insightface gives them, in its folder of models. Nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from ...utils.errors import CheckpointError
from ...utils.files import models_folder
from .onnx_model import OnnxModel, load_onnx_model, not_recognition, open_session


def load_zoo_model(name: str, color: str, device: torch.device) -> OnnxModel:
    """The model `name`.onnx of insightface's folder, or the recognition model of the pack (folder) of that name.

    Raises CheckpointError, saying where it looked, when there is none.
    """
    folder = models_folder()
    file = folder / (name if name.endswith(".onnx") else f"{name}.onnx")
    if file.is_file():
        return load_onnx_model(file, color, device)
    if (folder / name).is_dir():
        return load_pack(folder / name, color, device)
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    raise CheckpointError(
        f"{name} is no file, and no model of insightface: neither {file} nor the folder {folder / name} is there "
        f"({'there are ' + ', '.join(there) if there else 'nothing is'}). Packs such as buffalo_l are not downloaded "
        f"here: python -c \"from insightface.utils import ensure_available; ensure_available('models', '{name}')\""
    )


def load_pack(folder: Path, color: str, device: torch.device) -> OnnxModel:
    """The recognition model of a pack of ONNX files; what each other file is stands in the message when there is none.

    A pack with insightface's manifest (version 2) names the file and its normalisation.
    """
    described = _manifest_entry(folder)
    if described is not None:
        file, scale = described
        return load_onnx_model(folder / file, color, device, f"{folder.name}/{Path(file).stem}", scale)
    others = []
    cpu = torch.device("cpu")
    for path in sorted(folder.glob("*.onnx")):
        reason = not_recognition(open_session(path, cpu))
        if reason is None:
            return load_onnx_model(path, color, device, f"{folder.name}/{path.stem}")
        others.append(f"{path.name}: {reason}")
    raise CheckpointError(f"{folder} has no recognition model ({'; '.join(others) or 'no .onnx file is in it'})")


def _manifest_entry(folder: Path) -> tuple[str, tuple[float, float]] | None:
    """File and scale of the recognition task in manifest.json; None without a manifest of version 2."""
    try:
        manifest: Any = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if manifest.get("manifest_version") != 2:
            return None
        task = manifest["tasks"]["recognition"]
        file, scale = task["file"], task.get("preprocessing", {"mean": 127.5, "std": 127.5})
        return str(file), ((0.0, 1.0) if scale == "embedded" else (float(scale["mean"]), float(scale["std"])))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder / 'manifest.json'} names no recognition model ({error!r})") from error
