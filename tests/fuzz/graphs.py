"""ONNX files: damaged, and with graphs that someone has made to cost much.

What a wrong answer is: a model is loaded and its features are not (N, d).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
import torch
from fuzz.case import Case, pick
from fuzz.guard import Finding
from fuzz.mutate import Damaged, damage, fresh
from onnx import TensorProto, helper, numpy_helper

from qgface_plugin.models.onnx_model import load_onnx_model

HUGE = (0, 1, -1, 2, 3, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 40, (1 << 62), -(1 << 40))
TAGS = (
    b"\x0a",
    b"\x12",
    b"\x1a",
    b"\x22",
    b"\x2a",
    b"\x32",
    b"\x3a",
    b"\x42",
    b"\x4a",
    b"\x08",
    b"\x10",
    b"\xff\xff\xff\xff\x0f",
)


@lru_cache(maxsize=1)
def seeds() -> list[bytes]:
    """Small recognition models: convolution and a matrix; pooling alone."""
    rng = np.random.default_rng(0)

    def value(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array((rng.standard_normal(shape) / 10).astype(np.float32), name)

    first = [
        helper.make_node("Conv", ["data", "w"], ["c"], "conv", kernel_shape=[3, 3], strides=[16, 16]),
        helper.make_node("PRelu", ["c", "slope"], ["p"], "prelu"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "g", "b"], ["embedding"], "gemm", transB=1),
    ]
    weights = [value("w", 2, 3, 3, 3), value("slope", 2, 1, 1), value("g", 8, 98), value("b", 8)]
    second = [
        helper.make_node("AveragePool", ["data"], ["a"], "pool", kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Reshape", ["a", "shape"], ["embedding"], "reshape"),
    ]
    shape = numpy_helper.from_array(np.array([-1, 147]), "shape")
    found = []
    for nodes, values, size in ((first, weights, 8), (second, [shape], 147)):
        graph = helper.make_graph(
            nodes, "g",
            [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["N", 3, 112, 112])],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", size])], values,
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)])
        model.ir_version = 6
        found.append(model.SerializeToString())
    return found


def make(rng: np.random.Generator) -> Case:
    data = pick(rng, seeds())
    kind = int(rng.integers(4))
    if kind < 2:
        file = damage(Damaged.whole(data), rng, [0, 8, len(data) - 60], Damaged.whole(pick(rng, seeds())), grain=1)
        if kind and len(file.data):
            at = int(rng.integers(len(file.data)))
            file = file.cut(0, at) + fresh(pick(rng, TAGS)) + file.cut(at, len(file.data))
        return Case({"model.onnx": file.bytes()}, check, "bytes")
    model = onnx.load_model_from_string(data)
    for _ in range(int(rng.integers(1, 3))):
        hostile(model, rng)
    return Case({"model.onnx": model.SerializeToString()}, check, "graph")


def hostile(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    """Another shape, attribute, name or node, as only a writer of models makes them."""
    graph = model.graph
    kind = int(rng.integers(9))
    node = pick(rng, graph.node)
    tensor = pick(rng, graph.initializer)
    if kind == 0 and tensor.dims:
        tensor.dims[int(rng.integers(len(tensor.dims)))] = pick(rng, HUGE)
    elif kind == 1:
        ints = [a for a in node.attribute if a.ints]
        if ints:
            attribute = pick(rng, ints)
            attribute.ints[int(rng.integers(len(attribute.ints)))] = pick(rng, HUGE)
    elif kind == 2:
        tensor.data_type = int(rng.integers(0, 24))
    elif kind == 3:
        tensor.raw_data = tensor.raw_data[: int(rng.integers(len(tensor.raw_data) + 1))]
    elif kind == 4:
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (
            ("location", pick(rng, ("/etc/passwd", "../x", "model.onnx"))),
            ("offset", "0"),
            ("length", "99"),
        ):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
    elif kind == 5:
        pads = numpy_helper.from_array(
            np.array([0, 0, 0, 0, 0, 0, pick(rng, (3, 1 << 15, 1 << 20, 1 << 40)), 1]), "pads"
        )
        graph.initializer.append(pads)
        graph.node.insert(0, helper.make_node("Pad", ["data", "pads"], ["padded"], "pad"))
        graph.node[1].input[0] = "padded"
    elif kind == 6:
        size = numpy_helper.from_array(np.array([1, 1, pick(rng, (1, 1 << 12, 1 << 16, 1 << 30)), 4]), "size")
        graph.initializer.append(size)
        graph.node.insert(0, helper.make_node("ConstantOfShape", ["size"], ["much"], "constant"))
    elif kind == 7:
        node.op_type = pick(
            rng, ("Loop", "If", "Scan", "Expand", "Tile", "Resize", "Conv", "Relu", "Nonsense", "", "Sub", "Mul")
        )
        node.domain = pick(rng, ("", "", "com.microsoft", "x"))
    else:
        node.input[int(rng.integers(len(node.input)))] = pick(rng, ("data", "", "embedding", "absent", "w", "shape"))


def check(folder: Path) -> int:
    model = load_onnx_model(folder / "model.onnx", "rgb", torch.device("cpu"))
    images = np.zeros((2, 112, 112, 3), np.uint8)
    found = model.embed(images)
    if found.original.shape != (2, model.dim):
        raise Finding("content", f"features {found.original.shape}")
    return model.dim
