"""The versions of what training, the checkout's scripts and export build on."""

from __future__ import annotations

import platform
from importlib import metadata, util

from .compat.stand_in import import_failure, is_stand_in

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
