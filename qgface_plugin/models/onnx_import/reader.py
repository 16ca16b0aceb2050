"""Reader of an ONNX graph: the structure and the weights while they are made, and the shapes on the way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .folding import SIDE, Folded
from .layers import LAYERS, make_layer
from .operations import OPERATIONS
from .structure import INPUT, Node

SHAPE = (2, 3, SIDE, SIDE)  # of the images on which shapes are followed


class Reader:
    """The structure and the weights of a graph while they are made, node by node.

    Attributes:
        nodes: so far.
        weights: state dict of the network so far, without the structure.
        tensors: as `Structure.tensors`.
        layered: whether a layer has been met: constants before it are no weights.
    """

    def __init__(self, folded: Folded, opset: int) -> None:
        self.folded, self.opset = folded, opset
        self.nodes: list[Node] = []
        self.weights: dict[str, Tensor] = {}
        self.tensors: dict[str, tuple[tuple[int, ...], bool]] = {}
        self.layered = False
        self.values: dict[str, str] = {}  # name in the file -> name in the structure
        self._meta: dict[str, Any] = {INPUT: torch.zeros(SHAPE, device="meta")}
        self._names: set[str] = set()
        self._count = 0

    def is_value(self, name: str) -> bool:
        """Whether an input of a node depends on pixels."""
        return name in self.values

    def shape(self, value: str) -> tuple[int, ...]:
        """Shape of a value of the structure, for two images."""
        return tuple(self._meta[value].shape)

    def array(self, name: str, what: str) -> np.ndarray:
        """The numbers of a constant.

        Raises:
            ValueError: it is none; `what` says in words what it is.
        """
        found = None if self.is_value(name) or name not in self.folded else self.folded.array(name)
        if found is None:
            raise ValueError(f"its {what} is computed from the images")
        return found

    def layer(self, op: str, hint: str, value: str, weights: Mapping[str, np.ndarray], **attributes: Any) -> str:
        """Add a layer on `value`; the name of what it gives."""
        name = self._unused(hint)
        node = Node(op, name, (value,), (self._value(),), attributes)
        expected = make_layer(node).to("meta").state_dict()
        for key, array in weights.items():
            tensor = torch.from_numpy(np.array(array, dtype=np.float32))
            if tensor.shape != expected[key].shape:
                raise ValueError(f"its {key} is {tuple(tensor.shape)}, not {tuple(expected[key].shape)}")
            self.weights[f"layers.{name}.{key}"] = tensor
        if "num_batches_tracked" in expected:
            self.weights[f"layers.{name}.num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
        self.layered = True
        return self._add(node)[0]

    def operation(self, op: str, hint: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> list[str]:
        """Add an operation; the names of what it gives."""
        names = tuple(self._value() for _ in range(outputs))
        return self._add(Node(op, self._unused(hint), inputs, names, attributes))

    def operand(self, name: str, hint: str = "") -> Any:
        """An input of an operation: a value's name, a number, or a tensor that is kept with the weights."""
        if self.is_value(name):
            return self.values[name]
        array = self.array(name, f"input {name!r}")
        if array.size == 1 and array.ndim < 2:
            return array.reshape(-1)[0].item()
        key = self._unused(hint or name)
        trained = self.layered and array.dtype.kind == "f"
        tensor = torch.from_numpy(np.array(array, dtype=np.float32 if array.dtype.kind == "f" else array.dtype))
        self.weights[f"tensors.{key}"] = tensor
        self.tensors[key] = (tuple(tensor.shape), trained)
        self._meta[f"${key}"] = tensor.to("meta")
        return f"${key}"

    def numbers(self, name: str) -> Any:
        """Whole numbers of a constant, as a structure has them."""
        if self.is_value(name):
            raise ValueError(f"{name!r} is computed from the images")
        return self.folded.numbers(name)

    def _value(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def _unused(self, hint: str) -> str:
        base = re.sub(r"\W+", "_", hint.removesuffix(".weight").strip("/")).strip("_") or "node"
        base = base if re.match(r"[A-Za-z]", base) else f"n{base}"
        base = f"{base}_" if hasattr(torch.nn.ModuleDict, base) else base
        name, number = base, 2
        while name in self._names:
            name, number = f"{base}_{number}", number + 1
        self._names.add(name)
        return name

    def _add(self, node: Node) -> list[str]:
        """Add a node, and follow the shapes through it."""
        inputs = [self._resolved(value) for value in node.inputs]
        with torch.no_grad():
            if node.op in LAYERS:
                results = make_layer(node).to("meta").eval()(*inputs)
            else:
                results = OPERATIONS[node.op](*inputs, **node.attributes)
        results = results if isinstance(results, tuple) else (results,)
        self._meta |= dict(zip(node.outputs, results, strict=False))
        self.nodes.append(node)
        return list(node.outputs)

    def _resolved(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._meta[value]
        if isinstance(value, list):
            return [SHAPE[0] * n["N"] if isinstance(n, dict) else n for n in value]
        return SHAPE[0] * value["N"] if isinstance(value, dict) else value
