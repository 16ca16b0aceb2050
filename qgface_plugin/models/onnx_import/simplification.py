"""Simplification of an imported graph: what exporters write in several nodes becomes the one layer that it was.

Each function takes a structure and its weights and gives them anew; what the graph computes stays, but for features
that it brings to unit length at its end: their norms are worth having.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from .structure import Node, Structure

Graph = tuple[Structure, dict[str, Tensor]]


def simplified(structure: Structure, weights: Mapping[str, Tensor]) -> Graph:
    """All of them, one after the other."""
    graph = (structure, dict(weights))
    for step in (with_biases, without_detours, with_prelus):
        graph = step(*graph)
    return without_surplus(*graph)


def readers_of(structure: Structure) -> dict[str, list[Node]]:
    """The nodes that read each value; the features are read by the outside, as by a node more."""
    found: dict[str, list[Node]] = {}
    for node in structure.nodes:
        for value in node.inputs:
            if isinstance(value, str) and not value.startswith("$"):
                found.setdefault(value, []).append(node)
    return found


def only_reader(structure: Structure, readers: Mapping[str, list[Node]], value: str) -> Node | None:
    """The one node that reads a value, where nothing else does."""
    found = readers.get(value, [])
    return found[0] if len(found) == 1 and value != structure.output else None


_TO_A_NORM = frozenset(
    "Abs Add Clip Expand Max Mul Pow ReduceL2 ReduceSum ReduceSumSquare Reshape Sqrt Unsqueeze".split()
)


def without_unit_length(structure: Structure, weights: Mapping[str, Tensor]) -> tuple[Structure, bool]:
    """A graph whose features have their own length, and whether it has brought them to unit length before."""
    givers = {value: node for node in structure.nodes for value in node.outputs}
    last = givers.get(structure.output)
    if last is not None and last.op == "LpNormalization" and last.attributes.get("p", 2) == 2:
        return replace(structure, output=last.inputs[0]), True
    if last is None or last.op != "Div" or not all(isinstance(value, str) for value in last.inputs):
        return structure, False
    raw, divisor = last.inputs
    todo, reduced = [divisor], False
    while todo:
        value = todo.pop()
        node = givers.get(value)
        if value == raw or (isinstance(value, str) and value.startswith("$")):
            continue
        if node is None or node.op not in _TO_A_NORM:
            return structure, False
        reduced |= node.op.startswith("Reduce")
        todo += [value for value in node.inputs if isinstance(value, str)]
    return (replace(structure, output=raw), True) if reduced else (structure, False)


def with_biases(structure: Structure, weights: dict[str, Tensor]) -> Graph:
    """A layer without bias and the sum with one number per channel become a layer with bias."""
    readers, gone, nodes = readers_of(structure), set(), {}
    for node in structure.nodes:
        if node.op not in ("Linear", "Conv2d") or node.attributes["bias"]:
            continue
        following = only_reader(structure, readers, node.outputs[0])
        constant = _constant_beside(following, node.outputs[0]) if following and following.op == "Add" else None
        if following is None or constant is None:
            continue
        numbers = weights[f"tensors.{constant}"]
        channels = node.attributes["outputs"] if node.op == "Linear" else node.attributes["channels"][1]
        place = -1 if node.op == "Linear" else -3  # of the channels among the dimensions
        wide = [i - numbers.ndim for i, n in enumerate(numbers.shape) if n != 1]
        if numbers.numel() != channels or wide not in ([place], []) or channels == 1:
            continue
        weights[f"layers.{node.name}.bias"] = numbers.reshape(-1)
        attributes = {**node.attributes, "bias": True}
        nodes[node.name] = replace(node, outputs=following.outputs, attributes=attributes)
        gone.add(following.name)
    kept = tuple(nodes.get(node.name, node) for node in structure.nodes if node.name not in gone)
    return replace(structure, nodes=kept), weights


def without_detours(structure: Structure, weights: dict[str, Tensor]) -> Graph:
    """Unsqueeze, BatchNorm, Squeeze, as PyTorch 1 wrote a BatchNorm of rows, become the BatchNorm."""
    readers, gone, nodes = readers_of(structure), set(), {}
    for node in structure.nodes:
        if node.op != "Unsqueeze" or node.inputs[1] not in ([2], [-1]):
            continue
        norm = only_reader(structure, readers, node.outputs[0])
        back = only_reader(structure, readers, norm.outputs[0]) if norm is not None and norm.op == "BatchNorm" else None
        if norm is None or back is None or back.op != "Squeeze" or back.inputs[1] not in ([2], [-1]):
            continue
        nodes[norm.name] = replace(norm, inputs=node.inputs[:1], outputs=back.outputs)
        gone |= {node.name, back.name}
    kept = tuple(nodes.get(node.name, node) for node in structure.nodes if node.name not in gone)
    return replace(structure, nodes=kept), weights


def with_prelus(structure: Structure, weights: dict[str, Tensor]) -> Graph:
    """Where(x > 0, x, slope * x), as some exporters write it, becomes a PReLU."""
    givers = {value: node for node in structure.nodes for value in node.outputs}
    nodes = {}
    for node in structure.nodes:
        if node.op != "Where" or not all(isinstance(value, str) for value in node.inputs):
            continue
        condition, x, scaled = node.inputs
        asked, product = givers.get(condition), givers.get(scaled)
        if asked is None or product is None or product.op != "Mul" or x not in product.inputs:
            continue
        constant = _constant_beside(product, x)
        if constant is None or (asked.op, asked.inputs) not in (("Greater", (x, 0)), ("GreaterOrEqual", (x, 0))):
            continue
        slopes = weights[f"tensors.{constant}"]
        wide = [i - slopes.ndim for i, n in enumerate(slopes.shape) if n != 1]
        if wide not in ([-3], []):
            continue
        nodes[node.name] = Node("PReLU", node.name, (x,), node.outputs, {"channels": slopes.numel()})
        weights[f"layers.{node.name}.weight"] = slopes.reshape(-1)
    return replace(structure, nodes=tuple(nodes.get(node.name, node) for node in structure.nodes)), weights


def without_surplus(structure: Structure, weights: dict[str, Tensor]) -> Graph:
    """Without nodes that the features do not depend on, and without weights that nothing reads."""
    wanted, nodes = {structure.output}, []
    for node in reversed(structure.nodes):
        if wanted.intersection(node.outputs):
            wanted.update(value for value in node.inputs if isinstance(value, str))
            nodes.append(node)
    nodes.reverse()
    tensors = {name: entry for name, entry in structure.tensors.items() if f"${name}" in wanted}
    names = {node.name for node in nodes}
    kept = {
        name: value
        for name, value in weights.items()
        if (name.split(".")[1] in names if name.startswith("layers.") else name.removeprefix("tensors.") in tensors)
    }
    return replace(structure, nodes=tuple(nodes), tensors=tensors), kept


def _constant_beside(node: Node | None, value: str) -> str | None:
    """The tensor that a node of two inputs reads beside a value."""
    if node is None or len(node.inputs) != 2 or value not in node.inputs:
        return None
    other = node.inputs[1] if node.inputs[0] == value else node.inputs[0]
    return other[1:] if isinstance(other, str) and other.startswith("$") else None
