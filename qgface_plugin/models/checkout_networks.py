"""Networks that only arcface_torch or a fork of it has (r2060, other vit_*), as ARCFACE_TORCH names it."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from torch import nn

from ..utils.errors import ConfigError

_PACKAGE = "_arcface_torch_backbones"  # the checkout's own name for it, `backbones`, may be taken by another package


def is_of_the_checkout(network: str) -> bool:
    """Whether a network's name is one that arcface_torch, or a fork of it, has; for names that are not known here.

    Example:
        >>> is_of_the_checkout("r2060"), is_of_the_checkout("r50")
        (True, False)
    """
    return network.startswith("vit_") or network == "r2060"


def checkout_network(network: str, size: int) -> nn.Module:
    """A randomly initialised network of the checkout.

    Args:
        network: its name there.
        size: d of its features.

    Raises:
        ConfigError: ARCFACE_TORCH is not set, or names no checkout; the name is not known there; a package that the
            network needs (timm) is absent.
    """
    named = os.environ.get("ARCFACE_TORCH")
    if not named:
        raise ConfigError(
            f"network {network!r} is only in arcface_torch: set ARCFACE_TORCH to a folder insightface/recognition/"
            "arcface_torch, or export the model to ONNX there and give the .onnx file"
        )
    folder = _folder(Path(named))
    try:
        return _imported(folder).get_model(network, num_features=size)
    except ImportError as error:
        missing = f"pip install {error.name.partition('.')[0]}" if error.name else "see its requirement.txt"
        raise ConfigError(f"network {network!r} of {named} does not import ({error}): {missing}") from error
    except ValueError as error:
        raise ConfigError(f"{named} has no network {network!r}: see its backbones/__init__.py") from error


def _folder(checkout: Path) -> Path:
    folder = checkout.resolve() / "backbones"
    if not (folder / "__init__.py").is_file():
        raise ConfigError(
            f"ARCFACE_TORCH names {checkout}, which is no arcface_torch checkout: {folder}/__init__.py is not there"
        )
    return folder


def _imported(folder: Path) -> ModuleType:
    source = str(folder / "__init__.py")
    loaded = sys.modules.get(_PACKAGE)
    if loaded is not None and loaded.__file__ == source:
        return loaded
    for name in [name for name in sys.modules if name.partition(".")[0] == _PACKAGE]:  # of another checkout
        del sys.modules[name]
    spec = importlib.util.spec_from_file_location(_PACKAGE, source, submodule_search_locations=[str(folder)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[_PACKAGE] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[_PACKAGE]
        raise
    return module
