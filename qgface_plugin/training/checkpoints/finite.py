"""Search for numbers that are not finite in a training checkpoint: such a state is never saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

QUEUE = "queue."  # a custom queue's buffers may hold anything


def first_not_finite(state: Mapping[str, Any]) -> str:
    """The name of the first tensor of weights, moments or gradients with an entry that is not finite, or "".

    Args:
        state: a training checkpoint; one pass over its tensors.

    Example:
        >>> import torch
        >>> first_not_finite({"state_dict_backbone": {"weight": torch.tensor([1.0, torch.inf])}})
        'state_dict_backbone.weight'
    """
    extra = state.get("qgface", {})
    parts = {key: state.get(key) for key in ("state_dict_backbone", "state_dict_softmax_fc")}
    parts["state_optimizer"] = state.get("state_optimizer", {}).get("state")
    parts.update({key: extra.get(key) for key in ("key_encoder", "gradients")})
    return next((name for key, part in parts.items() if (name := _search(part, key))), "")


def _search(value: Any, name: str) -> str:
    if isinstance(value, Tensor):
        return "" if not value.is_floating_point() or bool(value.isfinite().all()) else name
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items() if not str(key).startswith(QUEUE)]
    elif isinstance(value, (list, tuple)):
        items = [(str(i), item) for i, item in enumerate(value)]
    else:
        return ""
    return next((found for key, item in items if (found := _search(item, f"{name}.{key}"))), "")
