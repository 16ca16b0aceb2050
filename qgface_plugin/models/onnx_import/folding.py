"""Constants of an ONNX graph: what it computes without looking at a pixel, as numbers.

Exporters leave arithmetic of shapes, casts and square roots in a graph. onnxruntime computes them, for two and for
three images, so that what depends on the number of images is told from what does not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...utils.errors import CheckpointError

SIDE = 112
ASKING = frozenset(("Shape", "Size"))  # operations that look at no pixel
COUNTS = (2, 3)  # images


class Folded:
    """Values of a graph that do not depend on pixels.

    Attributes:
        fixed_batch: whether the graph runs with one image at a time only.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray], fixed_batch: bool) -> None:
        self._arrays, self._others, self.fixed_batch = arrays, others, fixed_batch

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def array(self, name: str) -> np.ndarray | None:
        """The numbers of a value, or None where they depend on the number of images."""
        found, other = self._arrays[name], self._others.get(name)
        same = other is None or (found.shape == other.shape and np.array_equal(found, other))
        return found if same else None

    def repeated(self) -> set[str]:
        """Names of numbers with a point of which there are more for more images, such as a token of a transformer."""
        return {name for name, found in self._arrays.items() if found.dtype.kind == "f" and self.array(name) is None}

    def numbers(self, name: str) -> Any:
        """A whole number, or a list of them, with {"N": k} for k times the number of images.

        Raises:
            ValueError: it is none, or depends on the number of images in another way.
        """
        found, other = self._arrays[name], self._others.get(name, self._arrays[name])
        if found.dtype.kind not in "iub" or found.ndim > 1 or found.shape != other.shape:
            raise ValueError("it is no list of whole numbers")
        pairs = zip(found.reshape(-1).tolist(), other.reshape(-1).tolist(), strict=True)
        listed = [_by_count(int(two), int(three)) for two, three in pairs]
        return listed if found.ndim else listed[0]


def _by_count(two: int, three: int) -> Any:
    if two == three:
        return two
    slope = three - two
    if two != 2 * slope:
        raise ValueError(f"it is {two} for two images and {three} for three")
    return {"N": slope}


def dependent_values(graph: Any, source: str) -> set[str]:
    """Names of the values of a graph that depend on what the pixels are, `source` among them."""
    found = {source}
    for node in graph.node:
        if node.op_type not in ASKING and found.intersection(node.input):
            found.update(name for name in node.output if name)
    return found


def fold(model: Any, source: str, dependent: set[str], path: Path) -> Folded:
    """What the dependent nodes of a graph read and pixels do not change.

    Args:
        model: an onnx.ModelProto without functions of its own.
        source: name of the graph's input.
        dependent: names of values that depend on pixels.
        path: of the file, for messages.

    Raises:
        CheckpointError: onnxruntime cannot run it.
    """
    import onnx
    from onnx import numpy_helper

    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    read = {name for node in graph.node if dependent.intersection(node.output) for name in node.input if name}
    constants = read - dependent
    arrays = {name: _array(numpy_helper, stored[name]) for name in constants & stored.keys()}
    computed = sorted(constants - stored.keys())
    plain = {node.output[0]: node for node in graph.node if node.op_type == "Constant"}
    for name in [name for name in computed if name in plain]:
        value = next((a for a in plain[name].attribute if a.name == "value"), None)
        if value is not None:
            arrays[name] = _array(numpy_helper, value.t)
            computed.remove(name)
    if not computed:
        return Folded(arrays, {}, _fixed(graph, source))
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    kept = _behind(graph, computed)
    del probe.graph.node[:]
    probe.graph.node.extend(kept)
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in computed)
    needed = {name for node in kept for name in node.input}
    left = [tensor for tensor in probe.graph.initializer if tensor.name in needed]
    del probe.graph.initializer[:]
    probe.graph.initializer.extend(left)
    del probe.graph.value_info[:]
    try:
        first, second = (_run(probe, source, count, computed) for count in COUNTS)
        return Folded({**arrays, **first}, second, False)
    except Exception as error:  # onnxruntime's errors share no base class
        reason = error
    try:
        return Folded({**arrays, **_run(probe, source, 1, computed)}, {}, True)
    except Exception as error:
        raise CheckpointError(f"{path}: its constants cannot be computed: {reason}") from error


def _behind(graph: Any, names: Collection[str]) -> list[Any]:
    """The nodes that `names` are computed by, in their order."""
    wanted, nodes = set(names), []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            nodes.append(node)
    return nodes[::-1]


def _run(model: Any, source: str, count: int, names: list[str]) -> dict[str, np.ndarray]:
    import onnxruntime

    copy = type(model)()
    copy.CopyFrom(model)
    for value in copy.graph.input:
        if value.name == source:
            sizes = value.type.tensor_type.shape.dim
            for size, given in zip(sizes, (count, 3, SIDE, SIDE), strict=True):
                size.dim_value = given
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    dtype = np.float16 if session.get_inputs()[0].type == "tensor(float16)" else np.float32
    results = session.run(names, {source: np.zeros((count, 3, SIDE, SIDE), dtype)})
    return dict(zip(names, results, strict=True))


def _array(numpy_helper: Any, tensor: Any) -> np.ndarray:
    array: np.ndarray = numpy_helper.to_array(tensor)
    return array


def _fixed(graph: Any, source: str) -> bool:
    """Whether the graph declares one image."""
    (value,) = (value for value in graph.input if value.name == source)
    return bool(value.type.tensor_type.shape.dim[0].dim_value == 1)
