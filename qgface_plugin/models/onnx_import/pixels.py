"""Pixels of an imported graph: what it does to them before its first layer, and how it wants them, become part of it.

The network that comes out takes what all networks here take: RGB in [-1, 1]. Where order, range and normalisation
amount to a product for each channel, the first convolution takes it in; a shift cannot go into a convolution that pads
with zeros, and stays in front of it as fixed numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ..face_model import USUAL, Scale
from .folding import SIDE
from .layers import LAYERS
from .network import GraphNetwork
from .simplification import Graph, readers_of, without_surplus
from .structure import INPUT, Node, Structure

_PIXELWISE = frozenset("Add Concat Div Gather Mul Neg Slice Split Squeeze Sub Transpose Unsqueeze".split())
_EXACT = 1e-6
FACTOR, SHIFT = "pixels_factor", "pixels_shift"  # names of the fixed numbers


def with_usual_pixels(structure: Structure, weights: Mapping[str, Tensor], color: str, scale: Scale) -> Graph:
    """A graph that takes RGB in [-1, 1].

    Args:
        structure: the graph.
        weights: its own.
        color: the order of channels that it takes, "rgb" or "bgr".
        scale: what is done to pixels of 0 to 255 before it gets them.
    """
    mean, std = (torch.tensor(numbers, dtype=torch.float64).expand(3) for numbers in (scale.mean, scale.std))
    factor, shift = 127.5 / std, (127.5 - mean) / std  # of pixels in [-1, 1]
    outside = torch.diag(factor)
    outside = outside.flip(1) if color == "bgr" else outside
    end, inside, added = _head(structure, weights)
    matrix, rest = inside @ outside, inside @ shift + added  # what the first layer gets of RGB in [-1, 1]
    layers = readers_of(structure).get(end, [])
    plain = color == "rgb" and scale == USUAL and end == INPUT
    if plain or not layers:
        return structure, dict(weights)
    padded = any(node.op != "Conv2d" or any(node.attributes["pads"]) for node in layers)
    if all(_takes_all(node) for node in layers) and not (padded and rest.abs().max() > _EXACT):
        return _folded(structure, dict(weights), end, layers, matrix, rest)
    if color == "rgb" and scale == USUAL:
        return structure, dict(weights)  # its own nodes do it
    return _in_front(structure, dict(weights), color, factor, shift)


def _takes_all(node: Node) -> bool:
    return node.op == "Conv2d" and node.attributes["groups"] == 1


def _head(structure: Structure, weights: Mapping[str, Tensor]) -> tuple[str, Tensor, Tensor]:
    """The value that the first layer gets, and the matrix and the shift that make it of the graph's input; the input
    itself where that is no product and sum."""
    nothing = (INPUT, torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
    pixels, nodes, ends = {INPUT}, [], set()
    for node in structure.nodes:
        reads = {value for value in node.inputs if isinstance(value, str) and not value.startswith("$")}
        if reads and reads <= pixels and (node.op in _PIXELWISE or _is_colour_map(node)):
            pixels.update(node.outputs)
            nodes.append(node)
        else:
            ends |= reads & pixels
    if len(ends) != 1 or ends == {INPUT}:
        return nothing
    end = ends.pop()
    head = Structure(tuple(nodes), end, structure.tensors, structure.size)
    network = GraphNetwork(head).eval()
    names = set(network.state_dict())
    network.load_state_dict({n: v for n, v in weights.items() if n in names} | {"structure": network.structure})
    network.double()
    try:
        with torch.no_grad():
            measured = _measured(network)
    except (RuntimeError, IndexError):
        return nothing
    return nothing if measured is None else (end, *measured)


def _is_colour_map(node: Node) -> bool:
    one = node.op == "BatchNorm" or (
        node.op == "Conv2d" and node.attributes["kernel"] == [1, 1] and node.attributes["channels"] == [3, 3]
    )
    return node.op in LAYERS and one


def _measured(network: GraphNetwork) -> tuple[Tensor, Tensor] | None:
    """Matrix (3, 3) and shift (3,) of what is done to every pixel alike; None where it is anything else."""
    noise = torch.rand(1, 3, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    flat = torch.cat([torch.zeros(1, 3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)])
    out, colours = network(noise), network(flat[:, :, None, None].expand(4, 3, SIDE, SIDE))
    if out.shape != noise.shape:
        return None
    shift = colours[0, :, 5, 5]
    matrix = (colours[1:, :, 5, 5] - shift).T  # (out, in)
    expected = torch.einsum("oi,nihw->nohw", matrix, noise) + shift.reshape(-1, 1, 1)
    return (matrix, shift) if torch.allclose(out, expected, rtol=_EXACT, atol=_EXACT) else None


def _folded(
    structure: Structure, weights: dict[str, Tensor], end: str, layers: list[Node], matrix: Tensor, shift: Tensor
) -> Graph:
    """The convolutions that read `end` read the images, and do to them what was done before."""
    nodes = {}
    for node in layers:
        weight = weights[f"layers.{node.name}.weight"].double()  # (outputs, 3, h, w)
        added = torch.einsum("oihw,i->o", weight, shift)
        weights[f"layers.{node.name}.weight"] = torch.einsum("ojhw,ji->oihw", weight, matrix).float()
        attributes = dict(node.attributes)
        if added.abs().max() > _EXACT:
            attributes["bias"] = True
            bias = weights.get(f"layers.{node.name}.bias", torch.zeros(()))
            weights[f"layers.{node.name}.bias"] = (bias.double() + added).float()
        inputs = tuple(INPUT if value == end else value for value in node.inputs)
        nodes[node.name] = replace(node, inputs=inputs, attributes=attributes)
    structure = replace(structure, nodes=tuple(nodes.get(node.name, node) for node in structure.nodes))
    return without_surplus(structure, weights)


def _in_front(structure: Structure, weights: dict[str, Tensor], color: str, factor: Tensor, shift: Tensor) -> Graph:
    """What the graph wants of its pixels, as its first nodes."""
    first = [
        Node("Mul", FACTOR, (INPUT, f"${FACTOR}"), ("p2",)),
        Node("Add", SHIFT, ("p2", f"${SHIFT}"), ("p3",)),
    ]
    if color == "bgr":
        first[0] = replace(first[0], inputs=("p1", f"${FACTOR}"))
        first.insert(0, Node("Gather", "pixels_bgr", (INPUT, [2, 1, 0]), ("p1",), {"axis": 1}))
    nodes = [
        replace(node, inputs=tuple("p3" if value == INPUT else value for value in node.inputs))
        for node in structure.nodes
    ]
    tensors = {**structure.tensors, FACTOR: ((3, 1, 1), False), SHIFT: ((3, 1, 1), False)}
    weights[f"tensors.{FACTOR}"], weights[f"tensors.{SHIFT}"] = (
        numbers.float().reshape(3, 1, 1).clone() for numbers in (factor, shift)
    )
    return replace(structure, nodes=(*first, *nodes), tensors=tensors), weights
