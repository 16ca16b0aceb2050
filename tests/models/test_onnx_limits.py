"""Graphs that ask for too much are refused before onnxruntime opens them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from qgface_plugin.models.onnx_limits import check_graph
from qgface_plugin.models.onnx_model import load_onnx_model
from qgface_plugin.utils.errors import CheckpointError

onnx = pytest.importorskip("onnx")
helper, numpy_helper = pytest.importorskip("onnx.helper"), pytest.importorskip("onnx.numpy_helper")


def write(path: Path, nodes: list, **values: list[int]) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("data", onnx.TensorProto.FLOAT, ["N", 3, 112, 112])],
        [helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, ["N", "d"])],
        [numpy_helper.from_array(np.array(value), name) for name, value in values.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)]), str(path))
    return path


def node(kind: str, inputs: list[str], output: str, **attributes: object):
    return helper.make_node(kind, inputs, [output], **attributes)


LAST = [node("AveragePool", ["a"], "p", kernel_shape=[16, 16], strides=[16, 16]), node("Flatten", ["p"], "out")]


@pytest.mark.parametrize(
    ("nodes", "values"),
    [
        ([node("Pad", ["data", "v"], "a"), *LAST], [0, 0, 0, 0, 0, 0, 1 << 20, 0]),
        ([node("Pad", ["data", "v"], "a"), *LAST], [0, 0, 0, 0, 0, 0, 1 << 40, 0]),
        ([node("Identity", ["data"], "a"), node("ConstantOfShape", ["v"], "b"), *LAST], [1 << 14, 1 << 14]),
        ([node("Tile", ["data", "v"], "a"), *LAST], [1, 1, 64, 64]),
    ],
)
def test_too_large(tmp_path: Path, nodes: list, values: list[int]) -> None:
    path = write(tmp_path / "x.onnx", nodes, v=values)
    with pytest.raises(CheckpointError, match=r"x.onnx: '[ab]' in its graph has .* numbers per image; 4194304"):
        load_onnx_model(path, "rgb", torch.device("cpu"))


def test_a_small_expansion_passes(tmp_path: Path) -> None:
    path = write(tmp_path / "x.onnx", [node("Pad", ["data", "v"], "a"), *LAST], v=[0, 0, 0, 0, 0, 0, 16, 16])
    assert load_onnx_model(path, "rgb", torch.device("cpu")).dim == 192


def test_loops(tmp_path: Path) -> None:
    kinds = {"i": onnx.TensorProto.INT64, "c": onnx.TensorProto.BOOL}
    body = helper.make_graph(
        [node("Identity", ["c"], "d")], "b",
        [helper.make_tensor_value_info(name, kind, []) for name, kind in kinds.items()],
        [helper.make_tensor_value_info("d", onnx.TensorProto.BOOL, [])],
    )  # fmt: skip
    loop = helper.make_node("Loop", ["v", ""], [], body=body)
    path = write(tmp_path / "x.onnx", [loop, node("Identity", ["data"], "a"), *LAST], v=1 << 60)
    with pytest.raises(CheckpointError, match="x.onnx: its graph has a Loop"):
        check_graph(path)


def test_what_onnx_cannot_read_is_left_to_onnxruntime(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no graph")
    check_graph(tmp_path / "x.onnx")
    with pytest.raises(CheckpointError, match="cannot be loaded by onnxruntime"):
        load_onnx_model(tmp_path / "x.onnx", "rgb", torch.device("cpu"))
