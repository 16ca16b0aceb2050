"""Packages of InsightFace 2.1's model zoo: a folder with manifest.json (version 2), the models and their licence.

`insightface.model_zoo.get_model(folder, model_task="recognition")`, `FaceAnalysis(folder)`, where there is a detector
in it, and `load_model(folder)` read them. InsightFace compares each model with the SHA-256 in the manifest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..utils.errors import CheckpointError, ConfigError, DataError
from ..utils.files import atomic_path, file_digest, read_regular, write_bytes, write_json, write_text
from ..utils.text import read_json
from .onnx_export import INPUT, TOLERANCE
from .onnx_model import open_session

MANIFEST, LICENCE = "manifest.json", "MODEL.LICENSE"  # names that InsightFace asks for
RECOGNITION, DETECTION = "recognition.onnx", "detection.onnx"
WRITER = "qgface_plugin"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
SIDE, MIDDLE = 112, 127.5
OUTPUTS = 5  # InsightFace takes a model with as many, or more, for a detector
NOT_STATED = """The licence of this model was not stated when it was exported.

Weights may be used as far as the data that they were trained on, and the weights that they began with, allow.
Ask whoever gave you this package.
"""


@dataclass(frozen=True)
class Package:
    """What goes into a package beside the recognition model.

    Attributes:
        name: of the model, letters, digits, `.`, `_` and `-`.
        licence: text of the licence of the weights.
        detector: an ONNX file of InsightFace's detectors to put in; None: none, and FaceAnalysis cannot use it.
        embedded: whether the graph takes pixels as bytes and normalises them itself.
    """

    name: str
    licence: str = NOT_STATED
    detector: Path | None = None
    embedded: bool = False


def check_package(folder: str | Path, package: Package) -> None:
    """Refuse a package that could not be written or read.

    Args:
        folder: to write it to.
        package: what goes into it.

    Raises:
        ConfigError: the folder holds something else, the name does not fit, or the licence is empty.
        CheckpointError, DataError: the detector cannot be read, or is none.
    """
    folder = Path(folder)
    if not NAME.fullmatch(package.name):
        raise ConfigError(f"the model's name is {package.name!r}: --name takes letters, digits, `.`, `_` and `-`")
    if not package.licence.strip():
        raise ConfigError("the licence is empty: name a file that says how the weights may be used")
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or _is_ours(folder))):
        raise ConfigError(f"{folder} is there and is no package of this command: name a new folder")
    if package.detector is not None:
        if not package.detector.is_file():
            raise DataError(f"{package.detector}: no such detector")
        outputs = len(open_session(package.detector, torch.device("cpu")).get_outputs())
        if outputs < OUTPUTS:
            raise CheckpointError(
                f"{package.detector} has {outputs} outputs: InsightFace's detectors (det_10g.onnx, ...) have {OUTPUTS} "
                "or more"
            )


def finish_package(folder: str | Path, package: Package, dim: int) -> dict[str, Any]:
    """Make a package of a folder in which the recognition model is already.

    Args:
        folder: with `RECOGNITION` in it, a float32 graph as `export_onnx` writes it.
        package: what else goes into it, checked by `check_package`.
        dim: d, numbers of an embedding.

    Returns:
        The manifest, which is written last.

    Raises:
        CheckpointError: the graph with pixels as bytes differs from the one without by more than 1e-5 at unit length.
        DataError: the detector cannot be read.
    """
    folder = Path(folder)
    (folder / MANIFEST).unlink(missing_ok=True)  # no manifest, and none of the files before, while they change
    if package.embedded:
        take_bytes(folder / RECOGNITION)
    tasks: dict[str, Any] = {}
    if package.detector is not None:
        try:
            write_bytes(folder / DETECTION, read_regular(package.detector))
        except OSError as error:
            raise DataError(f"{package.detector}: {error.strerror}") from error
        tasks["detection"] = {
            "file": DETECTION,
            "sha256": file_digest(folder / DETECTION),
            "preprocessing": {"mean": 127.5, "std": 128.0},  # of all of InsightFace's SCRFD and RetinaFace files
        }
    else:
        (folder / DETECTION).unlink(missing_ok=True)
    tasks["recognition"] = {
        "file": RECOGNITION,
        "sha256": file_digest(folder / RECOGNITION),
        "input_size": [SIDE, SIDE],
        "embedding_dimension": dim,
        "preprocessing": "embedded" if package.embedded else {"mean": MIDDLE, "std": MIDDLE},
    }
    write_text(folder / LICENCE, package.licence)
    manifest = {"manifest_version": 2, "model_id": package.name, "display_name": package.name, "license": LICENCE}
    manifest |= {"writer": WRITER, "tasks": tasks}
    write_json(folder / MANIFEST, manifest)
    return manifest


def take_bytes(path: Path) -> None:
    """Let a float32 graph take pixels of 0 to 255 as uint8, (N, 3, 112, 112) RGB, and normalise them itself.

    Args:
        path: the file, as `export_onnx` writes it; replaced when both agree.

    Raises:
        CheckpointError: features differ by more than 1e-5 at unit length.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(str(path))
    graph = model.graph
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == INPUT:
                node.input[place] = "normalised"
    graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    graph.initializer.append(numpy_helper.from_array(np.array(MIDDLE, dtype=np.float32), "middle"))
    first = [
        helper.make_node("Cast", [INPUT], ["pixels"], name="/pixels", to=TensorProto.FLOAT),
        helper.make_node("Sub", ["pixels", "middle"], ["centred"], name="/centred"),
        helper.make_node("Div", ["centred", "middle"], ["normalised"], name="/normalised"),
    ]
    for place, node in enumerate(first):
        graph.node.insert(place, node)
    entry = next(entry for entry in model.metadata_props if entry.key == "mean")
    entry.value = "0 (in the graph)"
    next(entry for entry in model.metadata_props if entry.key == "std").value = "1 (in the graph)"
    onnx.checker.check_model(model)
    cpu = torch.device("cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, SIDE, SIDE), dtype=np.uint8)
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
        values = ((pixels.astype(np.float32) - MIDDLE) / MIDDLE).astype(np.float32)
        expected = open_session(path, cpu).run(None, {INPUT: values})[0]
        found = open_session(temporary, cpu).run(None, {INPUT: pixels})[0]
        apart = np.abs(found - expected) / np.linalg.norm(expected, axis=1, keepdims=True)
        if not apart.max() <= TOLERANCE:
            raise CheckpointError(f"{path}: with pixels as bytes features differ by {apart.max():.3g} at unit length")


def _is_ours(folder: Path) -> bool:
    """Whether a folder is a package of this project, or what a failure has left of one."""
    if (folder / MANIFEST).is_file():
        manifest = read_json(folder / MANIFEST, "manifest")
        return isinstance(manifest, dict) and manifest.get("writer") == WRITER
    return {path.name for path in folder.iterdir()} <= {RECOGNITION, DETECTION, LICENCE}
