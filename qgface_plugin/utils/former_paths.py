"""Import paths of version 0.1 that users' recipes, scripts and checkouts hold; they go on working for one version.

`FORMER` is the whole list. A path in it is found only after Python has looked for a file of that name, and says once,
as a FutureWarning at the user's own line, what to write now. Nothing of the project imports one.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

PACKAGE = __name__.partition(".")[0]

# Former path, below the package: where its names are now, and the line to write in its place; None: no notice.
FORMER: dict[str, tuple[str, str | None]] = {
    "recipe": ("config", "from qgface_plugin.config import load_config"),
    "heads": ("loss.heads", "from qgface_plugin.loss import MarginHead, margin_head"),
    "qualities": ("loss.quality", "from qgface_plugin.loss import QualitySource, quality_source"),
    "queue_kinds": (
        "loss.feature_queue",
        "from qgface_plugin.loss.feature_queue import QueueKind, past_entries, queue_kind",
    ),
    "feature_queue": ("loss.feature_queue", "from qgface_plugin.loss import FeatureQueue"),
    "data.own_steps": ("data.degradation.custom_steps", "from qgface_plugin import degradation_step"),
    "evaluation.results": (
        "evaluation.report.results",
        "from qgface_plugin.evaluation.report.results import read_result, read_results, write_result",
    ),
    "hosts": ("launch", None),  # importing the next one imports this one
    "hosts.autoload": ("arcface_torch.autoload", "import qgface_plugin.arcface_torch.autoload"),
}


class _Finder(MetaPathFinder, Loader):
    """Modules at former paths, with the names of the modules at the new ones."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != PACKAGE or name not in FORMER:
            return None
        inner = any(other.startswith(f"{name}.") for other in FORMER)
        return ModuleSpec(fullname, self, origin=f"now {PACKAGE}.{FORMER[name][0]}", is_package=inner)

    def create_module(self, spec: ModuleSpec) -> None:
        """An ordinary new module."""

    def exec_module(self, module: ModuleType) -> None:
        now, line = FORMER[module.__name__.partition(".")[2]]
        if line is not None:
            what = f"{module.__name__} has moved, and its former path goes with the next version: write `{line}`"
            warnings.warn(what, FutureWarning, stacklevel=2)
        names = vars(importlib.import_module(f"{PACKAGE}.{now}"))
        vars(module).update({name: value for name, value in names.items() if not name.startswith("__")})


def install() -> None:
    """Let Python find the former paths; a second call changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
