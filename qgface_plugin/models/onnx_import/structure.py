"""Structure of an imported graph: its operations and how they are connected, without the numbers they compute with.

It is plain data, so that it travels in the state dict of the network (`network.py`): a model.pt of such a network is
whole. Shapes that depend on the number of images hold factors of it, as {"N": 2}.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...utils.errors import CheckpointError

FORMAT = 1
INPUT = "data"  # the name of the images among the values
_NAME = re.compile(r"[A-Za-z_]\w*")
_MOST = 1 << 28  # numbers in one parameter


@dataclass(frozen=True)
class Node:
    """An operation.

    Attributes:
        op: its kind: one of ONNX, or one that `operations.py` adds.
        name: that people know it by: the node's in the file, or its weight's. A layer's name is the prefix of its
            parameters in the state dict.
        inputs: each the name of a value, or "$" and the name of a tensor, or a number, a list of whole numbers or None.
        outputs: names of values.
        attributes: plain values.
    """

    op: str
    name: str
    inputs: tuple[Any, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Structure:
    """A graph from images (N, 3, 112, 112) in [-1, 1], RGB, to features (N, d).

    Attributes:
        nodes: in an order in which they can run.
        output: name of the value that is the features.
        tensors: by name [shape, trained] of what operations other than layers compute with.
        size: d.

    Example:
        >>> flat = Structure((Node("Flatten", "flat", ("data",), ("rows",), {"axis": 1}),), "rows", {}, 37632)
        >>> Structure.parsed(flat.text()) == flat
        True
    """

    nodes: tuple[Node, ...]
    output: str
    tensors: Mapping[str, tuple[tuple[int, ...], bool]]
    size: int

    def text(self) -> str:
        """As JSON."""
        nodes = [
            [node.op, node.name, list(node.inputs), list(node.outputs), dict(node.attributes)] for node in self.nodes
        ]
        tensors = {name: [list(shape), trained] for name, (shape, trained) in self.tensors.items()}
        content = {
            "format": FORMAT, "size": self.size, "output": self.output, "tensors": tensors, "nodes": nodes,
        }  # fmt: skip
        return json.dumps(content, separators=(",", ":"))

    @classmethod
    def parsed(cls, text: str | bytes, source: str = "the structure") -> Structure:
        """What `text` gave.

        Args:
            text: JSON.
            source: where it is from, for messages.

        Raises:
            CheckpointError: it is no structure, or one of a later version.
        """
        try:
            content = json.loads(text)
            if content["format"] != FORMAT:
                raise CheckpointError(
                    f"{source} is a graph of format {content['format']!r}, and this version reads {FORMAT}: update"
                )
            tensors = {name: _tensor(name, entry) for name, entry in content["tensors"].items()}
            nodes = tuple(_node(entry, tensors) for entry in content["nodes"])
            known = {INPUT, *(name for node in nodes for name in node.outputs)}
            if content["output"] not in known:
                raise ValueError(f"nothing gives {content['output']!r}")
            if type(content["size"]) is not int or content["size"] < 1:
                raise ValueError(f"its features have {content['size']!r} numbers")
            return cls(nodes, content["output"], tensors, content["size"])
        except CheckpointError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"{source} is no structure of a graph: {error!r}") from error


def _tensor(name: Any, entry: Any) -> tuple[tuple[int, ...], bool]:
    shape, trained = entry
    if not _NAME.fullmatch(name) or type(trained) is not bool or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"tensor {name!r}")
    if math.prod(shape) > _MOST:
        raise ValueError(f"tensor {name!r} of shape {shape}")
    return tuple(shape), trained


def _node(entry: Any, tensors: Mapping[str, Any]) -> Node:
    op, name, inputs, outputs, attributes = entry
    if not _NAME.fullmatch(name) or not all(isinstance(output, str) for output in outputs) or not outputs:
        raise ValueError(f"node {name!r}")
    for value in inputs:
        if isinstance(value, str) and value.startswith("$") and value[1:] not in tensors:
            raise ValueError(f"node {name!r} reads {value!r}")
    return Node(op, name, tuple(inputs), tuple(outputs), dict(attributes))
