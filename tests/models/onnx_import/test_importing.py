"""Any graph of usual operations as a trainable network: the same embeddings, whatever its pixels, lengths and batch."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx_styles import exported, folded, graph_of, odd_encoder, save
from paths import ROOT
from small_models import seeded
from torch import nn

from qgface_plugin.models.backbones import IResNet, VisionTransformer
from qgface_plugin.models.embeddings import embed
from qgface_plugin.models.face_model import Scale
from qgface_plugin.models.onnx_import.importing import import_onnx
from qgface_plugin.models.onnx_import.network import GraphNetwork
from qgface_plugin.models.onnx_import.structure import Structure
from qgface_plugin.utils.errors import CheckpointError
from qgface_plugin.utils.registry import NETWORKS

node = helper.make_node
RNG = np.random.default_rng(0)


def array(*shape: int) -> np.ndarray:
    return (RNG.normal(size=shape) / np.sqrt(np.prod(shape[1:]) or 1)).astype(np.float32)


def images(count: int = 3, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 112, 112, 3), dtype=np.uint8)


def run_onnx(path: Path, values: np.ndarray) -> np.ndarray:
    """One image at a time, as a declared batch of one wants it."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: value[None]})[0] for value in values])


def as_usual(pixels: np.ndarray) -> np.ndarray:
    return ((pixels.astype(np.float32) - 127.5) / 127.5).transpose(0, 3, 1, 2)


def close(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return bool((np.abs(ours - theirs) / np.linalg.norm(theirs, axis=1, keepdims=True)).max() <= 1e-5)


def pooled(body: list, value: str, channels: int, size: int = 6, **weights: np.ndarray) -> onnx.ModelProto:
    """`body`, which gives `value` (N, channels, h, w), then a pool and a layer to `size` numbers."""
    tail = [
        node("GlobalAveragePool", [value], ["pooled"]),
        node("Flatten", ["pooled"], ["flat"]),
        node("Gemm", ["flat", "wl", "bl"], ["embedding"], "last", transB=1),
    ]
    return graph_of([*body, *tail], {"wl": array(size, channels), "bl": array(size), **weights}, size)


CONV = node("Conv", ["data", "w"], ["c"], "conv", strides=[4, 4], pads=[1, 1, 1, 1])
W = array(8, 3, 3, 3)
ONE = {
    op: ([CONV, node(op, ["c"], ["x"], **attributes)], 8)
    for op, attributes in {
        "Relu": {}, "LeakyRelu": {"alpha": 0.3}, "Sigmoid": {}, "HardSigmoid": {"alpha": 0.3}, "HardSwish": {},
        "Tanh": {}, "Elu": {"alpha": 0.5}, "Softplus": {}, "Abs": {}, "Neg": {}, "Erf": {}, "Mish": {}, "Selu": {},
    }.items()
}  # fmt: skip
MORE = {
    "same_lower": ([node("Conv", ["data", "w"], ["x"], auto_pad="SAME_LOWER", strides=[2, 2])], 8, {}),
    "same_upper": ([node("Conv", ["data", "w"], ["x"], auto_pad="SAME_UPPER", strides=[2, 2])], 8, {}),
    "padded before": ([
        node("Pad", ["data", "pads"], ["p"]), node("Conv", ["p", "w"], ["x"], strides=[2, 2]),
    ], 8, {"pads": np.array([0, 0, 0, 1, 0, 0, 2, 1])}),
    "average pool, uneven": ([
        CONV, node("AveragePool", ["c"], ["x"], kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
    ], 8, {}),
    "max pool": ([CONV, node("MaxPool", ["c"], ["x"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 1])], 8, {}),
    "clip": ([CONV, node("Clip", ["c", "low", "high"], ["x"])], 8,
             {"low": np.float32(-0.2), "high": np.float32(0.3)}),
    "joined and cut": ([
        CONV, node("Split", ["c", "halves"], ["a", "b"], axis=1), node("Concat", ["b", "a"], ["d"], axis=1),
        node("Slice", ["d", "from", "to", "axis"], ["x"]),
    ], 6, {"halves": np.array([3, 5]), "from": np.array([1]), "to": np.array([7]), "axis": np.array([1])}),
    "squeeze and excite": ([
        CONV, node("ReduceMean", ["c"], ["m"], axes=[2, 3]), node("Conv", ["m", "w1", "b1"], ["n"]),
        node("Sigmoid", ["n"], ["s"]), node("Mul", ["c", "s"], ["x"]),
    ], 8, {"w1": array(8, 8, 1, 1), "b1": array(8)}),
    "normed": ([
        CONV, node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"], epsilon=2e-5),
        node("InstanceNormalization", ["n", "s", "b"], ["x"]),
    ], 8, {"s": array(8) + 1, "b": array(8), "m": array(8), "v": np.abs(array(8)) + 0.5}),
}  # fmt: skip


@pytest.mark.parametrize("name", [*ONE, *MORE])
def test_an_operation_is_onnxruntimes(name, tmp_path):
    body, channels, weights = (*ONE[name], {}) if name in ONE else MORE[name]
    if name == "Mish":
        graph = pooled(body, "x", channels, w=W)
        graph.opset_import[0].version = 18
    else:
        graph = pooled(body, "x", channels, w=W, **weights)
    path = save(graph, tmp_path / "model.onnx")
    found = import_onnx(path)
    assert found.network == "graph"
    pixels = images()
    assert close(embed(found.backbone, pixels).original, run_onnx(path, as_usual(pixels)))
    trained = found.backbone.train()
    trained(torch.from_numpy(as_usual(pixels))).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in trained.parameters())


class Tokens(nn.Module):
    """What a transformer exports: a class token that is repeated for each image, and heads by arithmetic of shapes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.proj = nn.Conv2d(3, 16, 28, 28)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.place = nn.Parameter(torch.randn(1, 17, 16))
        self.norm, self.qkv, self.out = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 6)

    def forward(self, x):
        x = self.proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.place
        n, length, width = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, length, 3, 4, width // 4).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + ((q @ k.transpose(-2, -1)) / 2.0).softmax(-1).matmul(v).transpose(1, 2).reshape(n, length, width)
        return self.out(nn.functional.gelu(x)[:, 0])


@pytest.mark.parametrize("opset", [11, 17])
def test_a_transformer_is_trained_by_its_graph(opset, tmp_path):
    path = save(exported(Tokens(), opset_version=opset), tmp_path / "model.onnx")
    found = import_onnx(path)
    pixels = images(5)
    assert found.network == "graph" and close(embed(found.backbone, pixels).original, run_onnx(path, as_usual(pixels)))
    shapes = [tuple(p.shape) for p in found.backbone.parameters()]
    assert (1, 1, 16) in shapes and (1, 17, 16) in shapes and (48, 16) in shapes  # token, places, layers: all learn
    again = save(exported(found.backbone, opset_version=17), tmp_path / "again.onnx")
    assert close(run_onnx(again, as_usual(pixels)), run_onnx(path, as_usual(pixels)))


def test_our_own_transformer_goes_there_and_back(tmp_path):
    torch.manual_seed(0)
    path = save(exported(VisionTransformer(32, 2, 0.0, 0.0, 8), opset_version=17), tmp_path / "model.onnx")
    assert import_onnx(path).difference <= 1e-5


@pytest.mark.parametrize("color, mean, std", [("rgb", 127.5, 128.0), ("bgr", 127.5, 127.5), ("bgr", 0.0, 255.0)])
def test_pixels_as_options_say(color, mean, std, tmp_path):
    path = save(odd_encoder(), tmp_path / "model.onnx")
    found = import_onnx(path, color, Scale.of([mean], [std]))
    pixels = images()
    given = pixels if color == "rgb" else pixels[..., ::-1]
    theirs = run_onnx(path, ((given.astype(np.float32) - mean) / std).transpose(0, 3, 1, 2))
    assert close(embed(found.backbone, pixels).original, theirs)
    # a shift cannot go into a convolution that pads with zeros
    assert any(name.startswith("tensors.pixels") for name in found.backbone.state_dict()) == (mean == 0.0)
    fixed = {name for name, _ in found.backbone.named_buffers()}
    assert all(name in fixed for name in found.backbone.state_dict() if name.startswith("tensors.pixels"))


def test_a_known_network_takes_other_pixels_into_its_first_layer(tmp_path):
    graph = folded(seeded("mbf", 16))
    (first,) = (entry for entry in graph.graph.node if "data" in entry.input)
    first.input[0] = "normalised"
    graph.graph.initializer.extend(
        [numpy_helper.from_array(np.float32(n), name) for name, n in (("m", 127.5), ("f", 1 / 128))]
    )
    before = [node("Sub", ["data", "m"], ["centred"], "_minusscalar0"), node("Mul", ["centred", "f"], ["normalised"])]
    nodes = [*before, *graph.graph.node]
    copies = [onnx.NodeProto.FromString(entry.SerializeToString()) for entry in nodes]
    del graph.graph.node[:]
    graph.graph.node.extend(copies)
    path = save(graph, tmp_path / "model.onnx")
    found = import_onnx(path, "bgr")
    assert found.network == "mbf"  # MXNet's models look like that
    pixels = images()
    theirs = run_onnx(path, pixels[..., ::-1].astype(np.float32).transpose(0, 3, 1, 2))
    assert close(embed(found.backbone, pixels).original, theirs)
    assert any("normalises pixels of 0 to 255 itself" in note for note in found.notes)


@pytest.mark.parametrize("how", ["divided", "LpNormalization"])
def test_unit_length_is_left_out(how, tmp_path):
    graph = odd_encoder()
    graph.graph.node[-1].output[0] = "raw"
    if how == "divided":
        graph.graph.node.append(node("ReduceL2", ["raw"], ["length"], axes=[1], keepdims=1))
        graph.graph.node.append(node("Div", ["raw", "length"], ["embedding"]))
    else:
        graph.graph.node.append(node("LpNormalization", ["raw"], ["embedding"], axis=1, p=2))
    path = save(graph, tmp_path / "model.onnx")
    plain = save(odd_encoder(), tmp_path / "plain.onnx")
    pixels = images()
    ours = embed(import_onnx(path).backbone, pixels).original
    assert close(ours, run_onnx(plain, as_usual(pixels)))
    assert close(ours / np.linalg.norm(ours, axis=1, keepdims=True), run_onnx(path, as_usual(pixels)))


def test_a_graph_for_one_image_takes_many(tmp_path):
    graph = odd_encoder()
    for entry in graph.graph.node:
        if entry.op_type == "Reshape":
            entry.input[1] = "one"
    graph.graph.initializer.append(numpy_helper.from_array(np.array([1, 72]), "one"))
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    path = save(graph, tmp_path / "model.onnx")
    pixels = images(4)
    assert close(embed(import_onnx(path).backbone, pixels).original, run_onnx(path, as_usual(pixels)))


def test_float16_becomes_float32(tmp_path):
    graph = odd_encoder()
    for tensor in graph.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
            tensor.CopyFrom(half)
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    found = import_onnx(save(graph, tmp_path / "model.onnx"))
    assert all(p.dtype == torch.float32 for p in found.backbone.parameters()) and found.difference <= 1e-2
    assert any("float16" in note for note in found.notes)


@pytest.mark.parametrize(
    "body, message",
    [
        ([node("CumSum", ["data", "axis"], ["x"], "sums")], "node sums is CumSum, which cannot be trained here"),
        (
            [node("Conv", ["data", "data"], ["x"], "odd")],
            r"node odd \(Conv\) cannot .*: its weight is computed",
        ),
        ([node("Gelu", ["data"], ["x"], "fast", domain="com.microsoft")], "node fast is com.microsoft.Gelu"),
    ],
)
def test_what_cannot_be_trained_is_named(body, message):
    from qgface_plugin.models.onnx_import.reading import read_graph

    graph = pooled(body, "x", 3, axis=np.array(1))
    with pytest.raises(CheckpointError, match=message):
        read_graph(graph, Path("model.onnx"))


def test_bfloat16_ends_before_the_last_layer(tmp_path):
    network = import_onnx(save(odd_encoder(), tmp_path / "model.onnx")).backbone
    x = torch.from_numpy(as_usual(images()))
    seen = {}
    for name, layer in network.layers.items():
        layer.register_forward_hook(lambda _, i, out, name=name: seen.update({name: out.dtype}))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        out = network(x)
    assert out.dtype == torch.float32 and seen["fc"] == torch.float32 and seen["pointwise"] == torch.bfloat16
    with torch.no_grad():
        assert torch.cosine_similarity(out, network(x)).min() > 0.99


def test_activations_are_computed_again(tmp_path):
    network = import_onnx(save(odd_encoder(), tmp_path / "model.onnx")).backbone.train()
    again = copy.deepcopy(network)
    again.checkpoint_activations = True
    x = torch.from_numpy(as_usual(images()))
    found = []
    for model in (network, again):
        model(x).square().sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert (found[0] - found[1]).abs().max() <= 1e-6 * found[0].abs().max()


def test_a_structure_that_is_damaged_is_refused(tmp_path):
    network = import_onnx(save(odd_encoder(), tmp_path / "model.onnx")).backbone
    assert isinstance(network, GraphNetwork)
    text = network.wiring.text()
    assert Structure.parsed(text) == Structure.parsed(Structure.parsed(text).text())
    for broken in (text[:-9], text.replace('"format":1', '"format":2'), text.replace('"stem"', '"a b"'), "[]", "{}"):
        with pytest.raises(CheckpointError):
            Structure.parsed(broken, "model.pt")
    unknown = Structure.parsed(text.replace('"AveragePool"', '"Exec"'))
    with pytest.raises(CheckpointError, match="Exec is no operation that is known here"):
        GraphNetwork(unknown)
    other = import_onnx(save(odd_encoder(size=10), tmp_path / "other.onnx")).backbone
    with pytest.raises(RuntimeError, match="structure is of another graph"):
        network.load_state_dict({**network.state_dict(), "structure": other.structure})


FACES = Path(os.environ.get("QGFACE_TEST_DATA", ROOT.parent / "shared" / "data" / "lfw"))
ENCODER = FACES.parent / "encoder" / "mobilefacenet192.onnx"


@pytest.mark.skipif(not ENCODER.is_file(), reason=f"there is no {ENCODER}")
def test_an_encoder_that_somebody_trained(tmp_path):
    found = import_onnx(ENCODER)
    assert (found.network, found.size) == ("graph", 192) and found.difference <= 1e-5
    again = save(exported(found.backbone), tmp_path / "again.onnx")
    pixels = images()
    assert close(run_onnx(again, as_usual(pixels)), run_onnx(ENCODER, as_usual(pixels)))


def _onnxscript() -> bool:
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        return False
    return True


@pytest.mark.skipif(not _onnxscript(), reason="PyTorch's exporter that is based on torch.export needs onnxscript")
@pytest.mark.parametrize("network", ["iresnet", "mbf"])
def test_the_exporter_based_on_torch_export(network, tmp_path, monkeypatch):
    from qgface_plugin.models.backbones import iresnet
    from qgface_plugin.models.onnx_import import recognition

    monkeypatch.setitem(iresnet.DEPTHS, "r10", (1, 1, 1, 1))
    monkeypatch.setitem(NETWORKS, "r10", None)
    monkeypatch.setattr(recognition, "NETWORKS", (*recognition.NETWORKS, "r10"))
    model = seeded("mbf", 16) if network == "mbf" else IResNet((1, 1, 1, 1), 16).eval()
    path = tmp_path / "model.onnx"
    batch = torch.export.Dim("N")
    torch.onnx.export(
        model, (torch.zeros(2, 3, 112, 112),), str(path), dynamo=True, dynamic_shapes=({0: batch},), verbose=False,
        external_data=False,
    )  # fmt: skip
    found = import_onnx(path)
    assert found.network == ("mbf" if network == "mbf" else "r10") and found.difference <= 1e-5
