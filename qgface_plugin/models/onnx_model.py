"""ONNX file as a FaceModel, read as `insightface.model_zoo.ArcFaceONNX` reads it (docs/export.md).

It is a file, the recognition model of a pack (a folder of ONNX files), or a name in insightface's folder of models.
Nothing is downloaded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..utils.errors import CheckpointError, ConfigError
from ..utils.files import models_folder, shown
from ..utils.listing import entries_in, files_in, unpacked
from .embeddings import Embeddings, check_batch_size, check_images
from .face_model import as_the_model_wants, check_color, check_features

SIDE = 112
NEEDED = "pip install 'qgface-plugin[eval]'"


class OnnxModel:
    """A recognition model in an onnxruntime session: images (N, 3, 112, 112) float32 -> features (N, d).

    Args:
        session: of onnxruntime.
        name: for tables.
        color: the order of channels that the model was trained on, "rgb" or "bgr".
        mean: what is subtracted from pixels of 0 to 255.
        std: what they are then divided by.

    Raises:
        CheckpointError: a run on black images gives no features (N, d).

    Example:
        >>> from types import SimpleNamespace
        >>> class MeanColour:  # in the place of an onnxruntime.InferenceSession
        ...     def get_inputs(self):
        ...         return [SimpleNamespace(name="data", shape=["N", 3, 112, 112], type="tensor(float)")]
        ...
        ...     def run(self, outputs, feed):
        ...         return [feed["data"].mean((2, 3))]
        >>> model = OnnxModel(MeanColour(), "mean colour", "rgb", 127.5, 127.5)
        >>> model.embed(np.full((1, 112, 112, 3), 255, np.uint8)).original.tolist()
        [[1.0, 1.0, 1.0]]
    """

    def __init__(self, session: Any, name: str, color: str, mean: float, std: float) -> None:
        self.session, self.name, self.color = session, name, check_color(color)
        self.mean, self.std = np.float32(mean), np.float32(std)
        inputs = session.get_inputs()
        self._input, declared = inputs[0].name, inputs[0].shape[0]
        self._dtype = np.float16 if inputs[0].type == "tensor(float16)" else np.float32
        self._fixed = declared if isinstance(declared, int) else None  # images per run, where the graph fixes it
        self.dim = self._probe()

    def embed(self, images: np.ndarray, batch_size: int = 64, progress: str | None = None) -> Embeddings:
        """As `FaceModel.embed`. A graph made for a fixed number of images gets that many at a time."""
        check_images(images)
        check_batch_size(batch_size)
        size = self._fixed or batch_size
        both = np.empty((2, len(images), self.dim), dtype=np.float32)
        for start in tqdm(range(0, len(images), size), desc=progress, unit="batch", disable=progress is None):
            batch = as_the_model_wants(images[start : start + size], self.color)
            for side, pixels in enumerate((batch, batch[:, :, ::-1])):  # (B, 112, 112, 3)
                both[side, start : start + size] = self._run(pixels)
        return check_features(Embeddings(*both), self.name)

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        """Features (B, d) of uint8 pixels (B, 112, 112, 3)."""
        values = (pixels.astype(np.float32) - self.mean) / self.std
        values = np.ascontiguousarray(values.transpose(0, 3, 1, 2), dtype=self._dtype)
        rows = len(values)
        if self._fixed and rows < self._fixed:
            values = np.concatenate([values, np.zeros((self._fixed - rows, *values.shape[1:]), self._dtype)])
        return self.session.run(None, {self._input: values})[0][:rows]

    def _probe(self) -> int:
        """d, from a run on two black images: what a graph declares and what it does may differ."""
        try:
            features = self._run(np.zeros((self._fixed or 2, SIDE, SIDE, 3), np.uint8))
            if features.ndim != 2 or len(features) != (self._fixed or 2):
                raise ValueError(f"it gives {features.shape}")
        except Exception as error:  # onnxruntime's errors share no base class
            if self._fixed is None:  # the batch is fixed at one somewhere inside the graph
                self._fixed = 1
                return self._probe()
            raise CheckpointError(
                f"{self.name}: a run on {self._fixed} black images gives no features (N, d): {_line(error)}"
            ) from error
        return features.shape[1]


def load_onnx_model(
    path: Path, color: str, device: torch.device, name: str | None = None, scale: tuple[float, float] | None = None
) -> OnnxModel:
    """The recognition model in a file.

    Args:
        path: the file.
        color: the order of channels that the model was trained on, "rgb" or "bgr".
        device: where it runs.
        name: for tables; None: the file's.
        scale: mean and standard deviation of the pixels outside the graph; None: `scale_outside(path)`.

    Raises:
        CheckpointError: a file that is absent, damaged or no model of aligned faces.
        ConfigError: onnxruntime or onnx is absent, or has no CUDA where a GPU is asked for.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist")
    session = open_session(path, device)
    reason = not_recognition(session)
    if reason:
        raise CheckpointError(f"{path} is no face recognition model: {reason}")
    return OnnxModel(session, name or path.stem, color, *(scale or scale_outside(path)))


def open_session(path: Path, device: torch.device) -> Any:
    """An onnxruntime session with as many threads as torch has. Raises as `load_onnx_model`."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(f"{path}: reading ONNX files needs onnxruntime: {NEEDED}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # a graph whose declared batch is 1 warns at every run otherwise
    try:
        # The name of a file that is no UTF-8 does not reach onnxruntime: then it gets the content.
        source = str(path) if shown(str(path)) == str(path) else path.read_bytes()
        return onnxruntime.InferenceSession(source, options, providers=_providers(onnxruntime, device))
    except ConfigError:
        raise
    except Exception as error:  # onnxruntime's errors share no base class
        raise CheckpointError(f"{path} cannot be loaded by onnxruntime: {_line(error)}") from error


def not_recognition(session: Any) -> str | None:
    """Why the session is no recognition model of aligned 112 x 112 faces, in words; None when it is one."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        return f"it has {len(inputs)} inputs and {len(outputs)} outputs, not one of each"
    shape, kind = inputs[0].shape, inputs[0].type
    if len(shape) != 4 or any(isinstance(n, int) and n != m for n, m in zip(shape[1:], (3, SIDE, SIDE), strict=True)):
        return f"its input is {_shape(shape)}, not N x 3 x {SIDE} x {SIDE}"
    if kind not in ("tensor(float)", "tensor(float16)"):
        return f"its input is {kind}, not float32 or float16"
    return None


def scale_outside(path: Path) -> tuple[float, float]:
    """Mean and standard deviation of pixels that a graph expects, told as ArcFaceONNX tells it.

    Returns:
        (0, 1) when the graph normalises pixels itself, which it does where a subtraction and a multiplication are among
        its first eight nodes; else (127.5, 127.5).

    Raises:
        ConfigError: onnx is absent.
    """
    try:
        import onnx
    except ImportError as error:
        raise ConfigError(f"{path}: whether its graph normalises pixels is read by onnx: {NEEDED}") from error
    names = [node.name for node in onnx.load(str(path), load_external_data=False).graph.node[:8]]
    subtracts = any(name.startswith(("Sub", "_minus")) for name in names)
    multiplies = any(name.startswith(("Mul", "_mul")) for name in names)
    return (0.0, 1.0) if subtracts and multiplies else (127.5, 127.5)


def _providers(onnxruntime: Any, device: torch.device) -> list[Any]:
    if device.type != "cuda":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise ConfigError(
            "this onnxruntime has no CUDA: install onnxruntime-gpu in its place, or use --device cpu for ONNX files"
        )
    return [("CUDAExecutionProvider", {"device_id": device.index or 0}), "CPUExecutionProvider"]


def _shape(shape: list[Any]) -> str:
    return " x ".join(str(n) if isinstance(n, int) else "N" for n in shape)


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def load_zoo_model(name: str, color: str, device: torch.device) -> OnnxModel:
    """The model `name`.onnx of insightface's folder, or the recognition model of the pack (folder) of that name.

    Raises:
        CheckpointError: there is none; says where it looked.
    """
    folder = models_folder()
    file = folder / (name if name.endswith(".onnx") else f"{name}.onnx")
    if file.is_file():
        return load_onnx_model(file, color, device)
    if (folder / name).is_dir():
        return load_pack(folder / name, color, device)
    there = [entry.name for entry in entries_in(folder)] if folder.is_dir() else []
    raise CheckpointError(
        f"{name} is no file, and no model of insightface: neither {file} nor the folder {folder / name} is there "
        f"({'there are ' + ', '.join(there) if there else 'nothing is'}). Packs such as buffalo_l are not downloaded "
        f"here: python -c \"from insightface.utils import ensure_available; ensure_available('models', '{name}')\""
    )


def load_pack(folder: Path, color: str, device: torch.device) -> OnnxModel:
    """The recognition model of a pack of ONNX files; what each other file is stands in the message when there is none.

    A pack with insightface's manifest (version 2) names the file and its normalisation.

    Raises:
        CheckpointError: no recognition model is in it.
    """
    folder = unpacked(folder, ".onnx")
    described = _manifest_entry(folder)
    if described is not None:
        file, scale = described
        return load_onnx_model(folder / file, color, device, f"{folder.name}/{Path(file).stem}", scale)
    others = []
    cpu = torch.device("cpu")
    for path in files_in(folder, ".onnx"):
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
