"""What moves in fine-tuning: layers chosen by name, a backbone that waits, and BatchNorm whose statistics stay."""

from __future__ import annotations

import difflib
import fnmatch
import logging
from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..config.options import FinetuneOptions
from ..utils.errors import ConfigError

LOGGER = logging.getLogger(__name__)
KEY = "config.qgface.finetune.freeze"


def frozen_layers(backbone: nn.Module, patterns: Sequence[str]) -> list[str]:
    """The names of the parameters that `config.qgface.finetune.freeze` means, in the network's order.

    Args:
        backbone: the network.
        patterns: names of layers, which stand for all below them; with `*` and `?` for any text; with ":" in front for
            everything from the first layer to the last one that is meant.

    Raises:
        ConfigError: a pattern that means no layer, with what is nearly so called; or nothing is left to train.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2, bias=False))
        >>> frozen_layers(network, ["0"]), frozen_layers(network, [":1.weight"])
        (['0.weight', '0.bias'], ['0.weight', '0.bias', '1.weight'])
    """
    names = [name for name, _ in backbone.named_parameters()]
    chosen: set[str] = set()
    for pattern in patterns:
        wanted = pattern.removeprefix(":")
        meant = [name for name in names if _means(wanted, name)]
        if not meant:
            raise ConfigError(f"{KEY}: no layer is {pattern!r}; {_near(wanted, names)}")
        chosen.update(names[: names.index(meant[-1]) + 1] if pattern.startswith(":") else meant)
    if names and all(name in chosen for name, parameter in backbone.named_parameters() if parameter.requires_grad):
        raise ConfigError(
            f"{KEY} = {tuple(patterns)!r} means every layer: leave some to train, or set frozen_epochs to let the "
            "whole backbone wait"
        )
    return [name for name in names if name in chosen]


def _means(wanted: str, name: str) -> bool:
    """Whether a layer's name, or one above it, is `wanted`."""
    return any(fnmatch.fnmatchcase(part, wanted) for part in _and_above(name))


def _and_above(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _near(wanted: str, names: Iterable[str]) -> str:
    known = dict.fromkeys(part for name in names for part in _and_above(name))
    near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    top = dict.fromkeys(name.partition(".")[0] for name in known)
    return f"the network's layers are {', '.join(list(top)[:12])}{', ...' if len(top) > 12 else ''}"


class Moving:
    """What of a backbone moves in a run, and when; made before the optimiser and before copies of the backbone.

    Frozen layers have no gradient, and nothing is kept for a backward pass in front of the first layer that is left.
    Their BatchNorm keeps its statistics.

    Args:
        backbone: the network; the frozen layers' `requires_grad` is switched off here.
        options: `config.qgface.finetune`.

    Raises:
        ConfigError: as `frozen_layers`.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2), nn.BatchNorm1d(2))
        >>> Moving(network, FinetuneOptions(freeze=(":1",))).set_modes(network)
        >>> [layer.training for layer in network], [p.requires_grad for p in network[1].parameters()]
        ([True, False, True, True], [False, False])
    """

    def __init__(self, backbone: nn.Module, options: FinetuneOptions) -> None:
        self._all_stay = options.batchnorm == "frozen"
        self._frozen = frozenset(frozen_layers(backbone, options.freeze))
        parameters = dict(backbone.named_parameters())
        for name in self._frozen:
            parameters[name].requires_grad_(False)
        if self._frozen:
            first = next(name for name, parameter in parameters.items() if parameter.requires_grad)
            share = sum(parameters[name].numel() for name in self._frozen) / sum(map(torch.numel, parameters.values()))
            LOGGER.info(
                "%s: %d of %d tensors stay as they are (%.0f %% of the numbers); the first one that is trained is %s",
                KEY, len(self._frozen), len(parameters), 100 * share, first,
            )  # fmt: skip

    def set_modes(self, module: nn.Module, *, waiting: bool = False) -> None:
        """Training mode, but for BatchNorm whose statistics stay.

        Args:
            module: the backbone, or a copy of it.
            waiting: the whole backbone is frozen at present.
        """
        module.train()
        for name, layer in module.named_modules():
            if isinstance(layer, _BatchNorm):
                layer.train(not (waiting or self._all_stay or f"{name}.weight" in self._frozen))
