"""The tools as a user calls them, without a process for each call."""

from __future__ import annotations

import importlib.util
from types import ModuleType

from paths import TOOLS


def tool(name: str) -> ModuleType:
    """tools/<name>.py as a module, whose `main(arguments)` is its command line."""
    spec = importlib.util.spec_from_file_location(f"tools_{name}", TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
