"""Baselines: what QGFace is compared with, as changes of a recipe."""

from __future__ import annotations

from typing import Any

from easydict import EasyDict

from ..utils.errors import ConfigError

_PLAIN = {"queue": "none", "classification_gate": "none", "degradation": None}
BASELINES: dict[str, dict[str, Any]] = {
    "arcface": {**_PLAIN, "margin": "arcface", "m": 0.5, "straight_through": True},
    "cosface": {**_PLAIN, "margin": "cosface", "m": 0.4},
    "adaface": {**_PLAIN, "margin": "adaface", "m": 0.4, "cosine_rule": "clamp", "sigma_rule": "add"},
}
"""Settings of the group `qgface`: arcface_torch's two margins with its gradients, and AdaFace as its authors do it."""
_BIAS = {"arcface": True, "cosface": True, "adaface": False}  # of the last BatchNorm, as those projects have it


def baseline(config: EasyDict, name: str) -> EasyDict:
    """A recipe's config with the loss of a baseline: no gate, no queue, single views; all else as it was.

    Args:
        config: of `load_config`; it is changed.
        name: "arcface", "cosface" or "adaface".

    Returns:
        The same `config`.

    Raises:
        ConfigError: another name.

    Example:
        >>> config = baseline(EasyDict(network="r34", qgface=EasyDict(b=0.2, train=EasyDict())), "cosface")
        >>> config.qgface.margin, config.qgface.queue, config.qgface.degradation
        ('cosface', 'none', None)
    """
    if name not in BASELINES:
        raise ConfigError(f"there is no baseline {name!r}: it must be one of {', '.join(map(repr, BASELINES))}")
    config.qgface.update(BASELINES[name])
    config.qgface.train.features_bias = _BIAS[name]
    return config
