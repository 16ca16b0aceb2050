"""Detectors by name: InsightFace's, OpenCV's YuNet, or a function of one's own as `module:function`.

A function of one's own gets a photograph as uint8 (h, w, 3) RGB, whatever its file was, and returns a list with five
landmarks (5, 2) of each face, x and y in pixels: left eye, right eye, nose tip, left and right corner of the mouth,
where left is the image's left. It may return boxes too, as (boxes, landmarks): (n, 4 or more) as x1, y1, x2, y2, and
(n, 5, 2). Nothing, or an empty list, stands for no face.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...utils.errors import ConfigError, DataError
from .detector import Detector, insightface_detector

OWN = re.compile(r"([A-Za-z_][\w.]*|.+\.py):([A-Za-z_]\w*)")
YUNET_OUTPUTS = (b"cls_8", b"obj_8", b"bbox_8", b"kps_8")
NO_FACES = np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32)


def find_detector(name: str | Callable[[np.ndarray], Any], threshold: float = 0.5) -> Detector:
    """The detector that `name` means. Nothing is downloaded.

    Args:
        name: a pack of InsightFace's in ~/.insightface/models (buffalo_l), a folder of ONNX files or an ONNX file: of
            InsightFace's detectors, or OpenCV's face_detection_yunet; `module:function` or `file.py:function`, looked
            for in the working directory too; or a function (see the module).
        threshold: lowest score of a face, in [0, 1]; a function of one's own decides itself.

    Returns:
        a detector that any number of threads may call; it looks at one image at a time.

    Raises:
        ConfigError: there is none of that name, or a package is absent.
    """
    if not 0 <= threshold <= 1:
        raise ConfigError(f"threshold is {threshold}; a detector's score is in [0, 1]")
    if callable(name):
        return own_detector(name, getattr(name, "__qualname__", repr(name)))
    if (found := OWN.fullmatch(name)) and not Path(name).exists():
        return own_detector(_function(found[1], found[2]), name)
    if Path(name).is_file() and is_yunet(name):
        return yunet_detector(name, threshold)
    return insightface_detector(name, threshold)


def own_detector(function: Callable[[np.ndarray], Any], name: str) -> Detector:
    """A detector of a function of one's own, whose answers are checked.

    Args:
        function: see the module.
        name: for messages.

    Example:
        >>> detect = own_detector(lambda image: [np.arange(10.0).reshape(5, 2)], "mine")
        >>> detect(np.zeros((20, 20, 3), np.uint8))[0].tolist()
        [[0.0, 1.0, 8.0, 9.0]]
    """
    lock = threading.Lock()

    def detect(image_rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with lock:
            found = function(image_rgb)
        return _checked(found, name)

    return detect


def _checked(found: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (n, 4 or more) and points (n, 5, 2) of what a function has returned."""
    boxes = None
    if isinstance(found, tuple) and len(found) == 2 and (np.ndim(found[1]) == 3 or not len(found[1])):
        boxes, found = found
    if found is None or len(found) == 0:
        return NO_FACES
    try:
        points = np.asarray(found, dtype=np.float32)
        boxes = None if boxes is None else np.asarray(boxes, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"--detector {name} returns no numbers ({error}): {_EXPECTED}") from error
    if points.shape[1:] != (5, 2):
        raise ConfigError(f"--detector {name} returns landmarks of shape {points.shape}: {_EXPECTED}")
    if boxes is None:
        boxes = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)  # for which face is largest
    if boxes.ndim != 2 or len(boxes) != len(points) or boxes.shape[1] < 4:
        raise ConfigError(f"--detector {name} returns boxes of shape {boxes.shape}: {_EXPECTED}")
    return boxes, points


_EXPECTED = "it has to be a list with five points (5, 2) of each face, or boxes (n, 4) and landmarks (n, 5, 2)"


def _function(module: str, name: str) -> Callable[[np.ndarray], Any]:
    """The function of that name in a module or a file."""
    try:
        with _working_directory():
            loaded = _load_file(Path(module)) if module.endswith(".py") else importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(f"--detector {module}:{name}: {module} cannot be imported ({error})") from error
    function = getattr(loaded, name, None)
    if not callable(function):
        raise ConfigError(f"--detector {module}:{name}: {module} has no function {name}")
    return function


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise ImportError(f"no such file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def _working_directory() -> Iterator[None]:
    """The working directory among those that modules are looked for in, as `python -m` has it."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def is_yunet(path: str | Path) -> bool:
    """Whether an ONNX file has the outputs of OpenCV's face_detection_yunet."""
    content = Path(path).read_bytes() if Path(path).suffix.lower() == ".onnx" else b""
    return all(name in content for name in YUNET_OUTPUTS)


def yunet_detector(path: str | Path, threshold: float = 0.5) -> Detector:
    """OpenCV's YuNet (`cv2.FaceDetectorYN`) of an ONNX file, such as face_detection_yunet_2023mar.onnx of OpenCV's zoo.

    Args:
        path: the file.
        threshold: lowest score of a face, in [0, 1].

    Raises:
        ConfigError: OpenCV does not read the file.
    """
    try:
        network = cv2.FaceDetectorYN.create(str(path), "", (320, 320), threshold)
    except (cv2.error, SystemError) as error:
        raise ConfigError(f"{path}: OpenCV {cv2.__version__} does not read it as YuNet ({error})") from error
    lock = threading.Lock()

    def detect(image_rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image_bgr = np.ascontiguousarray(image_rgb[..., ::-1])
        with lock:
            network.setInputSize(image_bgr.shape[1::-1])
            try:
                _, found = network.detect(image_bgr)
            except cv2.error as error:
                raise DataError(f"YuNet cannot look at it: {error}") from error
        if found is None:
            return NO_FACES
        corner, side = found[:, :2], found[:, 2:4]  # its points begin with the person's right eye, the image's left
        return np.concatenate([corner, corner + side, found[:, 14:]], axis=1), found[:, 4:14].reshape(-1, 5, 2)

    return detect
