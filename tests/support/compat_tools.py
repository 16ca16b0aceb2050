"""Small checkouts for the tests of repairs, and keeping what a repair changes within one test."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

TRAINER = "from dataset import get_dataloader\nfrom partial_fc_v2 import PartialFC_V2\n"


def write_checkout(folder: Path, sources: Mapping[str, str] | None = None, **more: str) -> Path:
    """A folder with a train_v2.py and the given sources; keys are paths without .py."""
    for name, source in {"train_v2": TRAINER, **(sources or {}), **more}.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return folder


@contextmanager
def importing_from(folder: Path) -> Iterator[None]:
    """A block in which the checkout is importable; afterwards its modules and stand-ins are forgotten, and import path,
    finders and filters are as before."""
    path, finders, before = list(sys.path), list(sys.meta_path), dict(sys.modules)
    with warnings.catch_warnings():
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
        try:
            yield
        finally:
            sys.path[:], sys.meta_path[:] = path, finders
            for name in [name for name, module in sys.modules.items() if _is_passing(module, folder)]:
                del sys.modules[name]
            sys.modules.update(before)


def _is_passing(module: ModuleType | None, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    inside = file is not None and folder.resolve() in Path(file).resolve().parents
    return module is None or inside or hasattr(module, "stands_in_for")
