"""Contents of a checkpoint, field by field: types, keys, shapes and ranges, before the first tensor is touched.

A file can be whole, by its checksum, and still hold what no run has saved: made by hand, by another program, for
another network. Nothing of that may reach a module, an index or a random generator.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...loss.feature_queue import FeatureQueue
from ...utils.errors import CheckpointError
from .parameters import Names, check_tensor, scalar

MOST = 1 << 53  # a counter beyond it is no counter
COUNTERS = ("step_in_epoch", "bad_in_a_row", "skipped")
QUEUE = "queue."


def check_counters(saved: Mapping[str, Any]) -> None:
    """Check the numbers that say where a run was, and whose checkpoint it is.

    Raises:
        CheckpointError: one is absent, of another type or out of range; the message names it.
    """
    extra = saved["qgface"]
    fields = {key: (saved.get(key), 0) for key in ("epoch", "global_step")}
    fields.update({f"qgface.{key}": (extra.get(key), 0) for key in COUNTERS})
    fields.update({f"qgface.{key}": (extra.get(key), 1) for key in ("world_size", "global_batch")})
    for key, (value, low) in fields.items():
        if type(value) is not int or not low <= value < MOST:
            raise CheckpointError(f"{key} is {value!r}: it must be a whole number of at least {low}")
    if type(extra.get("run_id")) is not str:
        raise CheckpointError(f"qgface.run_id is {extra.get('run_id')!r}: it must be a name")
    if type(extra.get("recipe")) is not dict or not _plain_mapping(extra["recipe"]):
        raise CheckpointError("qgface.recipe is no recipe")


def check_names(names: Any) -> Names | None:
    """The names of the parameters, where a checkpoint has them.

    Raises:
        CheckpointError: they are something else.
    """
    if names is None:
        return None
    parts = ("backbone", "criterion", "optimizer")
    fits = type(names) is dict and names.keys() == set(parts)
    if not fits or not all(type(names[part]) is list and all(type(n) is str for n in names[part]) for part in parts):
        raise CheckpointError("qgface.names are not the names of parameters")
    return names


def check_module(saved: Any, module: nn.Module, where: str) -> None:
    """Check a module's saved state against the module: the same keys, and tensors of the same shapes and types.

    Raises:
        CheckpointError: the message names the first key that differs.
    """
    own = module.state_dict()
    if not isinstance(saved, Mapping) or not all(type(key) is str for key in saved):
        raise CheckpointError(f"{where} is no state of a module")
    for key in own.keys() - saved.keys():
        raise CheckpointError(f"{where} lacks {key}")
    for key in saved.keys() - own.keys():
        raise CheckpointError(f"{where} has {key}, which this network does not have")
    for key, now in own.items():
        if not isinstance(now, Tensor):
            continue
        free = key.startswith(QUEUE)  # a queue grows
        check_tensor(saved[key], f"{where}.{key}", None if free else now.shape, now.dtype)
        if saved[key].ndim != now.ndim:
            raise CheckpointError(f"{where}.{key} has {saved[key].ndim} dimensions and should have {now.ndim}")
        if not now.ndim and not now.is_floating_point() and scalar(saved[key], key) < 0:
            raise CheckpointError(f"{where}.{key} is {int(saved[key])}: no counter")


def check_queue(saved: Mapping[str, Any], queue: FeatureQueue | None, classes: int, where: str) -> None:
    """Check a queue's saved buffers, whose keys and types `check_module` has checked.

    Args:
        saved: the criterion's state.
        queue: of now.
        classes: centres of this rank.
        where: for the message.

    Raises:
        CheckpointError: lengths that differ, or numbers that no queue holds.
    """
    if queue is None:
        return
    found = {name: saved[QUEUE + name] for name in queue.BUFFERS if QUEUE + name in saved}
    lengths = {name: len(value) for name, value in found.items()}
    if len(set(lengths.values())) > 1:
        raise CheckpointError(f"{where}.queue has buffers of different lengths: {lengths}")
    for name, value in found.items():
        if value.shape[1:] != getattr(queue, name).shape[1:]:
            raise CheckpointError(f"{where}.queue.{name} is of entries {tuple(value.shape[1:])}")
    slots, labels = max(lengths.values(), default=0), found.get("labels")
    if labels is not None and len(labels) and not -1 <= int(labels.min()) <= int(labels.max()) < classes:
        raise CheckpointError(f"{where}.queue.labels are not those of {classes} classes")
    cursor = saved.get(QUEUE + "cursor")
    if cursor is not None and not 0 <= int(cursor) <= max(slots - 1, 0):
        raise CheckpointError(f"{where}.queue.cursor is {int(cursor)} of {slots} slots")


def check_scaler(saved: Any) -> None:
    """Check the state of a float16 scaler; {} where there was none.

    Raises:
        CheckpointError: it is none.
    """
    keys = {"scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"}
    fits = type(saved) is dict and (not saved or saved.keys() == keys)
    if not fits or not all(type(value) in (int, float) and 0 <= value < math.inf for value in saved.values()):
        raise CheckpointError("qgface.scaler is no state of a scaler")


def check_record(saved: Any) -> None:
    """Check what the next line of the log already holds.

    Raises:
        CheckpointError: it is something else.
    """
    if saved is None:
        return
    means, watch = (saved.get("means"), saved.get("watch")) if isinstance(saved, Mapping) else (None, None)
    kinds = [type(value) for value in watch] if isinstance(watch, (list, tuple)) else []
    order = len(kinds) == 3 and kinds[1] is int and {kinds[0], kinds[2]} <= {int, float, type(None)}
    order = order and all(value is None or math.isfinite(value) for value in watch or ())
    if not order or not isinstance(means, Mapping) or not _fits_means(means) or not _fits_idle(saved):
        raise CheckpointError("qgface.record is not what a line of the log is made of")


def _fits_idle(saved: Mapping[str, Any]) -> bool:
    """Whether the numbers of `IdleWatch` are such; a checkpoint of before has none."""
    if "idle" not in saved:
        return True
    idle = saved["idle"]
    if not isinstance(idle, (list, tuple)) or len(idle) != 5:
        return False
    seen, epoch, steps, total, warned = idle
    whole = type(seen) is int and type(steps) is int and all(type(n) in (int, type(None)) for n in (epoch, warned))
    return whole and type(total) in (int, float) and math.isfinite(total)


def _fits_means(means: Mapping[str, Any]) -> bool:
    sums, counts = means.get("sums"), means.get("counts")
    if type(means.get("steps")) is not int or not isinstance(sums, Mapping) or not isinstance(counts, Mapping):
        return False
    names = sums.keys() == counts.keys() and all(type(key) is str for key in sums)
    return names and all(type(n) is int and n > 0 for n in counts.values()) and all(map(_number, sums.values()))


def _number(value: Any) -> bool:
    return type(value) in (int, float) or (isinstance(value, Tensor) and value.ndim == 0 and value.device.type == "cpu")


def check_rng(saved: Any) -> None:
    """Check the states of the random generators, by giving them to other generators; None where there are none.

    Raises:
        CheckpointError: one is no state.
    """
    if saved is None:
        return
    if not isinstance(saved, Mapping):
        raise CheckpointError("qgface.rng are no states of random generators")
    checks = {"python": _check_python, "numpy": _check_numpy, "torch": _check_torch, "cuda": _check_cuda}
    for name, check in checks.items():
        try:
            if name in saved or name != "cuda":
                check(saved[name])
        except Exception as error:  # each of the four has its own ways of refusing
            raise CheckpointError(f"qgface.rng.{name} is no state of a random generator: {error}") from error


def _check_python(state: Any) -> None:
    if not isinstance(state, Mapping) or not (state["gauss"] is None or type(state["gauss"]) is float):
        raise TypeError("its entries are none")
    check_tensor(state["state"], "state", (625,), torch.int64)
    random.Random(0).setstate((state["version"], tuple(state["state"].tolist()), state["gauss"]))


def _check_numpy(state: Any) -> None:
    rest = state["rest"] if isinstance(state, Mapping) else None
    if not isinstance(rest, (list, tuple)) or [type(value) for value in rest] != [int, int, float]:
        raise TypeError("its entries are none")
    position, has_gauss, cached = rest
    check_tensor(state["keys"], "keys", (624,), torch.int64)
    keys = state["keys"].numpy()
    if not 0 <= position <= 624 or has_gauss not in (0, 1) or keys.min() < 0 or keys.max() >= 1 << 32:
        raise ValueError("its entries are out of range")  # which NumPy does not look at
    mersenne = np.random.RandomState(0)  # noqa: NPY002
    mersenne.set_state((state["name"], keys.astype(np.uint32), position, has_gauss, cached))


def _check_torch(state: Any) -> None:
    check_tensor(state, "state", None, torch.uint8)
    torch.Generator().set_state(state)


def _check_cuda(state: Any) -> None:
    check_tensor(state, "state", None, torch.uint8)
    if torch.cuda.is_available():
        torch.Generator("cuda").set_state(state)


def check_share(extra: Mapping[str, Any], rank: int, share: tuple[int, int]) -> None:
    """Check that a checkpoint is this rank's, of its classes; one of 0.1.0 does not say.

    Raises:
        CheckpointError: it is another rank's.
    """
    if "rank" in extra and extra["rank"] != rank:
        raise CheckpointError(f"it is of rank {extra['rank']!r}, and this is rank {rank}")
    if "classes" in extra and extra["classes"] != list(share):
        raise CheckpointError(f"its classes (first, number) are {extra['classes']!r}, and rank {rank} owns {share}")


def check_teacher(saved: Any, now: tuple[str, str]) -> None:
    """Check that the run's frozen teacher is the one of the checkpoint, which does not hold its weights.

    Args:
        saved: [file, SHA-256] of then.
        now: file and SHA-256.

    Raises:
        CheckpointError: it is another one.
    """
    if type(saved) is not list or len(saved) != 2 or not all(type(part) is str for part in saved):
        raise CheckpointError(f"qgface.teacher is {saved!r}: it must name a file and its SHA-256")
    if saved[1] != now[1]:
        raise CheckpointError(
            f"its teacher was {saved[0]} (SHA-256 {saved[1][:12]}...), and {now[0]} is another one (SHA-256 "
            f"{now[1][:12]}...): name the same weights by config.init_from or config.qgface.finetune.teacher"
        )


def _plain_mapping(value: Any, depth: int = 0) -> bool:
    """Whether a value is what JSON has, its keys names."""
    if isinstance(value, Mapping):
        return depth < 9 and all(type(k) is str and _plain_mapping(v, depth + 1) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return depth < 9 and all(_plain_mapping(item, depth + 1) for item in value)
    return value is None or type(value) in (bool, int, float, str)
