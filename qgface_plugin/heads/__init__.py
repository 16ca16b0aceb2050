"""Margin heads by the name that `config.qgface.margin` gives them; one file each."""

from __future__ import annotations

from . import adaface, arcface, cosface, curricularface, magface, softmax  # noqa: F401
from .head import HEADS, MarginHead, Rows, margin_head

__all__ = ["HEADS", "MarginHead", "Rows", "margin_head"]
