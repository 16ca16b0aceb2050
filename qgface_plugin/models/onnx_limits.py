"""Limits of ONNX graphs: what a file asks for before anything is computed, so that a small one cannot take all memory.

onnxruntime folds constants when it opens a file, and allocates what a graph says. The largest tensor of a known encoder
of aligned faces has 0.8 million numbers per image.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..utils.errors import CheckpointError

LARGEST = 1 << 22  # numbers in one tensor per image that are computed; weights may have more
SMALL = 1 << 12  # bytes of a weight that shapes can depend on
LOOPS = ("Loop", "Scan")


def check_graph(path: Path) -> None:
    """Refuse a graph that loops, or one whose tensors are too large as far as their shapes can be told.

    A file that onnx cannot read is left to onnxruntime to refuse; without onnx nothing is checked.

    Raises:
        CheckpointError: it is too much; names the file and the tensor.
    """
    try:
        import onnx
    except ImportError:
        return
    try:
        model = onnx.load(str(path), load_external_data=False)
        for graph in _graphs(model.graph):
            for tensor in graph.initializer:
                if len(tensor.raw_data) > SMALL:
                    tensor.ClearField("raw_data")  # shapes do not depend on it, and it would be copied
        shaped = onnx.shape_inference.infer_shapes(model)
    except Exception:  # onnx and protobuf have no common base class of errors
        return
    for graph in _graphs(shaped.graph):
        for node in graph.node:
            if node.op_type in LOOPS:
                raise CheckpointError(f"{path}: its graph has a {node.op_type}, which no encoder of faces needs")
        for value in (*graph.value_info, *graph.output):
            sizes = [d.dim_value for d in value.type.tensor_type.shape.dim if d.dim_value > 0]
            count = 1
            for size in sizes:
                count *= size
            if count > LARGEST:
                shape = " x ".join(map(str, sizes))
                raise CheckpointError(
                    f"{path}: {value.name!r} in its graph has {shape} numbers per image; {LARGEST} are the most"
                )


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and those within its nodes."""
    todo = [graph]
    while todo:
        graph = todo.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                todo += [attribute.g] if attribute.HasField("g") else []
                todo += attribute.graphs
