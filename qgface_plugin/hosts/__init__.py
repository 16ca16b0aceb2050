"""Hosts run a recipe: the built-in training loop, or an arcface_torch checkout."""

from __future__ import annotations

import os
from typing import Any

from ..errors import ConfigError
from ..recipe import load_recipe


def run_recipe(path: str) -> dict[str, Any]:
    """Load and check a recipe, train it with the built-in host, and return its verification results.

    Raises ConfigError for a recipe that names an arcface_torch checkout (`config.host` or ARCFACE_TORCH): this version
    has the built-in host only, and training elsewhere than asked for would hide that.
    """
    run = load_recipe(path)
    checkout = run.host or os.environ.get("ARCFACE_TORCH")
    if checkout:
        named = "config.host" if run.host else "ARCFACE_TORCH"
        raise ConfigError(
            f"{named} names the arcface_torch checkout {checkout}, which this version cannot run yet: leave it unset "
            "to train with the built-in host"
        )
    from .builtin import train

    return train(run)
