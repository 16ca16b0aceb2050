"""ONNX file as a FaceModel, read as `insightface.model_zoo.ArcFaceONNX` reads it (docs/export.md).

It is a file, the recognition model of a pack (a folder of ONNX files), or a name in insightface's folder of models.
Nothing is downloaded.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..utils.errors import CheckpointError, ConfigError
from ..utils.files import models_folder, shown
from ..utils.listing import entries_in, files_in, unpacked
from ..utils.text import read_json
from .embeddings import Embeddings, check_batch_size, check_images
from .face_model import NOTHING, USUAL, Scale, as_the_model_wants, check_color, check_features
from .onnx_limits import check_graph
from .onnx_normalisation import NEEDED, SIDE, scale_outside
from .photographs import EmbedsFiles

LOGGER = logging.getLogger(__name__)
TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
ALIKE = 0.98  # cosine of images that have nothing in common, above which a model tells nothing apart


class OnnxModel(EmbedsFiles):
    """A recognition model in an onnxruntime session: images (N, 3, 112, 112) -> features (N, d).

    A graph may give unit features and their norms beside them, (N, 1) or (N,), as AdaFace's does: their product is the
    raw feature.

    Args:
        session: of onnxruntime.
        name: for tables.
        color: the order of channels that the model was trained on, "rgb" or "bgr".
        scale: what is done to pixels of 0 to 255 before the graph gets them.

    Attributes:
        warnings: what a reader of its numbers has to know, one sentence each.

    Raises:
        CheckpointError: a run on black images gives no features (N, d).
        ConfigError: a scale for a graph that takes pixels as bytes.

    Example:
        >>> from types import SimpleNamespace
        >>> class MeanColour:  # in the place of an onnxruntime.InferenceSession
        ...     def get_inputs(self):
        ...         return [SimpleNamespace(name="data", shape=["N", 3, 112, 112], type="tensor(float)")]
        ...
        ...     def run(self, outputs, feed):
        ...         return [feed["data"].mean((2, 3))]
        >>> model = OnnxModel(MeanColour(), "mean colour", "rgb")
        >>> model.embed(np.full((1, 112, 112, 3), 255, np.uint8)).original.tolist()
        [[1.0, 1.0, 1.0]]
    """

    def __init__(self, session: Any, name: str, color: str, scale: Scale = USUAL) -> None:
        self.session, self.name, self.color, self.scale = session, name, check_color(color), scale
        inputs = session.get_inputs()
        self._input, declared = inputs[0].name, inputs[0].shape[0]
        self._dtype = TYPES.get(inputs[0].type, np.float32)
        if self._dtype is np.uint8 and scale != NOTHING:
            raise ConfigError(f"{name} takes pixels of 0 to 255 as bytes and normalises them itself: leave out --mean")
        self._fixed = declared if isinstance(declared, int) else None  # images per run, where the graph fixes it
        self._feature = 0  # which output
        self._norm: int | None = None
        self.dim = self._probe()
        self.warnings = [text for text in [self._alike()] if text]

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

    def _outputs(self, pixels: np.ndarray) -> list[np.ndarray]:
        """What the graph gives for uint8 pixels (B, 112, 112, 3)."""
        if self._dtype is np.uint8:
            values = pixels
        else:
            mean, std = (np.asarray(numbers, np.float32) for numbers in (self.scale.mean, self.scale.std))
            values = (pixels.astype(np.float32) - mean) / std
        values = np.ascontiguousarray(values.transpose(0, 3, 1, 2), dtype=self._dtype)
        rows = len(values)
        if self._fixed and rows < self._fixed:
            values = np.concatenate([values, np.zeros((self._fixed - rows, *values.shape[1:]), self._dtype)])
        return [output[:rows] for output in self.session.run(None, {self._input: values})]

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        """Raw features (B, d) of uint8 pixels (B, 112, 112, 3)."""
        outputs = self._outputs(pixels)
        features: np.ndarray = outputs[self._feature]
        return features if self._norm is None else features * outputs[self._norm].reshape(-1, 1)

    def _probe(self) -> int:
        """d, from a run on two black images: what a graph declares and what it does may differ."""
        rows = self._fixed or 2
        try:
            outputs = self._outputs(np.zeros((rows, SIDE, SIDE, 3), np.uint8))
            self._feature, self._norm = _tell_apart(outputs, rows)
        except Exception as error:  # onnxruntime's errors share no base class
            if self._fixed is None:  # the batch is fixed at one somewhere inside the graph
                self._fixed = 1
                return self._probe()
            raise CheckpointError(
                f"{self.name}: a run on {self._fixed} black images gives no features (N, d): {_line(error)}"
            ) from error
        return int(outputs[self._feature].shape[1])

    def _alike(self) -> str | None:
        """What to try, when pictures that have nothing in common have nearly one feature; None when they have not."""
        shown_to_it, step = pictures(), self._fixed or 4
        features = np.concatenate([self._run(shown_to_it[start : start + step]) for start in range(0, 4, step)])
        norms = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
        if not np.isfinite(features).all() or not norms.all():
            return None  # `embed` says what is wrong with such features
        cosine = float(np.median((features / norms @ (features / norms).T)[np.triu_indices(4, 1)]))
        if cosine <= ALIKE:
            return None
        warning = (
            f"{self.name} gives nearly one feature for pictures that have nothing in common (cosine {cosine:.4f}): its "
            f"pixels are probably normalised in another way than by {self.scale}. Try --mean 0 --std 1 (its graph "
            "normalises them), --mean 0 --std 255 or what it was trained with"
        )
        LOGGER.warning("%s", warning)
        return warning


def _tell_apart(outputs: Sequence[np.ndarray], rows: int) -> tuple[int, int | None]:
    """Which output is the features (rows, d), and which one their norms, if any; ValueError when none is."""
    if any(output.shape[:1] != (rows,) for output in outputs):
        raise ValueError(f"it gives {', '.join(str(output.shape) for output in outputs)}")
    features = [
        i for i, output in enumerate(outputs) if output.ndim == 2 and (output.shape[1] > 1 or len(outputs) == 1)
    ]
    norms = [i for i, output in enumerate(outputs) if output.size == rows and i not in features]
    if len(features) != 1 or len(features) + len(norms) != len(outputs) or len(norms) > 1:
        raise ValueError(f"it gives {', '.join(str(output.shape) for output in outputs)}")
    if not norms:
        return features[0], None
    length = np.linalg.norm(outputs[features[0]].astype(np.float64), axis=1)
    norm = outputs[norms[0]].reshape(-1).astype(np.float64)
    if np.allclose(length, norm, rtol=0.01):  # the features are raw already
        return features[0], None
    if np.isfinite(length).all() and not (np.allclose(length, 1, atol=0.01) and (norm > 0).all()):
        raise ValueError(
            f"its outputs are no unit features and their norms: features of length {length.min():.4g} to "
            f"{length.max():.4g}, beside them {norm.min():.4g} to {norm.max():.4g}"
        )
    return features[0], norms[0]


def pictures() -> np.ndarray:
    """Four pictures that have nothing in common, uint8 (4, 112, 112, 3): ramps, a disc, a chequerboard."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / (SIDE - 1)
    squares = ((x * 7).astype(int) + (y * 7).astype(int)) % 2 * 255.0
    disc = np.where((x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.1, 230.0, 30.0)
    pictures = [[255 * x] * 3, [255 * (1 - y), 255 * y, 0 * x + 128], [disc] * 3, [squares, 255 - squares, 0 * x + 60]]
    return np.array(pictures).transpose(0, 2, 3, 1).astype(np.uint8)


def load_onnx_model(
    path: Path, color: str, device: torch.device, name: str | None = None, scale: Scale | None = None
) -> OnnxModel:
    """The recognition model in a file.

    Args:
        path: the file.
        color: the order of channels that the model was trained on, "rgb" or "bgr".
        device: where it runs.
        name: for tables; None: the file's.
        scale: what is done to pixels outside the graph; None: what its first operations leave to do.

    Raises:
        CheckpointError: a file that is absent, damaged or no model of aligned faces.
        ConfigError: onnxruntime or onnx is absent, or has no CUDA where a GPU is asked for.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist")
    check_graph(path)
    session = open_session(path, device)
    reason = not_recognition(session)
    if reason:
        raise CheckpointError(f"{path} is no face recognition model: {reason}")
    if scale is None:
        scale = NOTHING if session.get_inputs()[0].type == "tensor(uint8)" else scale_outside(path)
    return OnnxModel(session, name or path.stem, color, scale)


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
    if len(inputs) != 1 or not (len(outputs) == 1 or _feature_and_norm([output.shape for output in outputs])):
        named = ", ".join(f"{output.name} {_shape(output.shape)}" for output in outputs[:8])
        more = ", ..." if len(outputs) > 8 else ""
        return (
            f"it has {len(inputs)} inputs and {len(outputs)} outputs ({named}{more}), not one of each, or beside the "
            "feature its norm"
        )
    shape, kind = inputs[0].shape, inputs[0].type
    if len(shape) != 4 or any(isinstance(n, int) and n != m for n, m in zip(shape[1:], (3, SIDE, SIDE), strict=True)):
        return f"its input is {_shape(shape)}, not N x 3 x {SIDE} x {SIDE}"
    if kind not in TYPES:
        return f"its input is {kind}, not float32, float16 or uint8"
    return None


def _feature_and_norm(shapes: Sequence[Sequence[Any]]) -> bool:
    """Whether two outputs can be N x d and N x 1 or N, as far as a graph declares their shapes."""
    if len(shapes) != 2:
        return False
    one = [len(shape) < 2 or shape[-1] == 1 for shape in shapes]  # certainly one number for each image
    many = [len(shape) == 2 and isinstance(shape[-1], int) and shape[-1] > 1 for shape in shapes]
    return all(len(shape) <= 2 for shape in shapes) and not all(one) and not all(many)


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


def load_zoo_model(name: str, color: str, device: torch.device, scale: Scale | None = None) -> OnnxModel:
    """The model `name`.onnx of insightface's folder, or the recognition model of the pack (folder) of that name.

    Raises:
        CheckpointError: there is none; says where it looked.
    """
    found = zoo_path(name)
    return (
        load_pack(found, color, device, scale) if found.is_dir() else load_onnx_model(found, color, device, scale=scale)
    )


def zoo_path(name: str) -> Path:
    """The file `name`.onnx of insightface's folder, or the pack (folder) of that name.

    Raises:
        CheckpointError: there is none; says where it looked.
    """
    folder = models_folder()
    file = folder / (name if name.endswith(".onnx") else f"{name}.onnx")
    if file.is_file():
        return file
    if (folder / name).is_dir():
        return folder / name
    there = [entry.name for entry in entries_in(folder)] if folder.is_dir() else []
    raise CheckpointError(
        f"{name} is no file, and no model of insightface: neither {file} nor the folder {folder / name} is there "
        f"({'there are ' + ', '.join(there) if there else 'nothing is'}). Packs such as buffalo_l are not downloaded "
        f"here: python -c \"from insightface.utils import ensure_available; ensure_available('models', '{name}')\""
    )


def load_pack(folder: Path, color: str, device: torch.device, scale: Scale | None = None) -> OnnxModel:
    """The recognition model of a pack of ONNX files; what each other file is stands in the message when there is none.

    A pack with insightface's manifest (version 2) names the file and its normalisation.

    Raises:
        CheckpointError: no recognition model is in it.
    """
    file, name, stated = in_pack(folder)
    return load_onnx_model(file, color, device, name, scale or stated)


def in_pack(folder: Path) -> tuple[Path, str, Scale | None]:
    """The recognition model's file in a pack, its name for tables, and its normalisation where the manifest has it.

    Raises:
        CheckpointError: no recognition model is in it.
    """
    folder = unpacked(folder, ".onnx")
    described = _manifest_entry(folder)
    if described is not None:
        file, stated = described
        return folder / file, f"{folder.name}/{Path(file).stem}", stated
    others = []
    cpu = torch.device("cpu")
    for path in files_in(folder, ".onnx"):
        reason = not_recognition(open_session(path, cpu))
        if reason is None:
            return path, f"{folder.name}/{path.stem}", None
        others.append(f"{path.name}: {reason}")
    raise CheckpointError(f"{folder} has no recognition model ({'; '.join(others) or 'no .onnx file is in it'})")


def _manifest_entry(folder: Path) -> tuple[str, Scale] | None:
    """File and scale of the recognition task in manifest.json; None without a manifest of version 2."""
    if not (folder / "manifest.json").is_file():
        return None
    try:
        manifest = read_json(folder / "manifest.json", "manifest")
        if manifest.get("manifest_version") != 2:
            return None
        task = manifest["tasks"]["recognition"]
        file, scale = task["file"], task.get("preprocessing", {"mean": 127.5, "std": 127.5})
        return str(file), NOTHING if scale == "embedded" else Scale.of([float(scale["mean"])], [float(scale["std"])])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder / 'manifest.json'} names no recognition model ({error!r})") from error
