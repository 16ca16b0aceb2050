"""Detector of faces: InsightFace's, where one of its models is installed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...utils.errors import ConfigError
from ...utils.files import models_folder
from ...utils.listing import files_in, unpacked

# image, uint8 (h, w, 3) RGB -> boxes (n, 4 or more) as x1, y1, x2, y2 and five points per face (n, 5, 2), all in pixels
Detector = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def insightface_detector(model: str = "buffalo_l", threshold: float = 0.5) -> Detector:
    """The detector of an installed pack, or of an ONNX file of its detectors. Nothing is downloaded.

    Args:
        model: name of a pack in ~/.insightface/models, a folder of ONNX files, or an ONNX file.
        threshold: lowest score of a face, in [0, 1].

    Returns:
        a detector that any number of threads may call; it looks at one image at a time.

    Raises:
        ConfigError: the package or the model is not there, or the model is no detector; says where it looked.
    """
    if not 0 <= threshold <= 1:
        raise ConfigError(f"threshold is {threshold}; a detector's score is in [0, 1]")
    try:
        from insightface import model_zoo
    except ImportError as error:
        raise ConfigError(
            f"finding faces needs InsightFace's package ({error}): pip install --no-deps insightface, and pip install "
            "onnx onnxruntime requests scipy scikit-image; or give landmarks in a file"
        ) from error
    files = _model_files(model)
    for file in files:
        loaded = model_zoo.get_model(str(file))
        if getattr(loaded, "taskname", None) == "detection":
            break
    else:
        raise ConfigError(f"{model}: none of {', '.join(file.name for file in files)} is a face detector")
    loaded.prepare(0, input_size=[(128, 128), (640, 640)], det_thresh=threshold)  # FaceAnalysis's sizes
    lock = threading.Lock()

    def detect(image_rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with lock:
            boxes, points = loaded.detect(np.ascontiguousarray(image_rgb[..., ::-1]))
        if points is None:
            raise ConfigError(f"{file}: this detector gives no landmarks, so faces cannot be aligned by it")
        return boxes, points

    return detect


def _model_files(model: str) -> list[Path]:
    """ONNX files that `model` may mean, detectors by their names first."""
    given, installed = Path(model).expanduser(), models_folder() / model
    if given.is_file():
        return [given]
    for folder in (given, installed):
        if files := files_in(unpacked(folder, ".onnx"), ".onnx"):
            return sorted(files, key=lambda file: (not file.name.startswith("det"), file.name))
    raise ConfigError(
        f"no face detector {model!r}: neither a file {given}, nor .onnx files in {given.absolute()} or {installed}. "
        "Nothing is downloaded here. InsightFace fetches a pack, for research only, by: "
        "python -c \"from insightface.utils import ensure_available; ensure_available('models', 'buffalo_l')\". "
        "Or give landmarks in a file with --landmarks"
    )
