"""QGFace for InsightFace's arcface_torch: one encoder for sharp and blurred faces. Importing it changes nothing."""

from __future__ import annotations

from .config import QGFaceConfig
from .margins import QGFaceMargin
from .partial_fc import QGPartialFC

__version__ = "0.1.0"
__all__ = ["QGFaceConfig", "QGFaceMargin", "QGPartialFC", "__version__"]
