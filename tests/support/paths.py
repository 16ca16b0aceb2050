"""Folders of the project, wherever in the tree a test stands."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
RECIPES = ROOT / "recipes"
TOOLS = ROOT / "tools"
