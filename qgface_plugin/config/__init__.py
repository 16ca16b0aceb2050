"""Settings of a recipe, each with its meaning and range, and the reading of recipes."""

from __future__ import annotations

from .baselines import baseline
from .method import QGFaceConfig
from .recipe import load_config, load_recipe
from .run import Run

__all__ = ["QGFaceConfig", "Run", "baseline", "load_config", "load_recipe"]
