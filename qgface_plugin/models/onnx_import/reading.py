"""Reading of an ONNX graph: nodes of ONNX become nodes of a `Structure`, and its constants weights by their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from ...utils.errors import CheckpointError
from .conversions import CONVERSIONS
from .folding import dependent_values, fold
from .reader import SHAPE, Reader
from .structure import INPUT, Structure

ALIASES = frozenset(("Identity", "Dropout", "Cast", "CastLike"))  # of their first input


def read_graph(model: Any, path: Path) -> tuple[Structure, dict[str, Tensor]]:
    """A graph's structure and weights.

    Args:
        model: an onnx.ModelProto.
        path: of the file, for messages.

    Returns:
        The structure, and the state dict of a `GraphNetwork` of it but for the structure itself.

    Raises:
        CheckpointError: an operation that is not known here, or of a kind that cannot be trained; names the node, what
            it does and why.
    """
    if model.functions:
        from onnx.inliner import inline_local_functions

        model = inline_local_functions(model)
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer}
    sources = [value.name for value in graph.input if value.name not in stored]
    if len(sources) != 1:
        raise CheckpointError(f"{path} has {len(sources)} inputs ({', '.join(sources[:4])}); an encoder has one")
    dependent = dependent_values(graph, sources[0])
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    folded = fold(model, sources[0], dependent, path)
    while repeated := folded.repeated():  # what repeats them is an operation of the network
        dependent |= repeated
        folded = fold(model, sources[0], dependent, path)
    reader = Reader(folded, opset)
    reader.values[sources[0]] = INPUT
    for node in graph.node:
        if dependent.intersection(node.output):
            _read_node(reader, node, path)
    outputs = [reader.values[value.name] for value in graph.output if value.name in reader.values]
    output = _features(reader, outputs, path)
    structure = Structure(tuple(reader.nodes), output, reader.tensors, reader.shape(output)[1])
    return structure, reader.weights


def _read_node(reader: Reader, node: Any, path: Path) -> None:
    import onnx

    name = node.name or f"the one that gives {node.output[0]!r}"
    if node.domain not in ("", "ai.onnx"):
        raise CheckpointError(f"{path}: node {name} is {node.domain}.{node.op_type}, which is no operation of ONNX")
    if node.op_type in ALIASES:
        _alias(reader, node, name, path)
        return
    convert = CONVERSIONS.get(node.op_type)
    if convert is None:
        raise CheckpointError(f"{path}: node {name} is {node.op_type}, which cannot be trained here")
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    try:
        results = convert(reader, node, attributes)
    except (ValueError, RuntimeError, KeyError, IndexError, TypeError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: node {name} ({node.op_type}) cannot be imported: {reason}") from error
    results = [results] if isinstance(results, str) else results
    reader.values.update(zip(node.output, results, strict=False))


def _alias(reader: Reader, node: Any, name: str, path: Path) -> None:
    if len(node.output) > 1 and node.output[1]:
        raise CheckpointError(f"{path}: node {name} ({node.op_type}) gives a mask, which is not imported")
    reader.values[node.output[0]] = reader.values[node.input[0]]


def _features(reader: Reader, outputs: list[str], path: Path) -> str:
    """The output that is (N, d), d above 1."""
    wide = [name for name in dict.fromkeys(outputs) if len(reader.shape(name)) == 2 and reader.shape(name)[1] > 1]
    if len(wide) != 1 or reader.shape(wide[0])[0] != SHAPE[0]:
        shapes = ", ".join(str(reader.shape(name)) for name in outputs)
        raise CheckpointError(f"{path}: for two images it gives {shapes}, and not features (N, d)")
    return wide[0]
