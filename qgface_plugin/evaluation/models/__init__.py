"""Face models from files and names: what every evaluation tool takes as --model."""

from __future__ import annotations

from .arguments import add_model_arguments, model_from_arguments
from .color_order import ColorOrder, check_color_order
from .face_model import FaceModel
from .loading import load_model

__all__ = [
    "ColorOrder",
    "FaceModel",
    "add_model_arguments",
    "check_color_order",
    "load_model",
    "model_from_arguments",
]
