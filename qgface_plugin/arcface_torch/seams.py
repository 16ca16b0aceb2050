"""The seams of an arcface_torch checkout: the names that its train_v2.py imports and that QGFace puts its parts at.

Nothing is replaced before every seam has been found as expected: the module, the name in it, its parameters, and the
import in train_v2.py that makes the loop use it.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from easydict import EasyDict

from ..utils.errors import ConfigError
from .replacements import Replacements
from .script import script_problems

LOGGER = logging.getLogger(__name__)
ADVICE = "QGFace does not know this version of arcface_torch: use a checkout of deepinsight/insightface as it is"


@dataclass(frozen=True)
class Seam:
    """A name of the checkout, the parameters that its callers rely on, and what takes its place.

    Attributes:
        module: where the loop imports it from.
        name: in that module.
        parameters: those that callers rely on.
        what: QGFace's, for the log.
        replace: (parts, the original) -> the replacement.
        called: parameters of `__call__`, for classes whose instances the loop calls.

    Example:
        >>> [seam.name for seam in SEAMS if seam.module == "partial_fc_v2"]
        ['PartialFC_V2']
    """

    module: str
    name: str
    parameters: tuple[str, ...]
    what: str
    replace: Callable[[Replacements, Any], Any]
    called: tuple[str, ...] = ()


def _get_config(parts: Replacements, original: Any) -> Any:
    def get_config(config_file: str) -> EasyDict:
        base = importlib.import_module("configs.base").config
        return EasyDict(parts.settings(base))

    return get_config


def _get_dataloader(parts: Replacements, original: Any) -> Any:
    def get_dataloader(root_dir, local_rank, batch_size, dali=False, dali_aug=False, seed=2048, num_workers=2):
        return parts.make_loader(batch_size, num_workers)

    return get_dataloader


def _combined_margin_loss(parts: Replacements, original: Any) -> Any:
    def CombinedMarginLoss(s, m1, m2, m3, interclass_filtering_threshold=0):
        return parts.make_margin()

    return CombinedMarginLoss


def _partial_fc(parts: Replacements, original: Any) -> Any:
    def PartialFC_V2(margin_loss, embedding_size, num_classes, sample_rate=1.0, fp16=False):
        return parts.make_criterion(margin_loss, embedding_size, num_classes, sample_rate, fp16)

    return PartialFC_V2


def _schedule(parts: Replacements, original: Any) -> Any:
    def PolynomialLRWarmup(optimizer, warmup_iters, total_iters):
        return parts.make_schedule(optimizer, warmup_iters, total_iters)

    return PolynomialLRWarmup


def _get_model(parts: Replacements, original: Any) -> Any:
    def get_model(name, **kwargs):
        return parts.make_backbone(original, name, **kwargs)

    return get_model


def _logging(parts: Replacements, original: Any) -> Any:
    class CallBackLogging(original):
        def __init__(self, frequent, total_step, batch_size, start_step=0, writer=None):
            super().__init__(frequent, total_step, batch_size, start_step, writer)
            parts.start_log(writer, frequent, start_step)

        def __call__(self, global_step, loss, epoch, fp16, learning_rate, grad_scaler):
            super().__call__(global_step, loss, epoch, fp16, learning_rate, grad_scaler)
            parts.record(global_step, epoch, learning_rate)

    return CallBackLogging


SEAMS = (
    Seam("utils.utils_config", "get_config", ("config_file",), "recipes by path", _get_config),
    Seam(
        "dataset",
        "get_dataloader",
        ("root_dir", "local_rank", "batch_size", "dali", "dali_aug", "seed", "num_workers"),
        "two views of every image",
        _get_dataloader,
    ),
    Seam("backbones", "get_model", ("name",), "features_bias, init_from, keys of the momentum queue", _get_model),
    Seam(
        "losses",
        "CombinedMarginLoss",
        ("s", "m1", "m2", "m3", "interclass_filtering_threshold"),
        "QGFaceMargin",
        _combined_margin_loss,
    ),
    Seam(
        "partial_fc_v2",
        "PartialFC_V2",
        ("margin_loss", "embedding_size", "num_classes", "sample_rate", "fp16"),
        "QGPartialFC",
        _partial_fc,
    ),
    Seam(
        "lr_scheduler",
        "PolynomialLRWarmup",
        ("optimizer", "warmup_iters", "total_iters"),
        "polynomial or with milestones",
        _schedule,
    ),
    Seam(
        "utils.utils_callbacks",
        "CallBackLogging",
        ("frequent", "total_step", "batch_size", "start_step", "writer"),
        "the terms of the loss beside the checkout's lines",
        _logging,
        called=("self", "global_step", "loss", "epoch", "fp16", "learning_rate", "grad_scaler"),
    ),
)


def install(checkout: Path, parts: Replacements, seams: Sequence[Seam] = SEAMS) -> None:
    """Put QGFace's parts at the seams, for a train_v2.py that imports them after this. One log line.

    Args:
        checkout: its folder, which is first on sys.path.
        parts: what is put there.
        seams: where.

    Raises:
        ConfigError: A seam is not as expected, and nothing has been replaced; the message names the file, what was
            expected in it and what was found.
    """
    modules = [find(checkout, seam) for seam in seams]
    if problems := script_problems(checkout):
        raise ConfigError("; ".join(problems))
    for seam, module in zip(seams, modules, strict=True):
        setattr(module, seam.name, seam.replace(parts, getattr(module, seam.name)))
        LOGGER.debug("%s.%s is QGFace's: %s", seam.module, seam.name, seam.what)
    LOGGER.info("QGFace's parts are at the %d seams of %s; `qgface doctor` lists them", len(seams), checkout)


def find(checkout: Path, seam: Seam) -> ModuleType:
    """The seam's module, imported from the checkout, whose folder is first on sys.path.

    Raises:
        ConfigError: As `install` has it.
    """
    expected = f"{seam.name}({', '.join(seam.parameters)})"
    file = checkout.joinpath(*seam.module.split("."))
    file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    if not file.is_file():
        raise ConfigError(f"{file} is not there: QGFace expects {expected} in it. {ADVICE}")
    try:
        module = importlib.import_module(seam.module)
    except Exception as error:
        raise ConfigError(f"{file} cannot be imported: {type(error).__name__}: {error}") from error
    if Path(module.__file__ or "").resolve() != file.resolve():
        raise ConfigError(f"the module {seam.module} is {module.__file__}, not {file}: start in a fresh process")
    original = getattr(module, seam.name, None)
    if not callable(original):
        names = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == seam.module]
        found = ", ".join(sorted(names)) or "no function or class"
        raise ConfigError(f"{file} has no {expected}, it has {found}. {ADVICE}")
    if not _takes(original, seam.parameters):
        raise ConfigError(f"{file}: expected {expected}, found {seam.name}{inspect.signature(original)}. {ADVICE}")
    if seam.called and not _takes(original.__call__, seam.called):
        expected = f"{seam.name}.__call__({', '.join(seam.called)})"
        raise ConfigError(
            f"{file}: expected {expected}, found {seam.name}.__call__{inspect.signature(original.__call__)}. {ADVICE}"
        )
    script = checkout / "train_v2.py"
    if (seam.module, seam.name) not in imports(script):
        raise ConfigError(
            f"{script} does not import {seam.name} from {seam.module}: its loop would not use it. {ADVICE}"
        )
    return module


def _takes(function: Any, expected: tuple[str, ...]) -> bool:
    """Whether the function starts with these parameters and needs no further ones."""
    parameters = list(inspect.signature(function).parameters.values())
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    rest = parameters[len(expected) :]
    return tuple(p.name for p in parameters[: len(expected)]) == expected and all(
        p.default is not p.empty or p.kind in optional for p in rest
    )


def imports(script: Path) -> set[tuple[str, str]]:
    """(module, name) of every `from module import name` in a Python file."""
    nodes = ast.walk(ast.parse(script.read_text(encoding="utf-8")))
    return {(n.module, a.name) for n in nodes if isinstance(n, ast.ImportFrom) and n.module for a in n.names}
