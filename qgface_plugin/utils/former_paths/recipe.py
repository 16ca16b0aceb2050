"""The former place of `load_config`, which recipes import: now `from qgface_plugin.config import load_config`."""

from __future__ import annotations

from qgface_plugin.config import Run, load_config, load_recipe

__all__ = ["Run", "load_config", "load_recipe"]
