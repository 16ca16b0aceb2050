"""Encoders: built, saved, loaded from what people have, exported. A face model embeds aligned faces."""

from __future__ import annotations

from .face_model import FaceModel
from .loading import load_model

__all__ = ["FaceModel", "load_model"]
