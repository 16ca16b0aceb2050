"""Conversions of ONNX's operations to those of a structure, one function for each kind.

A function gets the reader, the node and its attributes, adds what it needs and returns the names of what it gives. A
ValueError of it says why the node cannot be imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .reader import Reader

Conversion = Callable[[Reader, Any, Mapping[str, Any]], "str | list[str]"]


def hint_of(node: Any) -> str:
    """A name for people: of the weights where they have one, else of the node, else its kind."""
    for name in node.input[1:2]:
        if name.endswith(".weight") and not name.startswith("onnx::"):
            return str(name)
    return str(node.name or node.op_type)


def _window(reader: Reader, node: Any, attributes: Mapping[str, Any], kernel: Sequence[int]) -> dict[str, Any]:
    """Stride, pads and dilation of a convolution or a pool, with `auto_pad` computed."""
    rank = len(kernel)
    if rank != 2:
        raise ValueError(f"it slides along {rank} dimensions, not 2")
    stride = list(attributes.get("strides", [1] * rank))
    dilation = list(attributes.get("dilations", [1] * rank))
    pads = list(attributes.get("pads", [0] * 2 * rank))
    how = attributes.get("auto_pad", b"NOTSET").decode()
    if how in ("SAME_UPPER", "SAME_LOWER"):
        sizes = reader.shape(reader.values[node.input[0]])[2:]
        spans = [dilation[i] * (kernel[i] - 1) + 1 for i in range(rank)]
        surplus = [max(0, (math.ceil(sizes[i] / stride[i]) - 1) * stride[i] + spans[i] - sizes[i]) for i in range(rank)]
        small, large = [n // 2 for n in surplus], [n - n // 2 for n in surplus]
        pads = small + large if how == "SAME_UPPER" else large + small
    elif how == "VALID":
        pads = [0] * 2 * rank
    return {"stride": stride, "pads": pads, "dilation": dilation}


def _conv(reader: Reader, node: Any, attributes: Mapping[str, Any]) -> str:
    weight = reader.array(node.input[1], "weight")
    groups = attributes.get("group", 1)
    kernel = list(weight.shape[2:])
    weights = {"weight": weight}
    if len(node.input) > 2 and node.input[2]:
        weights["bias"] = reader.array(node.input[2], "bias")
    return reader.layer(
        "Conv2d",
        hint_of(node),
        reader.values[node.input[0]],
        weights,
        channels=[weight.shape[1] * groups, weight.shape[0]],
        kernel=kernel,
        groups=groups,
        bias="bias" in weights,
        **_window(reader, node, attributes, kernel),
    )


def _batch_norm(reader: Reader, node: Any, attributes: Mapping[str, Any]) -> str:
    if attributes.get("training_mode", 0):
        raise ValueError("it was exported while training: export the model in evaluation mode")
    names = ("weight", "bias", "running_mean", "running_var")
    weights = {key: reader.array(name, key) for key, name in zip(names, node.input[1:5], strict=True)}
    value = reader.values[node.input[0]]
    planar, channels = len(reader.shape(value)) == 4, len(weights["weight"])
    epsilon = attributes.get("epsilon", 1e-5)
    return reader.layer("BatchNorm", hint_of(node), value, weights, channels=channels, epsilon=epsilon, planar=planar)


def _prelu(reader: Reader, node: Any, attributes: Mapping[str, Any]) -> str | list[str]:
    value = reader.values[node.input[0]]
    shape = reader.shape(value)
    if not reader.is_value(node.input[1]):
        slope = reader.array(node.input[1], "slope")
        aligned = (1,) * (len(shape) - slope.ndim) + slope.shape
        wide = [i for i, n in enumerate(aligned) if n != 1]
        if slope.size == 1 or wide == [1]:
            return reader.layer("PReLU", hint_of(node), value, {"weight": slope.reshape(-1)}, channels=slope.size)
    return reader.operation("PRelu", hint_of(node), value, reader.operand(node.input[1]))


def _gemm(reader: Reader, node: Any, attributes: Mapping[str, Any]) -> str | list[str]:
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    flipped, across = attributes.get("transA", 0), attributes.get("transB", 0)
    third = node.input[2] if len(node.input) > 2 else ""
    fixed = not flipped and reader.is_value(node.input[0]) and not reader.is_value(node.input[1])
    if fixed and not (third and reader.is_value(third)):
        weight = alpha * reader.array(node.input[1], "weight")
        weight = weight if across else weight.T
        weights = {"weight": weight}
        if third:
            bias = beta * reader.array(third, "bias")
            weights["bias"] = np.broadcast_to(bias, (1, len(weight))).reshape(-1)
        return _linear(reader, node, reader.values[node.input[0]], weights)
    operands = [reader.operand(name) for name in node.input if name]
    return reader.operation(
        "Product", hint_of(node), *operands, alpha=alpha, beta=beta, trans_a=flipped, trans_b=across
    )


def _linear(reader: Reader, node: Any, value: str, weights: dict[str, np.ndarray]) -> str:
    outputs, inputs = weights["weight"].shape
    return reader.layer("Linear", hint_of(node), value, weights, inputs=inputs, outputs=outputs, bias="bias" in weights)


def _matmul(reader: Reader, node: Any, attributes: Mapping[str, Any]) -> str | list[str]:
    if reader.is_value(node.input[0]) and not reader.is_value(node.input[1]):
        weight = reader.array(node.input[1], "weight")
        if weight.ndim == 2:
            return _linear(reader, node, reader.values[node.input[0]], {"weight": weight.T})
    return reader.operation("MatMul", hint_of(node), *(reader.operand(name) for name in node.input))


def _layer_norm(reader: Reader, node: Any, attributes: Mapping[str, Any]) -> str:
    value, scale = reader.values[node.input[0]], reader.array(node.input[1], "weight")
    bias = node.input[2] if len(node.input) > 2 else ""
    weights = {"weight": scale, "bias": reader.array(bias, "bias") if bias else np.zeros_like(scale)}
    shape = reader.shape(value)[attributes.get("axis", -1) :]
    if any(node.output[1:]):
        raise ValueError("its mean or deviation is read too")
    weights = {key: np.broadcast_to(array, shape) for key, array in weights.items()}
    epsilon = attributes.get("epsilon", 1e-5)
    return reader.layer("LayerNorm", hint_of(node), value, weights, shape=list(shape), epsilon=epsilon)


def _instance_norm(reader: Reader, node: Any, attributes: Mapping[str, Any]) -> str:
    weights = {"weight": reader.array(node.input[1], "weight"), "bias": reader.array(node.input[2], "bias")}
    channels, epsilon = len(weights["weight"]), attributes.get("epsilon", 1e-5)
    return reader.layer(
        "InstanceNorm", hint_of(node), reader.values[node.input[0]], weights, channels=channels, epsilon=epsilon
    )


def _plain(*kept: str, **renamed: str) -> Conversion:
    """An operation of the same name and inputs; attributes that are `kept`, or kept under another name."""

    def convert(reader: Reader, node: Any, attributes: Mapping[str, Any]) -> list[str]:
        names = {**{name: name for name in kept}, **renamed}
        passed = {names[name]: value for name, value in attributes.items() if name in names}
        passed = {name: value.decode() if isinstance(value, bytes) else value for name, value in passed.items()}
        return reader.operation(node.op_type, hint_of(node), *map(reader.operand, node.input), **passed)

    return convert


def _leaky(reader: Reader, node: Any, attributes: Mapping[str, Any]) -> list[str]:
    value = reader.values[node.input[0]]
    return reader.operation("LeakyRelu", hint_of(node), value, slope=attributes.get("alpha", 0.01))


def _clip(reader: Reader, node: Any, attributes: Mapping[str, Any]) -> list[str]:
    bounds: list[Any] = [attributes.get("min"), attributes.get("max")]
    for i, name in enumerate(node.input[1:]):
        bounds[i] = reader.operand(name) if name else None
    return reader.operation("Clip", hint_of(node), reader.values[node.input[0]], *bounds)


def _pad(reader: Reader, node: Any, attributes: Mapping[str, Any]) -> list[str]:
    value = reader.values[node.input[0]]
    given = [*node.input, "", "", ""]
    pads = reader.numbers(given[1]) if given[1] else list(attributes["pads"])
    number = reader.operand(given[2]) if given[2] else attributes.get("value", 0.0)
    axes = reader.numbers(given[3]) if given[3] else None
    mode = attributes.get("mode", b"constant").decode()
    if mode not in ("constant", "reflect", "edge"):
        raise ValueError(f"its mode is {mode}")
    return reader.operation("Pad", hint_of(node), value, pads, number, axes, mode=mode)


def _max_pool(reader: Reader, node: Any, attributes: Mapping[str, Any]) -> list[str]:
    if any(node.output[1:]):
        raise ValueError("the places of its largest numbers are read too")
    kernel = list(attributes["kernel_shape"])
    window = _window(reader, node, attributes, kernel)
    ceil = bool(attributes.get("ceil_mode", 0))
    return reader.operation("MaxPool", hint_of(node), reader.values[node.input[0]], kernel=kernel, ceil=ceil, **window)


def _average_pool(reader: Reader, node: Any, attributes: Mapping[str, Any]) -> list[str]:
    kernel = list(attributes["kernel_shape"])
    window = _window(reader, node, attributes, kernel)
    if window.pop("dilation") != [1, 1]:
        raise ValueError("it is dilated")
    return reader.operation(
        "AveragePool",
        hint_of(node),
        reader.values[node.input[0]],
        kernel=kernel,
        ceil=bool(attributes.get("ceil_mode", 0)),
        include=bool(attributes.get("count_include_pad", 0)),
        **window,
    )


def _axes(reader: Reader, node: Any, attributes: Mapping[str, Any]) -> list[int] | None:
    """Of a reduction, from its second input or its attribute; None: all."""
    if len(node.input) > 1 and node.input[1]:
        axes = reader.numbers(node.input[1])
        return list(axes) if isinstance(axes, list) else [axes]
    return list(attributes["axes"]) if "axes" in attributes else None


def _reduce(reader: Reader, node: Any, attributes: Mapping[str, Any]) -> str | list[str]:
    axes, value = _axes(reader, node, attributes), reader.values[node.input[0]]
    if not axes and attributes.get("noop_with_empty_axes", 0):
        return value
    keep = bool(attributes.get("keepdims", 1))
    return reader.operation(node.op_type, hint_of(node), value, axes or None, keepdims=keep)


def _reshape(reader: Reader, node: Any, attributes: Mapping[str, Any]) -> list[str]:
    value = reader.values[node.input[0]]
    shape = reader.numbers(node.input[1]) if len(node.input) > 1 else list(attributes["shape"])
    if attributes.get("allowzero", 0) and 0 in shape:
        raise ValueError("it gives a tensor without numbers")
    if reader.folded.fixed_batch and shape and shape[0] == 1 and -1 not in shape[:1]:
        shape = [{"N": 1}, *shape[1:]]  # what was exported for one image
    return reader.operation("Reshape", hint_of(node), value, shape)


def _flatten(reader: Reader, node: Any, attributes: Mapping[str, Any]) -> list[str]:
    return reader.operation("Flatten", hint_of(node), reader.values[node.input[0]], axis=attributes.get("axis", 1))


def _transpose(reader: Reader, node: Any, attributes: Mapping[str, Any]) -> list[str]:
    value = reader.values[node.input[0]]
    order = list(attributes.get("perm", range(len(reader.shape(value)))[::-1]))
    return reader.operation("Transpose", hint_of(node), value, order=order)


def _with_axes(reader: Reader, node: Any, attributes: Mapping[str, Any]) -> list[str]:
    """Squeeze and Unsqueeze."""
    return reader.operation(node.op_type, hint_of(node), reader.values[node.input[0]], _axes(reader, node, attributes))


def _concat(reader: Reader, node: Any, attributes: Mapping[str, Any]) -> list[str]:
    operands = [reader.operand(name) for name in node.input]
    if not all(isinstance(operand, str) for operand in operands):
        raise ValueError("it joins single numbers")
    return reader.operation("Concat", hint_of(node), *operands, axis=attributes["axis"])


def _split(reader: Reader, node: Any, attributes: Mapping[str, Any]) -> list[str]:
    value = reader.values[node.input[0]]
    sizes = list(attributes["split"]) if "split" in attributes else None
    if len(node.input) > 1 and node.input[1]:
        sizes = reader.numbers(node.input[1])
    axis, count = attributes.get("axis", 0), len(node.output)
    return reader.operation("Split", hint_of(node), value, sizes, outputs=count, axis=axis, parts=count)


def _slice(reader: Reader, node: Any, attributes: Mapping[str, Any]) -> list[str]:
    value = reader.values[node.input[0]]
    given: list[Any] = [attributes.get(name) for name in ("starts", "ends", "axes", "steps")]
    for i, name in enumerate(node.input[1:]):
        given[i] = reader.numbers(name) if name else None
    return reader.operation("Slice", hint_of(node), value, *(list(n) if n is not None else None for n in given))


def _gather(reader: Reader, node: Any, attributes: Mapping[str, Any]) -> list[str]:
    value, axis = reader.values[node.input[0]], attributes.get("axis", 0)
    return reader.operation("Gather", hint_of(node), value, reader.numbers(node.input[1]), axis=axis)


def _expand(reader: Reader, node: Any, attributes: Mapping[str, Any]) -> list[str]:
    operand = reader.operand(node.input[0])
    if not isinstance(operand, str):
        raise ValueError("it repeats a number")
    return reader.operation("Expand", hint_of(node), operand, reader.numbers(node.input[1]))


def _softmax(reader: Reader, node: Any, attributes: Mapping[str, Any]) -> list[str]:
    value = reader.values[node.input[0]]
    if reader.opset < 13:
        axis = attributes.get("axis", 1)
        if node.op_type != "Softmax" and axis % len(reader.shape(value)) != len(reader.shape(value)) - 1:
            raise ValueError("before opset 13 it is read along the last dimension only")
        op = "SoftmaxOfRows" if node.op_type == "Softmax" else node.op_type
        return reader.operation(op, hint_of(node), value, axis=axis)
    return reader.operation(node.op_type, hint_of(node), value, axis=attributes.get("axis", -1))


_SAME = (
    "Abs Add Div Equal Erf Exp GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual HardSwish Less LessOrEqual Log "
    "Max Min Mish Mul Neg Pow Reciprocal Relu Sigmoid Softplus Softsign Sqrt Sub Sum Tanh Where"
).split()
_REDUCTIONS = "ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum ReduceSumSquare".split()

CONVERSIONS: dict[str, Conversion] = {
    **{op: _plain() for op in _SAME},
    **{op: _reduce for op in _REDUCTIONS},
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Elu": _plain("alpha"),
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gelu": _plain("approximate"),
    "Gemm": _gemm,
    "HardSigmoid": _plain("alpha", "beta"),
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": _leaky,
    "LogSoftmax": _softmax,
    "LpNormalization": _plain("axis", "p"),
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "PRelu": _prelu,
    "Pad": _pad,
    "Reshape": _reshape,
    "Selu": _plain(),
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Squeeze": _with_axes,
    "Transpose": _transpose,
    "Unsqueeze": _with_axes,
}
"""By ONNX's name."""
