"""Encoders: built, saved, loaded from what people have, exported. A face model embeds aligned faces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..utils.lazy import lazy_names

if TYPE_CHECKING:
    from .face_model import FaceModel
    from .loading import load_model
else:
    __getattr__, __dir__ = lazy_names(__name__, {".face_model": ["FaceModel"], ".loading": ["load_model"]})

__all__ = ["FaceModel", "load_model"]
