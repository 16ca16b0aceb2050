"""Network that keeps the graph it was imported with: trainable, and whole in its state dict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...utils.errors import CheckpointError
from ..backbones.common import checkpointed, full_precision
from .layers import LAYERS, make_layer
from .operations import OPERATIONS
from .structure import INPUT, Node, Structure

GRAPH = "graph"  # the network's name in recipes
KEY = "structure"  # of the state dict: the structure as bytes
LINEAR = ("Conv2d", "Linear")


class GraphNetwork(nn.Module):
    """Images (B, 3, 112, 112) in [-1, 1], RGB -> raw features (B, d) float32, by the operations of a graph.

    The structure is a buffer of the state dict, so that a model.pt is enough to make the network again
    (`structure_in`). The last layer with weights, and what follows, run in float32 always, as in the other backbones.

    Args:
        structure: the graph.

    Raises:
        CheckpointError: an operation that is not known.

    Example:
        >>> nodes = (
        ...     Node("GlobalAveragePool", "mean", ("data",), ("mean",)),
        ...     Node("Flatten", "flat", ("mean",), ("flat",)),
        ...     Node("Linear", "fc", ("flat",), ("out",), {"inputs": 3, "outputs": 5, "bias": True}),
        ... )
        >>> network = GraphNetwork(Structure(nodes, "out", {}, 5))
        >>> network(torch.zeros(2, 3, 112, 112)).shape, [*network.state_dict()]
        (torch.Size([2, 5]), ['structure', 'layers.fc.weight', 'layers.fc.bias'])
    """

    structure: Tensor

    def __init__(self, structure: Structure) -> None:
        super().__init__()
        self.wiring = structure
        self._bytes = structure.text().encode()
        self.register_buffer(KEY, torch.tensor(list(self._bytes), dtype=torch.uint8))
        self.layers = nn.ModuleDict()
        self.tensors = _Tensors(structure.tensors)
        for node in structure.nodes:
            if node.op in LAYERS:
                self.layers[node.name] = make_layer(node)
            elif node.op not in OPERATIONS:
                raise CheckpointError(f"{node.name}: {node.op} is no operation that is known here: update")
        self._last_use = _last_use(structure)
        self._exact_from = max((i for i, node in enumerate(structure.nodes) if node.op in LINEAR), default=0)
        self.checkpoint_activations = False
        self._parts = _parts(structure, self._exact_from)

    def forward(self, images: Tensor) -> Tensor:
        count = images.shape[0]
        values: dict[str, Any] = {INPUT: images}
        start = 0
        if self.checkpoint_activations and self.training and torch.is_grad_enabled():
            for start, end, given, result in self._parts:
                values = {result: checkpointed(self, self._part, values[given], start, end, given, result, count)}
            start = self._parts[-1][1] if self._parts else 0
        self._run(values, start, self._exact_from, count)
        with full_precision(images):
            values = {name: value.float() if _is_half(value) else value for name, value in values.items()}
            self._run(values, self._exact_from, len(self.wiring.nodes), count)
            return values[self.wiring.output]

    def _part(self, x: Tensor, start: int, end: int, given: str, result: str, count: int) -> Tensor:
        values = {given: x}
        self._run(values, start, end, count)
        return values[result]

    def _run(self, values: dict[str, Any], start: int, end: int, count: int) -> None:
        """Nodes `start` to `end`, from `values` to `values`; what no later node reads is forgotten."""
        for i in range(start, end):
            node = self.wiring.nodes[i]
            inputs = [self._input(value, values, count) for value in node.inputs]
            if node.op in LAYERS:
                results = self.layers[node.name](*inputs)
            else:
                results = OPERATIONS[node.op](*inputs, **node.attributes)
            for name, result in zip(node.outputs, results if isinstance(results, tuple) else (results,), strict=False):
                values[name] = result
            for name in self._last_use.get(i, ()):
                values.pop(name, None)

    def _input(self, value: Any, values: Mapping[str, Any], count: int) -> Any:
        if isinstance(value, str):
            return getattr(self.tensors, value[1:]) if value.startswith("$") else values[value]
        if isinstance(value, list):
            return [count * n["N"] if isinstance(n, dict) else n for n in value]
        return count * value["N"] if isinstance(value, dict) else value

    def _load_from_state_dict(
        self,
        state: Mapping[str, Any],
        prefix: str,
        metadata: Any,
        strict: bool,
        missing: Any,
        unexpected: Any,
        errors: Any,
    ) -> None:
        given = state.get(prefix + KEY)
        if given is not None and given.cpu().numpy().tobytes() != self._bytes:
            errors.append(f"{prefix}{KEY} is of another graph")
        super()._load_from_state_dict(state, prefix, metadata, strict, missing, unexpected, errors)


class _Tensors(nn.Module):
    """What operations without weights of their own compute with: parameters, and fixed numbers as buffers."""

    def __init__(self, tensors: Mapping[str, tuple[tuple[int, ...], bool]]) -> None:
        super().__init__()
        for name, (shape, trained) in tensors.items():
            if hasattr(self, name):
                raise CheckpointError(f"the graph has a tensor that is called {name!r}")
            if trained:
                self.register_parameter(name, nn.Parameter(torch.zeros(shape)))
            else:
                self.register_buffer(name, torch.zeros(shape))


def structure_in(weights: Mapping[str, Any], source: str) -> Structure | None:
    """The structure in a state dict; None in one of another network.

    Args:
        weights: state dict of a backbone, by its own names.
        source: where it is from, for messages.

    Raises:
        CheckpointError: it is damaged.
    """
    data = weights.get(KEY)
    if not isinstance(data, Tensor) or data.dtype != torch.uint8 or data.ndim != 1:
        return None
    return Structure.parsed(data.cpu().numpy().tobytes(), f"{source}: {KEY}")


def _is_half(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)


def _reads(node: Node) -> list[str]:
    return [value for value in node.inputs if isinstance(value, str) and not value.startswith("$")]


def _last_use(structure: Structure) -> dict[int, list[str]]:
    """Values that no node behind this one reads."""
    last = {name: i for i, node in enumerate(structure.nodes) for name in (*node.outputs, *_reads(node))}
    last.pop(structure.output, None)
    found: dict[int, list[str]] = {}
    for name, i in last.items():
        found.setdefault(i, []).append(name)
    return found


def _parts(structure: Structure, end: int) -> list[tuple[int, int, str, str]]:
    """The graph before node `end` in parts (start, end, value in, value out), each with one value between it and the
    next, and about as many as its square root."""
    last: dict[str, int] = {}
    for i, node in enumerate(structure.nodes):
        last |= dict.fromkeys(_reads(node), i)
    live, cuts = {INPUT}, []
    for i, node in enumerate(structure.nodes[:end]):
        live |= set(node.outputs)
        live = {name for name in live if last.get(name, -1) > i or name == structure.output}
        if len(live) == 1:
            cuts.append((i + 1, next(iter(live))))
    wanted = max(1, round(len(cuts) ** 0.5))
    chosen = _evenly(cuts, wanted)
    parts, start, given = [], 0, INPUT
    for stop, result in chosen:
        parts.append((start, stop, given, result))
        start, given = stop, result
    return parts


def _evenly(cuts: Sequence[tuple[int, str]], count: int) -> list[tuple[int, str]]:
    return [cuts[(i + 1) * len(cuts) // count - 1] for i in range(count)] if cuts else []
