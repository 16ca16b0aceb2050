"""Repairs: what one is and how it is made, of something that a checkout expects and packages no longer have."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from ...utils.errors import ConfigError
from ...utils.listing import is_left_behind


@dataclass(frozen=True)
class Repair:
    """One repair of this process; no file of the checkout changes.

    Attributes:
        name: how logs and the doctor call it.
        reason: what fails without it, and with which versions.
        needed: whether this process needs it; False once it is applied.
        apply: applies it.

    Example:
        >>> names = {"old"}
        >>> repair = Repair("a name", "2.0 lacks it", lambda: "new" not in names, lambda: names.add("new"))
        >>> repair.needed(), repair.apply(), repair.needed()
        (True, None, False)
    """

    name: str
    reason: str
    needed: Callable[[], bool]
    apply: Callable[[], None]


# --- Doing something around the execution of one of the checkout's modules, without touching its file -----------------


Around = Callable[[ModuleType], AbstractContextManager[None]]


class _AroundImport(MetaPathFinder):
    """Finds one module of the checkout as Python does, and executes it within a block."""

    def __init__(self, checkout: Path, name: str, around: Around) -> None:
        self.checkout, self.name, self.around = checkout, name, around

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname == self.name else None
        if spec is None or spec.loader is None or not _within(spec.origin, self.checkout):
            return None
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            with self.around(module):
                execute(module)

        loader.exec_module = exec_module
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


# --- Looking into a checkout's sources, so that only what it uses is repaired -----------------------------------------


def uses(checkout: Path, pattern: str, files: str = "*.py */*.py") -> bool:
    """Whether a source file of the checkout matches a regular expression; files: globs with spaces between."""
    found = (path for glob in files.split() for path in checkout.glob(glob) if not is_left_behind(path.name))
    return any(re.search(pattern, path.read_text(encoding="utf-8", errors="replace")) for path in found)


# --- Modules made in memory, for packages that are absent or do not import --------------------------------------------


def import_failure(package: str) -> str | None:
    """Why a package does not import, in one line; None when it does.

    What a failed import leaves behind is removed, so that the next one tells the same.
    """
    known = set(sys.modules)
    try:
        importlib.import_module(package)
    except Exception as error:  # a package built for another NumPy or torch may raise anything
        for name in set(sys.modules) - known:
            if name.partition(".")[0] == package:
                del sys.modules[name]
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None


def install(package: str, contents: dict[str, dict[str, object]]) -> None:
    """Put a package of modules into `sys.modules`.

    contents: for each module, "" for the package itself and "a.b" for those within, its names. Any other name asked
    of them is an AttributeError that says what they are.
    """
    modules = {path: _module(".".join(filter(None, (package, path)))) for path in contents}
    for path, names in contents.items():
        vars(modules[path]).update(names)
        parent, _, short = path.rpartition(".")
        if path:
            setattr(modules[parent], short, modules[path])
    sys.modules.update({module.__name__: module for module in modules.values()})


def is_stand_in(package: str) -> bool:
    """Whether the imported package is one of these."""
    return hasattr(sys.modules.get(package), "stands_in_for")


def _module(name: str) -> ModuleType:
    module = ModuleType(name, "A stand-in by qgface_plugin.")
    module.__spec__ = ModuleSpec(name, None, is_package=True)
    module.__path__ = []

    def missing(attribute: str) -> object:
        raise AttributeError(
            f"{name}.{attribute} is not part of qgface_plugin's stand-in for {name}, which serves dataset.py and "
            f"eval/verification.py of arcface_torch: install {name.partition('.')[0]} for the rest"
        )

    vars(module).update(stands_in_for=name, __getattr__=missing)
    return module
