"""Networks of one's own, by a name that recipes use: the decorator `@network`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ...utils.registry import NETWORKS

Factory = TypeVar("Factory", bound=Callable[..., Any])


def network(name: str) -> Callable[[Factory], Factory]:
    """Make a class or a function known as `config.network = name`.

    It is called with `num_features=d, features_bias=...` and gives an nn.Module: images (B, 3, 112, 112) in [-1, 1],
    RGB -> raw features (B, d) float32. With `features_bias=False` the last layer is to have no bias, so that the norm
    of a feature can tell quality (docs/method.md). A module with an attribute `checkpoint_activations` is told by it
    when the recipe asks for that.

    Args:
        name: none of the project's own, and without a colon.

    Raises:
        ValueError: the name is taken, or has a colon.

    Example:
        >>> from torch import nn
        >>> @network("mean_colour")
        ... class MeanColour(nn.Sequential):
        ...     def __init__(self, num_features, features_bias=True):
        ...         super().__init__(nn.AvgPool2d(112), nn.Flatten(), nn.Linear(3, num_features, features_bias))
        >>> NETWORKS["mean_colour"] is MeanColour
        True
    """
    if ":" in name:
        raise ValueError(f"a network cannot be called {name!r}: names with a colon are those of other packages")

    def register(factory: Factory) -> Factory:
        NETWORKS.add(name, factory)
        return factory

    return register
