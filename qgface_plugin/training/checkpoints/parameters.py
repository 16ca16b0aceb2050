"""Parameters by name: state of the optimiser and pending gradients, checked and laid out as the parameters are now.

torch keeps the state of an optimiser by the parameters' numbers, whatever their shapes: where there is one parameter
more or fewer, another one's moments are taken, and a tensor that is too short is read and written past its end. So a
checkpoint holds the names beside (`qgface.names`), and what it holds is copied into memory of the parameter's own
layout (`channels_last` may have changed). A checkpoint without names goes by the order of the parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...utils.errors import CheckpointError

MOMENTS = {"SGD": ("momentum_buffer",), "AdamW": ("step", "exp_avg", "exp_avg_sq")}  # what an optimiser keeps
Names = dict[str, list[str]]


def names_of(backbone: nn.Module, criterion: nn.Module, optimizer: torch.optim.Optimizer) -> Names:
    """Names of the parameters: of either module in its order, and of the optimiser in the order of its numbers.

    Example:
        >>> layer, centres = nn.Linear(2, 2, bias=False), nn.Linear(2, 3, bias=False)
        >>> sgd = torch.optim.SGD([{"params": layer.parameters()}, {"params": centres.parameters()}], lr=0.1)
        >>> names_of(layer, centres, sgd)
        {'backbone': ['weight'], 'criterion': ['weight'], 'optimizer': ['backbone.weight', 'criterion.weight']}
    """
    modules = {"backbone": backbone, "criterion": criterion}
    known = {id(p): f"{part}.{name}" for part, module in modules.items() for name, p in module.named_parameters()}
    names = {part: [name for name, _ in module.named_parameters()] for part, module in modules.items()}
    return {**names, "optimizer": [known[id(parameter)] for parameter in _parameters(optimizer)]}


def restore(
    optimizer: torch.optim.Optimizer, saved: Mapping[str, Any], own: Sequence[str], names: Sequence[str] | None
) -> dict[int, dict[str, Any]]:
    """Fit the state of a saved optimiser to the parameters that this one has, by number; nothing is changed yet.

    Args:
        optimizer: of now.
        saved: `state_optimizer` of a checkpoint.
        own: names of the parameters of `optimizer`, by number.
        names: those of the saved one; None: the order is the same.

    Returns:
        For `optimizer.load_state_dict`: copies, of each parameter's memory layout, on its device.

    Raises:
        CheckpointError: a key, name, shape or type that is not the parameter's.
    """
    where, state, groups = "state_optimizer", saved.get("state"), saved.get("param_groups")
    if not isinstance(state, Mapping) or not isinstance(groups, list):
        raise CheckpointError(f"{where} has no `state` and `param_groups`")
    numbers = [number for group in groups for number in _numbers(group)]
    if sorted(numbers) != list(range(len(numbers))):
        raise CheckpointError(f"{where}.param_groups do not number the parameters from 0 on, each once")
    if names is None:
        if len(numbers) != len(own):
            raise CheckpointError(f"{where} is of {len(numbers)} parameters, and this network has {len(own)}")
        names = own
    if len(names) != len(numbers) or sorted(names) != sorted(own):
        only = sorted(set(names) ^ set(own))
        raise CheckpointError(f"{where} is of other parameters: {', '.join(only[:5]) or 'their number differs'}")
    place = {name: number for number, name in enumerate(own)}
    parameters, kept = _parameters(optimizer), MOMENTS.get(type(optimizer).__name__)
    found: dict[int, dict[str, Any]] = {}
    for number, values in state.items():
        if type(number) is not int or not 0 <= number < len(names):
            raise CheckpointError(f"{where}.state has the number {number!r}, and there are {len(names)} parameters")
        name = names[number]
        found[place[name]] = _entry(values, parameters[place[name]], f"{where}.state of {name}", kept)
    if kept == MOMENTS["SGD"] and any(entry.get("momentum_buffer") is not None for entry in found.values()):
        for number, parameter in enumerate(parameters):  # SGD takes momentum of all, or of none; at first it is 0
            entry = found.setdefault(number, {})
            if entry.get("momentum_buffer") is None:
                entry["momentum_buffer"] = torch.zeros_like(parameter, requires_grad=False)
    return found


def _entry(values: Any, parameter: Tensor, where: str, kept: Sequence[str] | None) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise CheckpointError(f"{where} is {type(values).__name__}")
    if kept is not None and (strange := values.keys() - set(kept)):
        raise CheckpointError(f"{where} has {', '.join(map(str, sorted(strange, key=str)))}: another optimiser's")
    if kept is not None and len(kept) > 1 and values and values.keys() != set(kept):
        raise CheckpointError(f"{where} lacks {', '.join(sorted(set(kept) - values.keys()))}")
    entry: dict[str, Any] = {}
    for key, value in values.items():
        if key == "step":
            count = value if type(value) in (int, float) else scalar(value, f"{where}.step")
            if not 0 <= count < 2**53:
                raise CheckpointError(f"{where}.step is {count}: no number of steps")
            entry[key] = torch.tensor(float(count))
        elif value is None and kept != MOMENTS["AdamW"]:  # SGD has none before its first step
            entry[key] = None
        else:
            entry[key] = laid_out(value, parameter, f"{where}.{key}")
    return entry


def laid_out(value: Any, parameter: Tensor, where: str) -> Tensor:
    """A copy of a saved tensor in the parameter's memory layout and on its device.

    Raises:
        CheckpointError: it is none, or not of the parameter's shape and type.
    """
    check_tensor(value, where, parameter.shape, parameter.dtype)
    return torch.empty_like(parameter, requires_grad=False).copy_(value)


def check_tensor(value: Any, where: str, shape: Sequence[int] | None, dtype: torch.dtype) -> None:
    """Check that a saved value is a plain tensor of a shape (None: any) and type.

    Raises:
        CheckpointError: it is not; the message begins with `where`.
    """
    if not isinstance(value, Tensor):
        raise CheckpointError(f"{where} is {type(value).__name__}, not a tensor")
    if value.layout != torch.strided or value.is_quantized or value.device.type not in ("cpu", "cuda"):
        raise CheckpointError(f"{where} is no plain tensor: {value.layout} on {value.device.type}")
    if value.dtype != dtype or (shape is not None and value.shape != torch.Size(shape)):
        expected = "" if shape is None else f" {tuple(shape)}"
        raise CheckpointError(f"{where} is {value.dtype} {tuple(value.shape)} and should be {dtype}{expected}")


def scalar(value: Any, where: str) -> float:
    """The number in a saved 0-d tensor.

    Raises:
        CheckpointError: it is none.
    """
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_meta or value.ndim:
        raise CheckpointError(f"{where} is no number")
    return float(value)


def pending_gradients(backbone: nn.Module, criterion: nn.Module) -> dict[str, list[Tensor | None]] | None:
    """The gradients that wait for an update (gradient_acc), parameter by parameter; None when none do."""
    gradients = {
        part: [parameter.grad for parameter in module.parameters()]
        for part, module in (("backbone", backbone), ("criterion", criterion))
    }
    waiting = any(gradient is not None for of_module in gradients.values() for gradient in of_module)
    return gradients if waiting else None


def restored_gradients(
    pending: Any, backbone: nn.Module, criterion: nn.Module, names: Mapping[str, Sequence[str]] | None
) -> list[tuple[nn.Parameter, Tensor | None]]:
    """The saved gradients with the parameters that they belong to; nothing is changed.

    Args:
        pending: what `pending_gradients` returned.
        backbone, criterion: of now.
        names: of the saved parameters, as `names_of` has them; None: the order is the same.

    Raises:
        CheckpointError: a name, shape or type that is not the parameter's.
    """
    if pending is None:
        return []
    if not isinstance(pending, Mapping) or pending.keys() != {"backbone", "criterion"}:
        raise CheckpointError("qgface.gradients are not those of backbone and criterion")
    found: list[tuple[nn.Parameter, Tensor | None]] = []
    for part, module in (("backbone", backbone), ("criterion", criterion)):
        own, gradients, where = dict(module.named_parameters()), pending[part], f"qgface.gradients.{part}"
        saved = list(own) if names is None else names[part]
        if not isinstance(gradients, list) or len(gradients) != len(saved) or sorted(saved) != sorted(own):
            raise CheckpointError(f"{where} are not those of the {len(own)} parameters of this network")
        for name, value in zip(saved, gradients, strict=True):
            gradient = None if value is None else laid_out(value, own[name], f"{where}.{name}")
            found.append((own[name], gradient))
    return found


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _numbers(group: Any) -> list[int]:
    numbers = group.get("params") if isinstance(group, Mapping) else None
    if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
        raise CheckpointError("state_optimizer.param_groups have no numbers of parameters")
    return numbers
