"""Modules made in memory, for packages that are absent or do not import."""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType


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
    module.stands_in_for = name

    def missing(attribute: str) -> object:
        raise AttributeError(
            f"{name}.{attribute} is not part of qgface_plugin's stand-in for {name}, which serves dataset.py and "
            f"eval/verification.py of arcface_torch: install {name.partition('.')[0]} for the rest"
        )

    module.__getattr__ = missing
    return module
