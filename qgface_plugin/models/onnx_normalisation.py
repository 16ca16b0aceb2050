"""Normalisation inside an ONNX graph: what its first operations do to pixels, hence what is left to do outside.

Names of nodes differ between exporters and versions, and constants may be initialisers, nodes or computed. So the part
of the graph that treats every pixel alike is cut off before the first layer and run on images of one colour: what comes
out is a factor and a shift per channel, or no normalisation.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.errors import ConfigError
from .face_model import NOTHING, USUAL, Scale

LOGGER = logging.getLogger(__name__)
NEEDED = "pip install onnx onnxruntime"
SIDE = 112
# Operations that give a pixel what follows from that pixel alone, or move whole channels.
_PIXELWISE = frozenset(
    "Add BatchNormalization Cast Clip Concat Div Dropout Gather Identity Max Min Mul Neg Slice Split Squeeze Sub Sum "
    "Transpose Unsqueeze".split()
)
_ASKING = frozenset(["Shape", "Size"])  # operations that look at no pixel
_CALM = 0.5  # how much better the range that is chosen has to fit than the next one
_AS_IT_IS = 1e-3  # how far from 1 and 0 a factor and a shift are still none


_RANGES = {"0 to 255": NOTHING, "0 to 1": Scale((0.0,), (255.0,)), "-1 to 1": USUAL}


@dataclass(frozen=True)
class Inside:
    """What a graph does to pixels before its first layer: factor * pixel + shift.

    Attributes:
        factor: (3,) float64, by channel of the input, not 0.
        shift: (3,) float64.
        operations: their kinds, in their order.
    """

    factor: np.ndarray
    shift: np.ndarray
    operations: tuple[str, ...]

    @property
    def scale(self) -> Scale:
        """The same as mean and standard deviation."""
        mean, std = -self.shift / self.factor + 0.0, 1 / np.abs(self.factor)  # + 0.0: no -0
        return Scale(_shortened(mean), _shortened(std))

    @property
    def nothing(self) -> bool:
        """Whether pixels reach the first layer as they are."""
        return bool((np.abs(self.factor - 1) < _AS_IT_IS).all() and (np.abs(self.shift) < _AS_IT_IS).all())

    def misfits(self) -> dict[str, float]:
        """How badly the numbers fit pixels of each range.

        0 where the range becomes another one of them, or for its middle as mean and half its width as std.
        """
        mean, std = -self.shift / self.factor, 1 / np.abs(self.factor)
        found = {}
        ends = [(0.0, 255.0), (0.0, 1.0), (-1.0, 1.0)]
        for name, outside in _RANGES.items():
            middle, half = (127.5 - outside.mean[0]) / outside.std[0], 127.5 / outside.std[0]
            after = self.factor[:, None] * [middle - half, middle + half] + self.shift[:, None]  # (3, 2)
            if any(np.allclose(after, end, rtol=0, atol=0.02 * (end[1] - end[0])) for end in ends):
                found[name] = 0.0
                continue
            found[name] = float((np.abs(mean - middle) / half + np.abs(np.log(std / half))).mean())
        return found


def scale_outside(path: Path, log: bool = True) -> Scale:
    """What is left to do to pixels before a graph gets them.

    A graph that does nothing itself gets (x - 127.5) / 127.5. Of one that normalises, the mean and the standard
    deviation tell for pixels of which range it was made: 0 to 255, 0 to 1 or -1 to 1.

    Args:
        path: the ONNX file.
        log: say in the log when it is not the usual.

    Raises:
        ConfigError: onnx is absent.
    """
    try:
        import onnx
    except ImportError as error:
        raise ConfigError(f"{path}: whether its graph normalises pixels is read by onnx: {NEEDED}") from error
    found = normalisation_inside(onnx.load(str(path), load_external_data=False))
    if found is None or found.nothing:
        return USUAL
    misfits = found.misfits()
    chosen, second = sorted(misfits, key=lambda name: misfits[name])[:2]
    if not log:
        return _RANGES[chosen]
    sure = misfits[second] - misfits[chosen] > _CALM
    LOGGER.log(
        logging.INFO if sure else logging.WARNING,
        "%s normalises pixels inside its graph (%s: %s): it is given pixels of %s%s",
        path,
        ", ".join(found.operations),
        found.scale,
        chosen,
        "" if sure else f", but could be made for {second}: --mean and --std say what it was trained with",
    )
    return _RANGES[chosen]


def normalisation_inside(model: Any) -> Inside | None:
    """What a graph does to pixels before its first layer; None where that is no factor and shift per channel.

    Args:
        model: an onnx.ModelProto with one input, N x 3 x 112 x 112; tensors that are kept in other files may be absent.
    """
    import onnx
    import onnxruntime

    try:
        if model.functions:
            from onnx.inliner import inline_local_functions

            model = inline_local_functions(model)
        head, operations = _head(onnx, model)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(head.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return _measured(session, operations)
    except Exception as error:  # onnx's and onnxruntime's errors share no base class; nothing is known then
        LOGGER.debug("the beginning of the graph cannot be run: %s", error)
        return None


def _shortened(values: np.ndarray) -> tuple[float, ...]:
    same = np.ptp(values) <= 1e-6 * np.abs(values).max()
    return (float(values[0]),) if same else tuple(map(float, values))


def _head(onnx: Any, model: Any) -> tuple[Any, tuple[str, ...]]:
    """The graph from its input to the first layer, as a model of its own, and the kinds of its operations."""
    graph = model.graph
    kept = {tensor.name: tensor for tensor in graph.initializer}
    (source,) = (value for value in graph.input if value.name not in kept)
    pixels, dependent, end = {source.name}, {source.name}, source.name
    for node in graph.node:
        if node.op_type in _ASKING or not dependent.intersection(node.input):
            continue
        dependent.update(node.output)
        if pixels.isdisjoint(node.input):
            continue
        if (node.op_type in _PIXELWISE or _is_pointwise(node, kept)) and pixels.issuperset(
            dependent.intersection(node.input)
        ):
            pixels.update(node.output)
            continue
        end = next(name for name in node.input if name in pixels)
        break
    wanted, nodes = {end}, []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            nodes.append(node)
    nodes.reverse()
    tensors = [tensor for name, tensor in kept.items() if name in wanted]
    output = onnx.ValueInfoProto(name=f"{end}_is_what_the_first_layer_gets")
    nodes.append(onnx.helper.make_node("Identity", [end], [output.name]))
    head = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "head", [source], [output], tensors), opset_imports=model.opset_import
    )
    head.ir_version = model.ir_version
    kinds = tuple(node.op_type for node in nodes[:-1] if dependent.intersection(node.input))
    return head, kinds


def _is_pointwise(node: Any, kept: Mapping[str, Any]) -> bool:
    """Whether a node is a convolution of single pixels to three channels again."""
    weight = kept.get(node.input[1]) if node.op_type == "Conv" else None
    return weight is not None and weight.dims[0] == 3 and list(weight.dims[2:]) == [1, 1]


def _measured(session: Any, operations: tuple[str, ...]) -> Inside | None:
    """Factor and shift, from images of one colour."""
    (given,) = session.get_inputs()
    rows = given.shape[0] if isinstance(given.shape[0], int) else 1
    dtype = {"tensor(float16)": np.float16, "tensor(uint8)": np.uint8}.get(given.type, np.float32)

    def run(color: Sequence[float]) -> np.ndarray:
        image = np.broadcast_to(np.array(color, dtype).reshape(3, 1, 1), (rows, 3, SIDE, SIDE))
        out = session.run(None, {given.name: np.ascontiguousarray(image)})[0][:1].astype(np.float64)
        axes = {(3, SIDE, SIDE): (2, 3), (SIDE, SIDE, 3): (1, 2)}[out.shape[1:]]
        return out.mean(axes)[0]  # (3,); an average over a mean image, where there is one

    shift = run((0, 0, 0))
    columns = np.stack([run(np.eye(3)[c] * 100) - shift for c in range(3)], axis=1) / 100  # (out, in)
    twice = run((200, 200, 200)) - shift
    straight = np.allclose(twice, 200 * columns.sum(1), rtol=0.02, atol=1e-6)
    from_one = np.abs(columns) > 1e-3 * np.abs(columns).max()
    if not straight or not (from_one.sum(0) == 1).all() or not (from_one.sum(1) == 1).all():
        return None
    of = from_one.argmax(0)  # the channel that comes out, by the one that goes in
    return Inside(columns[of, range(3)], shift[of], operations)
