"""The former place of `run_recipe`: now `from qgface_plugin.launch import run_recipe`."""

from __future__ import annotations

from qgface_plugin.launch import run_recipe

__all__ = ["run_recipe"]
