"""Operations of imported graphs, in PyTorch: those without weights of their own, one function each.

A function gets the node's inputs (tensors, or numbers and lists where the graph fixes them) and its attributes, and
gives a tensor, or a tuple of them where a node has several outputs. Meanings and defaults are ONNX's of opset 11 to 23.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Operation = Callable[..., Any]


def pad(x: Tensor, pads: Sequence[int], value: float = 0.0) -> Tensor:
    """`x` with `pads` around its last dimensions: begins, then ends, as ONNX lists them."""
    half = len(pads) // 2
    pairs = [int(n) for axis in reversed(range(half)) for n in (pads[axis], pads[half + axis])]
    return F.pad(x, pairs, value=value) if any(pairs) else x


def _padded(x: Tensor, pads: Any, value: Any = None, axes: Any = None, mode: str = "constant") -> Tensor:
    if axes is not None:
        whole = [0] * (2 * x.ndim)
        for i, axis in enumerate(axes):
            whole[axis % x.ndim], whole[x.ndim + axis % x.ndim] = pads[i], pads[len(axes) + i]
        pads = whole
    if mode == "constant":
        return pad(x, pads, float(value or 0.0))
    inner = [n for side in (pads[: x.ndim], pads[x.ndim :]) for n in side[2:]]  # the last dimensions only
    half = len(inner) // 2
    pairs = [int(n) for axis in reversed(range(half)) for n in (inner[axis], inner[half + axis])]
    return F.pad(x, pairs, mode={"reflect": "reflect", "edge": "replicate"}[mode])


def _max_pool(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], pads: Sequence[int], ceil: bool, dilation: Sequence[int]
) -> Tensor:
    return F.max_pool2d(pad(x, pads, -math.inf), tuple(kernel), tuple(stride), 0, tuple(dilation), ceil)


def _average_pool(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], pads: Sequence[int], ceil: bool, include: bool
) -> Tensor:
    half = len(pads) // 2
    if list(pads[:half]) == list(pads[half:]):
        return F.avg_pool2d(x, tuple(kernel), tuple(stride), tuple(pads[:half]), ceil, include)
    padded = F.avg_pool2d(pad(x, pads), tuple(kernel), tuple(stride), 0, ceil)
    if include:
        return padded
    share = F.avg_pool2d(pad(torch.ones_like(x[:1, :1]), pads), tuple(kernel), tuple(stride), 0, ceil)
    return padded / share


def _axes(x: Tensor, axes: Any) -> list[int]:
    return list(range(x.ndim)) if axes is None else [int(axis) for axis in axes]


def _squeeze(x: Tensor, axes: Any = None) -> Tensor:
    for axis in sorted((axis % x.ndim for axis in _axes(x, axes) if x.shape[axis] == 1), reverse=True):
        x = x.squeeze(axis)
    return x


def _unsqueeze(x: Tensor, axes: Sequence[int]) -> Tensor:
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


# Sizes that depend on the number of images are no int while a network is exported, and must stay what they are.


def _reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    return x.reshape([x.shape[i] if isinstance(n, int) and n == 0 else n for i, n in enumerate(shape)])


def _expand(x: Tensor, shape: Sequence[int]) -> Tensor:
    sizes = [1] * (x.ndim - len(shape)) + list(shape)
    kept = len(sizes) - x.ndim  # before it: dimensions that are new
    return x.expand([-1 if i >= kept and isinstance(n, int) and n == 1 else n for i, n in enumerate(sizes)])


def _slice(x: Tensor, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Tensor:
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis, step = (i if axes is None else axes[i]), (1 if steps is None else steps[i])
        if step < 0:  # PyTorch has no negative steps
            indices = range(x.shape[axis])[slice(start, end if end > -(1 << 31) else None, step)]
            x = x.index_select(axis, torch.tensor(list(indices), device=x.device))
        else:
            x = x[(slice(None),) * (axis % x.ndim) + (slice(start, end, step),)]
    return x


def _split(x: Tensor, sizes: Any = None, axis: int = 0, parts: int = 0) -> tuple[Tensor, ...]:
    if sizes is None:
        sizes = math.ceil(x.shape[axis] / parts)
    return tuple(x.split(sizes if isinstance(sizes, int) else [int(n) for n in sizes], axis))


def _gather(x: Tensor, indices: Any, axis: int = 0) -> Tensor:
    if isinstance(indices, int):
        return x.select(axis, indices)
    if not isinstance(indices, Tensor):
        indices = torch.tensor(indices, device=x.device)
    shape = (*x.shape[: axis % x.ndim], *indices.shape, *x.shape[axis % x.ndim + 1 :])
    return x.index_select(axis, indices.reshape(-1) % x.shape[axis]).reshape(shape)


def _clip(x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    return x if low is None and high is None else x.clamp(low, high)


def _reduced(reduce: Callable[..., Tensor]) -> Operation:
    def run(x: Tensor, axes: Any = None, keepdims: bool = True) -> Tensor:
        return reduce(x, tuple(_axes(x, axes)), keepdims)

    return run


def _lp_normalised(x: Tensor, axis: int = -1, p: int = 2) -> Tensor:
    return x / x.norm(p=p, dim=axis, keepdim=True)


def _softmax(x: Tensor, axis: int = -1) -> Tensor:
    return F.softmax(x, axis)


def _softmax_of_rows(x: Tensor, axis: int = 1) -> Tensor:
    """Before opset 13: all dimensions from `axis` on are one."""
    return F.softmax(x.flatten(axis % x.ndim), -1).reshape(x.shape)


def _layer_normalised(x: Tensor, weight: Any, bias: Any = None, axis: int = -1, epsilon: float = 1e-5) -> Tensor:
    return F.layer_norm(x, x.shape[axis:] if axis < 0 else x.shape[axis % x.ndim :], weight, bias, epsilon)


def _gemm(
    a: Any, b: Any, c: Any = None, alpha: float = 1.0, beta: float = 1.0, trans_a: int = 0, trans_b: int = 0
) -> Tensor:
    product = alpha * ((a.t() if trans_a else a) @ (b.t() if trans_b else b))
    return product if c is None else product + beta * c


def _where(condition: Tensor, a: Any, b: Any) -> Tensor:
    return torch.where(condition.bool(), a, b)


def _most(operation: Callable[[Tensor, Tensor], Tensor], clamp: str) -> Operation:
    def run(*values: Any) -> Tensor:
        result = values[0]
        for value in values[1:]:
            if isinstance(result, Tensor) and isinstance(value, Tensor):
                result = operation(result, value)
            else:
                x, number = (result, value) if isinstance(result, Tensor) else (value, result)
                result = x.clamp(**{clamp: number})
        return result

    return run


def _total(*values: Tensor) -> Tensor:
    result = values[0]
    for value in values[1:]:
        result = result + value
    return result


def _leaky(x: Tensor, slope: float) -> Tensor:
    return F.leaky_relu(x, slope)


def _hard_sigmoid(x: Tensor, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    return (alpha * x + beta).clamp(0, 1)


def _concatenated(*values: Tensor, axis: int) -> Tensor:
    return torch.cat(values, axis)


OPERATIONS: dict[str, Operation] = {
    "Abs": lambda x: x.abs(),
    "Add": lambda a, b: a + b,
    "AveragePool": _average_pool,
    "Clip": _clip,
    "Concat": _concatenated,
    "Div": lambda a, b: a / b,
    "Elu": lambda x, alpha=1.0: F.elu(x, alpha),
    "Equal": lambda a, b: a == b,
    "Erf": lambda x: torch.erf(x),
    "Exp": lambda x: x.exp(),
    "Expand": _expand,
    "Flatten": lambda x, axis=1: x.flatten(axis % x.ndim) if axis == 1 else x.reshape(math.prod(x.shape[:axis]), -1),
    "Gather": _gather,
    "Gelu": lambda x, approximate="none": F.gelu(x, approximate=approximate),
    "GlobalAveragePool": lambda x: x.mean(tuple(range(2, x.ndim)), True),
    "GlobalMaxPool": lambda x: x.amax(tuple(range(2, x.ndim)), True),
    "Greater": lambda a, b: a > b,
    "GreaterOrEqual": lambda a, b: a >= b,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda x: F.hardswish(x),
    "LayerNormalization": _layer_normalised,
    "LeakyRelu": _leaky,
    "Less": lambda a, b: a < b,
    "LessOrEqual": lambda a, b: a <= b,
    "Log": lambda x: x.log(),
    "LogSoftmax": lambda x, axis=-1: F.log_softmax(x, axis),
    "LpNormalization": _lp_normalised,
    "MatMul": lambda a, b: a @ b,
    "Max": _most(torch.maximum, "min"),
    "MaxPool": _max_pool,
    "Min": _most(torch.minimum, "max"),
    "Mish": lambda x: F.mish(x),
    "Mul": lambda a, b: a * b,
    "Neg": lambda x: -x,
    "Pad": _padded,
    "Pow": lambda a, b: a**b,
    "PRelu": lambda x, slope: torch.where(x < 0, x * slope, x),
    "Product": _gemm,
    "Reciprocal": lambda x: x.reciprocal(),
    "ReduceL2": _reduced(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep)),
    "ReduceMax": _reduced(lambda x, axes, keep: x.amax(axes, keep)),
    "ReduceMean": _reduced(lambda x, axes, keep: x.mean(axes, keep)),
    "ReduceMin": _reduced(lambda x, axes, keep: x.amin(axes, keep)),
    "ReduceSum": _reduced(lambda x, axes, keep: x.sum(axes, keep)),
    "ReduceSumSquare": _reduced(lambda x, axes, keep: x.square().sum(axes, keep)),
    "Relu": lambda x: F.relu(x),
    "Reshape": _reshape,
    "Selu": lambda x: F.selu(x),
    "Sigmoid": lambda x: x.sigmoid(),
    "Slice": _slice,
    "Softmax": _softmax,
    "SoftmaxOfRows": _softmax_of_rows,
    "Softplus": lambda x: F.softplus(x),
    "Softsign": lambda x: F.softsign(x),
    "Split": _split,
    "Sqrt": lambda x: x.sqrt(),
    "Squeeze": _squeeze,
    "Sub": lambda a, b: a - b,
    "Sum": _total,
    "Tanh": lambda x: x.tanh(),
    "Transpose": lambda x, order: x.permute(tuple(order)),
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}
"""By kind. Layers, which have weights, are in `layers.py`."""
