"""Doing something around the execution of one of the checkout's modules, without touching its file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from ...utils.errors import ConfigError

Around = Callable[[ModuleType], AbstractContextManager[None]]


class _AroundImport(MetaPathFinder):
    """Finds one module of the checkout as Python does, and executes it within a block."""

    def __init__(self, checkout: Path, name: str, around: Around) -> None:
        self.checkout, self.name, self.around = checkout, name, around

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname == self.name else None
        if spec is None or spec.loader is None or not _within(spec.origin, self.checkout):
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            with self.around(module):
                execute(module)

        spec.loader.exec_module = exec_module
        return spec


def around_import(checkout: Path, name: str, around: Around) -> None:
    """Execute the checkout's module `name` within `around(module)` when it is imported.

    `around` is the idea of a repair, so a second call with the same one changes nothing. Modules of that name from
    elsewhere are left alone. ConfigError when the checkout's is imported already: then it is too late.
    """
    if is_around_import(checkout, name, around):
        return
    module = sys.modules.get(name)
    if module is not None and _within(getattr(module, "__file__", None), checkout):
        raise ConfigError(f"{module.__file__} was imported before it could be repaired: apply the repairs first")
    sys.meta_path.insert(0, _AroundImport(checkout, name, around))


def is_around_import(checkout: Path, name: str, around: Around) -> bool:
    """Whether `around_import` was called with these."""
    return any(
        isinstance(finder, _AroundImport) and (finder.checkout, finder.name, finder.around) == (checkout, name, around)
        for finder in sys.meta_path
    )


def _within(file: str | None, folder: Path) -> bool:
    return file is not None and folder in Path(file).resolve().parents
