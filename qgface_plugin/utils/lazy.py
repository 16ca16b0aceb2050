"""Names of a package that are imported when they are first asked for (PEP 562): `--help` waits for no PyTorch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any


def lazy_names(
    package: str, homes: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package that does not import its public names itself.

    Its modules are found as attributes too, as they were when it imported them.

    Args:
        package: its `__name__`.
        homes: the names of each module, which is relative to the package, such as ".margin".

    Example:
        >>> get, names = lazy_names("qgface_plugin.utils", {".errors": ["DataError"]})
        >>> get("DataError").__name__, "DataError" in names()
        ('DataError', True)
        >>> get("NoError")
        Traceback (most recent call last):
        AttributeError: module 'qgface_plugin.utils' has no attribute 'NoError'
    """

    home_of = {name: module for module, names in homes.items() for name in names}

    def get(name: str) -> Any:
        if name in home_of:
            value = getattr(import_module(home_of[name], package), name)
        elif not name.startswith("_") and _is_file(f"{package}.{name}"):
            value = import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)
        return value

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *home_of})

    return get, listed


def _is_file(module: str) -> bool:
    """Whether it is a module of the project: former paths, which warn, are only found by importing them."""
    spec = find_spec(module)
    return spec is not None and spec.has_location
