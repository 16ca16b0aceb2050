"""Networks with random weights as ONNX files, in the styles of different exporters and simplifiers."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn


def exported(model: nn.Module, **options) -> onnx.ModelProto:
    """By PyTorch's TorchScript exporter; `options` are its own."""
    buffer = io.BytesIO()
    options = {"input_names": ["data"], "dynamic_axes": {"data": {0: "N"}}, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model.eval(), (torch.zeros(1, 3, 112, 112),), buffer, dynamo=False, **options)
    return onnx.load_from_string(buffer.getvalue())


def folded(model: nn.Module) -> onnx.ModelProto:
    """As PyTorch writes it by itself: a BatchNorm behind a convolution is folded into it."""
    return exported(model, opset_version=11)


def unfolded(model: nn.Module) -> onnx.ModelProto:
    """Every BatchNorm as a node, every weight by its own name."""
    preserve = torch.onnx.TrainingMode.PRESERVE
    return exported(model, opset_version=13, training=preserve, do_constant_folding=False)


def old(model: nn.Module) -> onnx.ModelProto:
    """As PyTorch 1 wrote it: nodes called Conv_0, a flattening by arithmetic of shapes, a BatchNorm of rows between
    Unsqueeze and Squeeze, one image declared."""
    graph = folded(model)
    nodes = []
    for i, node in enumerate(graph.graph.node):
        node.name = f"{node.op_type}_{i}"
        if node.op_type == "Flatten":
            x, y = node.input[0], node.output[0]
            nodes += [
                helper.make_node("Shape", [x], ["sh"], name="Shape_a"),
                helper.make_node("Constant", [], ["zero"], value=numpy_helper.from_array(np.array(0))),
                helper.make_node("Gather", ["sh", "zero"], ["count"], name="Gather_a"),
                helper.make_node("Unsqueeze", ["count"], ["counts"], axes=[0]),
                helper.make_node("Constant", [], ["rest"], value=numpy_helper.from_array(np.array([-1]))),
                helper.make_node("Concat", ["counts", "rest"], ["wanted"], axis=0),
                helper.make_node("Reshape", [x, "wanted"], [y], name="Reshape_a"),
            ]
        elif node.op_type == "BatchNormalization" and node.output[0] == graph.graph.output[0].name:
            x, y = node.input[0], node.output[0]
            node.input[0], node.output[0] = "three", "normed"
            nodes += [
                helper.make_node("Unsqueeze", [x], ["three"], axes=[2], name="Unsqueeze_b"),
                node,
                helper.make_node("Squeeze", ["normed"], [y], axes=[2], name="Squeeze_b"),
            ]
        else:
            nodes.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.graph.node[:]
    graph.graph.node.extend(copies)
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    return graph


def newer(model: nn.Module) -> onnx.ModelProto:
    """In the style of the exporter that is based on torch.export: opset 18, nodes called node_conv2d_3, sizes as
    initialisers, PReLU written out, a linear layer as a product and a sum."""
    graph = exported(model, opset_version=18)
    stored = {tensor.name: tensor for tensor in graph.graph.initializer}
    nodes = []
    for i, node in enumerate(graph.graph.node):
        node.name = f"node_{node.op_type.lower()}_{i}"
        x, y = node.input[0], node.output[0]
        if node.op_type == "PRelu":
            nodes += [
                helper.make_node("Greater", [x, "val_0"], [f"{y}_positive"], name=f"node_gt_{i}"),
                helper.make_node("Mul", [node.input[1], x], [f"{y}_scaled"], name=f"node_mul_{i}"),
                helper.make_node("Where", [f"{y}_positive", x, f"{y}_scaled"], [y], name=f"node_where_{i}"),
            ]
        elif node.op_type == "Flatten":
            width = model(torch.zeros(1, 3, 112, 112)).shape  # only so that the model is whole
            assert len(width) == 2
            nodes.append(helper.make_node("Reshape", [x, "val_1"], [y], name=f"node_view_{i}", allowzero=1))
        elif node.op_type == "Gemm":
            weight = numpy_helper.to_array(stored[node.input[1]])
            graph.graph.initializer.append(numpy_helper.from_array(weight.T.copy(), "val_2"))
            nodes.append(helper.make_node("MatMul", [x, "val_2"], [f"{y}_product"], name=f"node_matmul_{i}"))
            nodes.append(helper.make_node("Add", [f"{y}_product", node.input[2]], [y], name=f"node_add_{i}"))
        else:
            nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
    graph.graph.initializer.append(numpy_helper.from_array(np.float32(0), "val_0"))
    graph.graph.initializer.append(numpy_helper.from_array(np.array([-1, _flat_width(model)]), "val_1"))
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.graph.node[:]
    graph.graph.node.extend(copies)
    return graph


def _flat_width(model: nn.Module) -> int:
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return layers[-1].in_features


def simplified(model: nn.Module) -> onnx.ModelProto:
    """As simplifiers leave it: no Identity, names of numbers, a BatchNorm that nothing could take in as a product and
    a sum, weights that were constants of nodes."""
    graph = folded(model)
    names: dict[str, str] = {}
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    nodes = []
    for i, node in enumerate(graph.graph.node):
        inputs = [names.get(name, name) for name in node.input]
        if node.op_type == "Identity":
            names[node.output[0]] = inputs[0]
            continue
        if node.op_type == "BatchNormalization" and node.output[0] != graph.graph.output[0].name:
            weight, bias, mean, var = (stored[name].astype(np.float64) for name in inputs[1:])
            factor = weight / np.sqrt(var + 1e-5)
            for name, numbers in ((f"f{i}", factor), (f"s{i}", bias - mean * factor)):
                array = numbers.astype(np.float32).reshape(1, -1, 1, 1)
                graph.graph.initializer.append(numpy_helper.from_array(array, name))
            nodes.append(helper.make_node("Mul", [inputs[0], f"f{i}"], [f"m{i}"], name=str(2 * i)))
            nodes.append(helper.make_node("Add", [f"m{i}", f"s{i}"], list(node.output), name=str(2 * i + 1)))
            continue
        copy = onnx.NodeProto.FromString(node.SerializeToString())
        copy.name = str(1000 + i)
        copy.input[:] = inputs
        nodes.append(copy)
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    return graph


STYLES: dict[str, Callable[[nn.Module], onnx.ModelProto]] = {
    "folded": folded,
    "unfolded": unfolded,
    "old": old,
    "newer": newer,
    "simplified": simplified,
}


def save(model: onnx.ModelProto, path: Path) -> Path:
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def graph_of(nodes, weights: dict[str, np.ndarray], size: int, opset: int = 17) -> onnx.ModelProto:
    """A model of single nodes from `data` to `embedding` (N, size)."""
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("data", onnx.TensorProto.FLOAT, ["N", 3, 112, 112])],
        [helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, ["N", size])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    return model


def odd_encoder(seed: int = 0, size: int = 12) -> onnx.ModelProto:
    """A small encoder that is no network of this project: uneven padding at stride 2, folded BatchNorms, PReLU, a sum,
    a pool, a flattening by arithmetic of shapes."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    weights = {
        "w0": normal(8, 3, 7, 7), "b0": normal(8), "s0": np.full((8, 1, 1), 0.2, np.float32),
        "w1": normal(8, 1, 3, 3), "b1": normal(8), "s1": np.full((8, 1, 1), 0.1, np.float32),
        "w2": normal(8, 8, 1, 1), "b2": normal(8),
        "w3": normal(size, 8 * 3 * 3), "b3": normal(size),
        "rest": np.array([-1]), "zero": np.array(0),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Conv", ["data", "w0", "b0"], ["a"], "stem", auto_pad="SAME_UPPER", strides=[4, 4]),  # 7 and 3: 1 and 2
        node("PRelu", ["a", "s0"], ["b"], "act_0"),
        node("Conv", ["b", "w1", "b1"], ["c"], "depthwise", pads=[0, 0, 1, 1], strides=[2, 2], group=8),
        node("PRelu", ["c", "s1"], ["d"], "act_1"),
        node("Conv", ["d", "w2", "b2"], ["e"], "pointwise"),
        node("Add", ["e", "d"], ["f"], "sum"),
        node("AveragePool", ["f"], ["g"], "pool", kernel_shape=[4, 4], strides=[4, 4], pads=[0, 0, 0, 0]),
        node("Shape", ["g"], ["shape"]),
        node("Gather", ["shape", "zero"], ["count"]),
        node("Unsqueeze", ["count", "axis"], ["counts"]),
        node("Concat", ["counts", "rest"], ["wanted"], axis=0),
        node("Reshape", ["g", "wanted"], ["h"], "flat"),
        node("Gemm", ["h", "w3", "b3"], ["embedding"], "fc", transB=1),
    ]
    weights["axis"] = np.array([0])
    return graph_of(nodes, weights, size)
