"""Graphs that normalise pixels themselves, as exporters write it: pixels are normalised once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_models import noise_images, write_onnx
from torch import nn

from qgface_plugin.models import load_model
from qgface_plugin.models.face_model import NOTHING, USUAL, Scale
from qgface_plugin.models.onnx_normalisation import normalisation_inside, scale_outside
from qgface_plugin.utils.errors import ConfigError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
FACES = noise_images(3)
WEIGHT = np.random.default_rng(5).normal(size=(4, 3, 28, 28)).astype(np.float32) / 28
UNIT = Scale((0.0,), (255.0,))  # pixels of 0 to 1
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def node(kind: str, inputs: str, output: str, **attributes: Any) -> Any:
    return onnx.helper.make_node(kind, inputs.split(), output.split(), **attributes)


def constant(name: str, value: Any) -> Any:
    tensor = onnx.numpy_helper.from_array(np.asarray(value, np.float32), name)
    return onnx.helper.make_node("Constant", [], [name], value=tensor)


def graph(path: Path, nodes: Sequence[Any], tensors: dict[str, Any] | None = None, dtype: str = "FLOAT") -> Path:
    """These nodes from `data` to `pixels`, then a convolution, ReLU and flattening."""
    tail = [node("Conv", "pixels W", "c", strides=[28, 28]), node("Relu", "c", "r"), node("Flatten", "r", "f")]
    given = {"W": WEIGHT, **(tensors or {})}
    held = [
        onnx.numpy_helper.from_array(value if isinstance(value, np.ndarray) else np.asarray(value, np.float32), name)
        for name, value in given.items()
    ]
    kind = getattr(onnx.TensorProto, dtype)
    source = onnx.helper.make_tensor_value_info("data", kind, ["N", 3, 112, 112])
    output = onnx.helper.make_tensor_value_info("f", onnx.TensorProto.FLOAT, ["N", 64])
    made = onnx.helper.make_graph([*nodes, *tail], "g", [source], [output], held)
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


def by_definition(mean: Any, std: Any, images: np.ndarray = FACES) -> np.ndarray:
    pixels = ((images.astype(np.float64) - mean) / std).transpose(0, 3, 1, 2)
    found = nn.functional.conv2d(torch.from_numpy(pixels), torch.from_numpy(WEIGHT).double(), stride=28)
    return found.relu().flatten(1).numpy()


def per_channel() -> list[Any]:
    """Channels taken apart, each with its own numbers, and put together again."""
    nodes = [node("Split", "data", "x0 x1 x2", axis=1)]
    for c in range(3):
        nodes += [constant(f"m{c}", 255 * MEAN[c]), constant(f"s{c}", 255 * STD[c])]
        nodes += [node("Sub", f"x{c} m{c}", f"y{c}"), node("Div", f"y{c} s{c}", f"z{c}")]
    return [*nodes, node("Concat", "z0 z1 z2", "pixels", axis=1)]


HALF = [node("Sub", "data m", "a"), node("Div", "a m", "pixels")]
CHANNELS = (1, 3, 1, 1)
NORM = "data gamma beta mean var"
BATCHNORM = {"gamma": [1, 1, 1], "beta": [0, 0, 0]}
RAW_NORM = {**BATCHNORM, "mean": [120, 110, 100], "var": [4000, 4100, 4200]}
NEAR_NORM = {**BATCHNORM, "mean": [-0.1, -0.15, -0.2], "var": [0.25, 0.25, 0.25]}


@pytest.mark.parametrize(
    ("nodes", "tensors", "outside", "mean", "std"),
    [
        (HALF, {"m": [127.5]}, NOTHING, 127.5, 127.5),
        ([constant("m", 127.5), *HALF], {}, NOTHING, 127.5, 127.5),
        ([constant("k", 127.5), node("Identity", "k", "m"), *HALF], {}, NOTHING, 127.5, 127.5),
        (
            [node("Sub", "data m", "a", name="_minusscalar0"), node("Mul", "a s", "pixels", name="_mulscalar0")],
            {"m": [127.5], "s": [0.0078125]},
            NOTHING,
            127.5,
            128,
        ),
        (
            [node("Mul", "data s", "a"), node("Add", "m a", "pixels")],
            {"s": [1 / 127.5], "m": [-1]},
            NOTHING,
            127.5,
            127.5,
        ),
        (
            [node("Div", "data k", "x"), node("Sub", "x m", "a"), node("Div", "a s", "pixels")],
            {"k": 255, "m": MEAN.reshape(CHANNELS), "s": STD.reshape(CHANNELS)},
            NOTHING,
            255 * MEAN,
            255 * STD,
        ),
        (
            [node("Sub", "data m", "a"), node("Div", "a s", "pixels")],
            {"m": MEAN.reshape(CHANNELS), "s": STD.reshape(CHANNELS)},
            UNIT,
            255 * MEAN,
            255 * STD,
        ),
        (HALF, {"m": [0.5]}, UNIT, 127.5, 127.5),
        (per_channel(), {}, NOTHING, 255 * MEAN, 255 * STD),
        ([node("BatchNormalization", NORM, "pixels")], RAW_NORM, NOTHING, [120, 110, 100], np.sqrt([4000, 4100, 4200])),
        (
            [node("BatchNormalization", NORM, "pixels")],
            NEAR_NORM,
            USUAL,
            127.5 - 127.5 * np.array([0.1, 0.15, 0.2]),
            63.75,
        ),
        ([node("Sub", "data m", "pixels")], {"m": np.full((3, 112, 112), 127.5, np.float32)}, NOTHING, 127.5, 1),
        (
            [node("Conv", "data w b", "pixels", group=3)],
            {"w": np.full((3, 1, 1, 1), 1 / 128, np.float32), "b": [-127.5 / 128] * 3},
            NOTHING,
            127.5,
            128,
        ),
        (
            [
                node("Transpose", "data", "t", perm=[0, 2, 3, 1]),
                node("Sub", "t m", "a"),
                node("Div", "a s", "b"),
                node("Transpose", "b", "pixels", perm=[0, 3, 1, 2]),
            ],
            {"m": 255 * MEAN, "s": 255 * STD},
            NOTHING,
            255 * MEAN,
            255 * STD,
        ),
        ([node("Mul", "data h", "a"), node("Add", "a h", "pixels")], {"h": [0.5]}, USUAL, 0, 255),
        ([node("Mul", "data h", "pixels")], {"h": [255]}, UNIT, 0, 1),
        ([node("Div", "data h", "pixels")], {"h": [255]}, NOTHING, 0, 255),
        ([node("Identity", "data", "pixels")], {}, USUAL, 127.5, 127.5),
    ],
)
def test_pixels_are_normalised_once(
    tmp_path: Path, nodes: list[Any], tensors: dict[str, Any], outside: Scale, mean: Any, std: Any
) -> None:
    path = graph(tmp_path / "x.onnx", nodes, {name: np.asarray(value, np.float32) for name, value in tensors.items()})
    assert scale_outside(path) == outside
    expected = by_definition(mean, std)
    np.testing.assert_allclose(load_model(str(path)).embed(FACES).original, expected, atol=1e-3 * expected.max())


def test_channels_that_the_graph_turns(tmp_path: Path) -> None:
    """BGR inside, with numbers of each channel, which are of BGR then."""
    nodes = [node("Gather", "data i", "t", axis=1), node("Sub", "t m", "pixels")]
    tensors = {"i": np.array([2, 1, 0]), "m": np.array([100, 110, 130], np.float32).reshape(CHANNELS)}
    path = graph(tmp_path / "x.onnx", nodes, tensors)
    found = normalisation_inside(onnx.load(str(path)))
    assert (found.scale.mean, found.operations) == ((130, 110, 100), ("Gather", "Sub"))
    expected = by_definition([100, 110, 130], 1, FACES[..., ::-1])
    np.testing.assert_allclose(load_model(str(path)).embed(FACES).original, expected, rtol=1e-4)


def test_pixels_as_bytes(tmp_path: Path) -> None:
    nodes = [node("Cast", "data", "x", to=1), node("Sub", "x m", "a"), node("Div", "a m", "pixels")]
    path = graph(tmp_path / "x.onnx", nodes, {"m": [127.5]}, "UINT8")
    expected = by_definition(127.5, 127.5)
    np.testing.assert_allclose(load_model(str(path)).embed(FACES).original, expected, atol=1e-4 * expected.max())
    with pytest.raises(ConfigError, match="x takes pixels of 0 to 255 as bytes"):
        load_model(str(path), mean=[127.5], std=[127.5])


class Inside(nn.Module):
    """As a person writes it, with buffers per channel."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.register_buffer("mean", torch.tensor(MEAN, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD, dtype=torch.float32).view(1, 3, 1, 1))
        self.layer = nn.Linear(147, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x / 255 - self.mean) / self.std
        return self.layer(nn.functional.avg_pool2d(x, 16).flatten(1))


@pytest.mark.parametrize(
    "options", [{}, {"do_constant_folding": False}, {"keep_initializers_as_inputs": True}, {"batch": 1}]
)
@pytest.mark.parametrize("opset", [11, 17])
def test_what_torch_exports(tmp_path: Path, opset: int, options: dict[str, Any]) -> None:
    path = write_onnx(tmp_path / "x.onnx", Inside(), opset_version=opset, **options)
    pixels = torch.from_numpy(FACES.astype(np.float32)).permute(0, 3, 1, 2)
    expected = Inside()(pixels).detach().numpy()
    np.testing.assert_allclose(load_model(str(path)).embed(FACES).original, expected, rtol=1e-3, atol=1e-4)


def test_what_is_no_normalisation_leaves_the_usual(tmp_path: Path) -> None:
    """Grey pictures, a square, an input used twice: no factor and shift of each channel."""
    grey = np.full((3, 3, 1, 1), 1 / 3, np.float32)
    for nodes in (
        [node("Conv", "data w", "pixels")],
        [node("Mul", "data data", "pixels")],
        [node("Relu", "data", "a"), node("Add", "a data", "pixels")],
    ):
        path = graph(tmp_path / "x.onnx", nodes, {"w": grey})
        assert scale_outside(path) == USUAL


def test_the_options_override_the_graph(tmp_path: Path) -> None:
    path = graph(tmp_path / "x.onnx", HALF, {"m": [127.5]})
    found = load_model(str(path), mean=[10, 20, 30], std=[2])
    assert (found.scale.mean, found.scale.std) == ((10, 20, 30), (2,))
    mean, std = np.array([10, 20, 30]) + 2 * 127.5, 2 * 127.5
    np.testing.assert_allclose(found.embed(FACES).original, by_definition(mean, std), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("mean", "std", "said"),
    [
        ([127.5], None, "--mean is given alone"),
        (None, [1.0], "--std is given alone"),
        ([1, 2], [1], "--mean is 1 2"),
        ([1], [0], "--std is 0"),
        ([float("nan")], [1], "--mean is nan"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, mean: Any, std: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_model(str(tmp_path), mean=mean, std=std)


def folded(path: Path) -> Path:
    """The first convolution has taken in (x - 127.5) / 127.5: nothing in the graph tells."""
    nodes = [
        node("Conv", "data V d", "pixels0", strides=[28, 28]),
        node("Relu", "pixels0", "r0"),
        node("Flatten", "r0", "f"),
    ]
    made = onnx.load(str(graph(path, [node("Identity", "data", "pixels")])))
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    held = {"V": WEIGHT / 127.5, "d": -WEIGHT.sum((1, 2, 3)) + 1}
    made.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in held.items())
    onnx.save(made, str(path))
    return path


def test_a_model_that_tells_nothing_apart_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = folded(tmp_path / "x.onnx")
    loaded = load_model(str(path))
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert loaded.warnings == [warning]
    assert "x gives nearly one feature" in warning and "Try --mean 0 --std 1" in warning
    caplog.clear()
    assert load_model(str(path), mean=[0], std=[1]).warnings == [] and not caplog.records
