"""Backbone weights as files: `model.pt` out, and in from it or from a checkpoint, ours or arcface_torch's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from ..utils.errors import CheckpointError
from ..utils.torch_files import load, save

_WRAPPERS = ("module.", "_orig_mod.")  # DistributedDataParallel's and torch.compile's


def export_backbone(path: str | Path, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Write a plain state dict, on the CPU and without the wrappers' prefixes, atomically.

    Raises:
        CheckpointError: it could not be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "model.pt"
        >>> export_backbone(path, {"module.weight": torch.ones(2)})
        >>> read_backbone(path)
        {'weight': tensor([1., 1.])}
    """
    save(path, {_bare(name): value.detach().cpu() for name, value in state_dict.items()})


def read_backbone(path: str | Path) -> dict[str, torch.Tensor]:
    """The backbone's state dict in a `model.pt` or a training checkpoint, without the wrappers' prefixes.

    Raises:
        CheckpointError: a file that is absent, damaged, refused, or holds none.
    """
    loaded = load(path)
    if isinstance(loaded, dict):
        loaded = loaded.get("state_dict_backbone", loaded)
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(v, torch.Tensor) for v in loaded.values()):
        raise CheckpointError(f"{path} holds no backbone: no state dict, no checkpoint with state_dict_backbone")
    return {_bare(name): value for name, value in loaded.items()}


def load_backbone(path: str | Path, backbone: torch.nn.Module) -> None:
    """Fill `backbone`, wrapped or not, with the weights in `path`: a `model.pt` or a training checkpoint.

    Nothing is filled unless every name and shape agrees.

    Raises:
        CheckpointError: as `read_backbone`, or names and shapes that do not agree; counts and names them.
    """
    found = read_backbone(path)
    own = backbone.state_dict()
    names = {_bare(name): name for name in own}
    misshapen = [
        f"{bare} {tuple(found[bare].shape)} for {tuple(own[name].shape)}"
        for bare, name in names.items()
        if bare in found and found[bare].shape != own[name].shape
    ]
    problems = [
        _listed("missing", [bare for bare in names if bare not in found]),
        _listed("unexpected", [bare for bare in found if bare not in names]),
        _listed("of another shape", misshapen),
    ]
    if any(problems):
        raise CheckpointError(
            f"{path} does not fit this backbone: {'; '.join(filter(None, problems))}. Check config.network and "
            f"config.embedding_size"
        )
    backbone.load_state_dict({names[bare]: value for bare, value in found.items()})


def _bare(name: str) -> str:
    while name.startswith(_WRAPPERS):
        name = name.split(".", 1)[1]
    return name


def _listed(what: str, names: list[str], shown: int = 3) -> str:
    more = ", ..." if len(names) > shown else ""
    return f"{len(names)} {what} ({', '.join(names[:shown])}{more})" if names else ""
