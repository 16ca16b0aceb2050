"""Recipes: Python files with an EasyDict `config`, executed by path, merged on defaults, checked."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from easydict import EasyDict

from ..utils.errors import ConfigError
from ..utils.registry import DEGRADATION_STEPS, MARGIN_HEADS, NETWORKS, QUALITY_SOURCES, QUEUE_KINDS
from .changes import changed, shown
from .degradation import degradation_policy
from .method import QGFaceConfig
from .options import DataOptions, FinetuneOptions, TrainOptions, VerifyOptions
from .packaged import packaged_recipe
from .run import Run, difference
from .schema import as_mapping, check_known, from_mapping, names_of

__all__ = ["Run", "difference", "load_config", "load_recipe"]

LOGGER = logging.getLogger(__name__)
OPTIONS = {"data": DataOptions, "train": TrainOptions, "finetune": FinetuneOptions, "verify": VerifyOptions}
GROUPS = ("degradation", *OPTIONS)
HOMES = {
    "config": [name for name in names_of(Run) if name not in ("name", "set_keys", *GROUPS)],
    "config.qgface": [*names_of(QGFaceConfig), "authors", *GROUPS],
    **{f"config.qgface.{group}": names_of(options) for group, options in OPTIONS.items()},
}
"""The keys of each group of a recipe."""
GROUP_PATHS = ("config.qgface", *(f"config.qgface.{group}" for group in GROUPS))


def load_recipe(
    path: str | os.PathLike[str],
    environ: Mapping[str, str] = os.environ,
    changes: Mapping[str, Any] = MappingProxyType({}),
) -> Run:
    """The checked settings of a recipe; `.py` may be left out, as arcface_torch's users do.

    Args:
        path: the file, or the name of a recipe of the package, such as "qgface_r34", where there is no file of that
            name. `config.output` None in it becomes work_dirs/<recipe>.
        environ: the environment, whose DATA_ROOT overrides `config.rec` of the file.
        changes: by dotted key ("qgface.b"), on top of what the file says, and of DATA_ROOT.

    Raises:
        ConfigError: The file is not there, fails, or has no `config`, or keys or values do not fit; the message names
            the file, and the changes.
    """
    file, of_package = _find(path)
    LOGGER.info("recipe%s: %s", " of the package" if of_package else "", file)
    config = _execute(file)
    source = f"{file}, changed by {shown(changes)}" if changes else str(file)
    try:
        if changes:
            LOGGER.info("changed on the command line: %s", shown(changes))
            config = changed(config, changes, file)
        if files := import_listed(config, file.parent):
            config = {**config, "imports": files}
        return _resolve(config, file.stem, {} if "rec" in changes else environ)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def load_config(recipe: str | os.PathLike[str], base: str) -> EasyDict:
    """A fresh copy of another recipe's `config`, to start from: `config = load_config(__file__, "qgface_r34.py")`.

    Groups that the other one lacks are there and empty, so that `config.qgface.data.source = "folder"` can be written
    whatever it was. `degradation` is as it was: a name, None or a group.

    Args:
        recipe: the calling recipe's `__file__`.
        base: path of the other one, relative to the folder of `recipe`; else the name of a recipe of the package.

    Raises:
        ConfigError: as `load_recipe` does.
    """
    file, of_package = _find(Path(recipe).parent / base, base)
    if of_package:
        LOGGER.info("%s starts from the recipe of the package %s", recipe, file)
    config = EasyDict(_execute(file))
    if "qgface" not in config:  # not by `setdefault`, which sets no attribute before EasyDict 1.14
        config.qgface = EasyDict()
    if isinstance(config.qgface, EasyDict):  # anything else is refused when the recipe is checked
        for group in OPTIONS:
            if group not in config.qgface:
                config.qgface[group] = EasyDict()
    return config


def _find(path: str | os.PathLike[str], name: str | os.PathLike[str] | None = None) -> tuple[Path, bool]:
    """The file of that path, else the recipe of the package of that name (the path, where there is no other), and
    whether it is that one."""
    given = Path(path)
    candidates = [given] if given.suffix == ".py" else [given, given.with_name(given.name + ".py")]
    for file in candidates:
        if file.is_file():
            return file, False
    if found := packaged_recipe(path if name is None else name):
        return found, True
    near = packaged_recipe(given.stem)
    advice = f"write `{near.stem}` for the package's" if near else "`qgface recipe` lists those of the package"
    raise ConfigError(f"there is no recipe {given}: name a Python file with an EasyDict `config`; {advice}")


def import_parts(path: str | os.PathLike[str]) -> None:
    """Run a file that registers parts of a user's own (`@margin_head`, `@network`, ...); a recipe will do.

    Args:
        path: the file. It may import modules beside it.

    Raises:
        ConfigError: it is not there, or fails; says where.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"there is no file {file} to import parts from")
    if _module_name(file) not in sys.modules:  # not while it runs itself
        _module_of(file)


def parts_of(config: Mapping[str, Any]) -> list[str]:
    """The files that have defined the parts a recipe's `config` uses, without those of the project.

    Args:
        config: plain values or an EasyDict, as the recipe sets it.
    """
    method = config.get("qgface")
    method = method if isinstance(method, Mapping) else {}
    policy = method.get("degradation")
    steps = policy.get("steps", ()) if isinstance(policy, Mapping) else ()
    named = [
        (NETWORKS, config.get("network")),
        (MARGIN_HEADS, method.get("margin")),
        (QUALITY_SOURCES, method.get("quality")),
        (QUEUE_KINDS, method.get("queue")),
        *((DEGRADATION_STEPS, step) for step in (steps if isinstance(steps, (list, tuple)) else ())),
    ]
    files = [registry.file_of(name) for registry, name in named if isinstance(name, str)]
    return [*dict.fromkeys(file for file in files if file)]


def import_listed(config: Mapping[str, Any], folder: Path) -> list[str]:
    """Run the files of `config.imports`; all files that its parts are from, as absolute paths.

    Args:
        config: plain values or an EasyDict, as the recipe sets it.
        folder: of the recipe, which the files are relative to.

    Raises:
        ConfigError: one is not there, or fails.
    """
    listed = config.get("imports", ())
    if not isinstance(listed, (list, tuple)) or not all(isinstance(file, str) for file in listed):
        raise ConfigError(f"config.imports is {listed!r}: it must be a list of files")
    files = [os.path.realpath(folder / file) for file in listed]
    for file in files:
        import_parts(file)
    return [*dict.fromkeys([*files, *parts_of(config)])]


def _module_name(file: Path) -> str:
    return f"qgface_recipe_{hashlib.sha256(os.fsencode(file.resolve())).hexdigest()[:12]}"


def _execute(file: Path) -> Mapping[str, Any]:
    if _module_name(file) in sys.modules:
        raise ConfigError(f"{file} starts from itself, directly or by way of another recipe")
    config = getattr(_module_of(file), "config", None)
    if not isinstance(config, Mapping):
        found = "no `config`" if config is None else f"a `config` of type {type(config).__name__}"
        raise ConfigError(f"{file} has {found}: a recipe sets `config = EasyDict()` and its keys")
    return config


def _module_of(file: Path) -> ModuleType:
    """The module of a file that is run."""
    name = _module_name(file)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _importable(file.resolve().parent):
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except ConfigError as error:
            raise ConfigError(f"{file}: {error}") from error
        except (Exception, SystemExit) as error:
            said = _unset(error, module) or f"{type(error).__name__}: {error}"
            raise ConfigError(f"{file} fails: {said}{_line(error, file)}") from error
    return module


def _unset(error: BaseException, module: ModuleType) -> str | None:
    """What an AttributeError of a recipe's `config` means: the group, or the key, that has not been set."""
    if not isinstance(error, AttributeError) or not isinstance(error.obj, EasyDict):
        return None
    where = _path_of(error.obj, getattr(module, "config", None), "config") or "an EasyDict"
    key = f"{where}.{error.name}"
    if key not in GROUP_PATHS:
        return f"{key} is read, but not set before"
    return f"there is no group {key} yet: write `{key} = EasyDict()` above, or start with `load_config`, which makes it"


def _path_of(wanted: object, here: object, name: str) -> str | None:
    """'config.qgface', where a group of a recipe's config stands."""
    if here is wanted:
        return name
    groups = here.items() if isinstance(here, Mapping) else ()
    return next((path for key, value in groups if (path := _path_of(wanted, value, f"{name}.{key}"))), None)


def _line(error: BaseException, file: Path) -> str:
    """' (line 12)', where in the recipe the error came from."""
    trace, line = error.__traceback__, getattr(error, "lineno", None)
    while trace is not None:
        line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == str(file) else line
        trace = trace.tb_next
    return f" (line {line})" if line else ""


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """A recipe may import modules beside it. They are forgotten afterwards: the next recipe must not see a `config`
    that this one has changed."""
    before, known = list(sys.path), set(sys.modules)
    sys.path = [*before, str(folder), str(folder.parent)]
    try:
        yield
    finally:
        sys.path = before
        for name in set(sys.modules) - known:
            module = sys.modules[name]
            source = getattr(module, "__file__", None)
            places = [Path(source).parent] if source else map(Path, getattr(module, "__path__", ()))
            if any(place.resolve() == folder for place in places):
                del sys.modules[name]


def _resolve(config: Mapping[str, Any], name: str, environ: Mapping[str, str]) -> Run:
    values = dict(config)
    check_known(values, "config", HOMES["config"], HOMES)
    set_keys = frozenset(values)
    method = as_mapping(values.pop("qgface", {}), "config.qgface")
    check_known(method, "config.qgface", HOMES["config.qgface"], HOMES)
    groups: dict[str, Any] = {}
    if "degradation" in method:
        groups["degradation"] = degradation_policy(method.pop("degradation"))
    for group, options in OPTIONS.items():
        groups[group] = from_mapping(options, method.pop(group, {}), f"config.qgface.{group}", homes=HOMES)
    if values.get("output") is None:
        values["output"] = os.path.join("work_dirs", name)
    root = environ.get("DATA_ROOT")
    if root:
        LOGGER.info("DATA_ROOT = %s takes the place of config.rec = %r", root, values.get("rec"))
        values["rec"] = root
    return Run(**values, qgface=QGFaceConfig.from_mapping(method), **groups, name=name, set_keys=set_keys)
