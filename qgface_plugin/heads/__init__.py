"""Margin heads by the name that `config.qgface.margin` gives them; one file each."""

from __future__ import annotations

from ..utils.registry import MARGIN_HEADS
from . import adaface, arcface, cosface, curricularface, magface, softmax  # noqa: F401
from .head import MarginHead, Rows, margin_head

MARGIN_HEADS.freeze()

__all__ = ["MarginHead", "Rows", "margin_head"]
