"""Backbone weights as files: `model.pt` out, and in from it, from a checkpoint, and from what others save."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from ..utils.errors import CheckpointError
from ..utils.listing import files_in
from ..utils.tensor_files import read_tensors
from ..utils.tensor_pickle import StoredTensor
from ..utils.torch_files import save

LOGGER = logging.getLogger(__name__)
_WRAPPERS = ("module.", "_orig_mod.")  # DistributedDataParallel's and torch.compile's
# Where a checkpoint keeps the backbone; of several, the first one.
_HOLDERS = (
    "state_dict_backbone", "backbone_state_dict", "backbone", "encoder", "state_dict", "model_state_dict",
    "model_state", "model", "net", "network", "weights", "params",
)  # fmt: skip
_USUAL = frozenset("module _orig_mod model backbone net network encoder".split())  # names of a backbone in a module
# What stands beside a backbone in one module: layers of the training's loss, never of a network that embeds.
_HEADS = frozenset(
    "arc_face arcface class_centers class_centres classifier criterion head heads kernel logits loss loss_fn margin "
    "margin_loss margin_softmax metric metric_fc partial_fc module_partial_fc".split()
)
_ENDINGS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".tar")
_NO_WEIGHTS = re.compile("optim|sched|scaler|callback|loops|rng")  # in the names of other entries of a checkpoint


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


def read_backbone(path: str | Path, wanted: Collection[str] = ()) -> dict[str, torch.Tensor]:
    """The backbone's state dict in a file of weights, by the names that the backbone has for its parameters.

    Wrappers (`{"state_dict": ...}`, `{"model": ...}`, ...), prefixes of modules around it (`model.`,
    `module.backbone.`) and heads beside it are left out; a line in the log says so.

    Args:
        path: a `model.pt`, a training checkpoint, ours, arcface_torch's or another trainer's, of any version of
            torch.save, or a safetensors file.
        wanted: parameters by which the backbone is found among other modules, all of its own or some that it may have;
            none: all that the file holds is the backbone.

    Raises:
        CheckpointError: a file that is absent, damaged, refused, or holds no backbone, or several.
    """
    stored = {_bare(name): value for name, value in _state_dict(read_tensors(path), path).items()}
    if not stored:
        raise CheckpointError(f"{path} holds no backbone: no state dict, no checkpoint with state_dict_backbone")
    prefix = _prefix_of(stored, wanted, path)
    chosen = {name[len(prefix) :]: value for name, value in stored.items() if name.startswith(prefix)}
    beside = [name for name in stored if not name.startswith(prefix)]
    heads = [name for name in chosen if name.partition(".")[0] in _HEADS and name not in wanted]
    if len(heads) < len(chosen):
        chosen = {name: value for name, value in chosen.items() if name not in heads}
        beside += [prefix + name for name in heads]
    if beside:
        LOGGER.info(
            "%s: taken are the %d parameters%s; left out: %s",
            path,
            len(chosen),
            f" under {prefix!r}" if prefix else "",
            _listed("beside them", beside),
        )
    claimed = sum(math.prod(value.shape) * value.dtype.itemsize for value in chosen.values())
    if claimed > 2 * Path(path).stat().st_size:
        raise CheckpointError(f"{path} is damaged: its tensors claim {claimed} bytes, more than the file has")
    return {name: value.read() for name, value in chosen.items()}


def load_backbone(path: str | Path, backbone: torch.nn.Module) -> None:
    """Fill `backbone`, wrapped or not, with the weights in `path`.

    Nothing is filled unless every name and shape agrees; BatchNorm's counters, which old and exported files lack, stay
    as they are.

    Args:
        path: as `read_backbone` takes it, or a folder with a `model.pt`.
        backbone: the network.

    Raises:
        CheckpointError: as `read_backbone`, or names and shapes that do not agree; counts and names them.
    """
    file = weights_file(path)
    own = backbone.state_dict()
    names = {_bare(name): name for name in own}
    found = read_backbone(file, names)
    misshapen = [
        f"{bare} {tuple(found[bare].shape)} for {tuple(own[name].shape)}"
        for bare, name in names.items()
        if bare in found and found[bare].shape != own[name].shape
    ]
    problems = [
        _listed("missing", [bare for bare in names if bare not in found and not is_counter(bare)]),
        _listed("unexpected", [bare for bare in found if bare not in names]),
        _listed("of another shape", misshapen),
    ]
    if any(problems):
        raise CheckpointError(
            f"{file} does not fit this backbone: {'; '.join(filter(None, problems))}. Check config.network and "
            f"config.embedding_size"
        )
    backbone.load_state_dict({name: found.get(bare, own[name]) for bare, name in names.items()})


def weights_file(path: str | Path) -> Path:
    """The file of weights that `path` names: itself, or `model.pt` of a folder.

    Raises:
        CheckpointError: a folder without one, naming what it has; an ONNX file.
    """
    path = Path(path)
    if path.is_dir():
        if (path / "model.pt").is_file():
            return path / "model.pt"
        raise CheckpointError(f"{path} is a folder without model.pt{others_in(path)}")
    if path.suffix == ".onnx" and path.is_file():
        raise CheckpointError(
            f"{path} is an ONNX file, no PyTorch weights: give the model.pt that it was exported from, or make one "
            f"with `qgface import {path} -o model.pt --images FACES`"
        )
    return path


def others_in(folder: Path) -> str:
    """What a message says of a folder without model.pt: which other files of weights it has."""
    there = [path.name for path in files_in(folder, *_ENDINGS)]
    return f": name one of its files, {', '.join(there[:8])}" if there else ", and without any other file of weights"


def is_counter(name: str) -> bool:
    """Whether a parameter is the counter of batches of a BatchNorm."""
    return name.endswith("num_batches_tracked")


def _state_dict(value: Any, path: str | Path, depth: int = 4) -> dict[str, StoredTensor]:
    """The state dict in what a file holds; empty where there is none."""
    if not isinstance(value, dict) or not depth:
        return {}
    named = {_text(key): entry for key, entry in value.items()}
    for holder in _HOLDERS:
        if found := _state_dict(named.get(holder), path, depth - 1):
            return found
    own = {name: entry for name, entry in named.items() if isinstance(entry, StoredTensor)}
    if any("." in name for name in own):
        return own
    inner = {name: _state_dict(entry, path, depth - 1) for name, entry in named.items() if not _NO_WEIGHTS.search(name)}
    most = max(map(len, [own, *inner.values()]))
    largest = [name for name, found in inner.items() if len(found) == most]
    if len(own) == most or not most:
        return own
    if len(largest) > 1:
        raise CheckpointError(
            f"{path} holds {len(largest)} state dicts, {', '.join(map(repr, largest))}: save the one that is meant"
        )
    return inner[largest[0]]


def _prefix_of(names: Collection[str], wanted: Collection[str], path: str | Path) -> str:
    """What stands before the backbone's own names, such as "model."; "" where nothing does."""
    counts = {prefix: sum(prefix + name in names for name in wanted) for prefix in _prefixes(names)}
    most = max(counts.values())
    best = [prefix for prefix, count in counts.items() if count == most]
    if most == 0:
        return ""
    usual = [prefix for prefix in best if _USUAL.issuperset(prefix.split(".")[:-1])]
    best = usual if len(usual) == 1 else best
    if len(best) > 1:
        raise CheckpointError(
            f"{path} holds {len(best)} backbones, under {', '.join(map(repr, best))}: save the one that is meant"
        )
    return best[0]


def _prefixes(names: Collection[str]) -> list[str]:
    """Every beginning of a name that ends in a dot, and "", each once and in their order."""
    found = {"": None}
    for name in names:
        parts = name.split(".")
        found |= dict.fromkeys(".".join(parts[:end]) + "." for end in range(1, len(parts)))
    return list(found)


def _text(key: object) -> str:
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)


def _bare(name: str) -> str:
    while name.startswith(_WRAPPERS):
        name = name.split(".", 1)[1]
    return name


def _listed(what: str, names: list[str], shown: int = 3) -> str:
    more = ", ..." if len(names) > shown else ""
    return f"{len(names)} {what} ({', '.join(names[:shown])}{more})" if names else ""
