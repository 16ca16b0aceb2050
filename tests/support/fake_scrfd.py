"""An ONNX file with the inputs and outputs of InsightFace's SCRFD detector that always finds the same faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SIDE = 640
STRIDES = (8, 16, 32)
ANCHORS = 2


def write_detector(path: Path, faces: list[tuple[float, np.ndarray, np.ndarray]]) -> Path:
    """faces: (score, box x1 y1 x2 y2, five points (5, 2)) in pixels of an image of 640 x 640."""
    from onnx import TensorProto, helper, numpy_helper

    heads: dict[str, np.ndarray] = {}
    for kind, width in (("score", 1), ("bbox", 4), ("kps", 10)):
        for stride in STRIDES:
            heads[f"{kind}_{stride}"] = np.zeros(((SIDE // stride) ** 2 * ANCHORS, width), dtype=np.float32)
    for row, (score, box, points) in enumerate(faces):
        index = ANCHORS * (row + 1)  # the anchor at y = 0, x = 8 (row + 1)
        centre = np.array([8.0 * (row + 1), 0.0])
        heads["score_8"][index] = score
        heads["bbox_8"][index] = np.concatenate([centre - box[:2], box[2:] - centre]) / 8
        heads["kps_8"][index] = (points - centre).ravel() / 8
    graph = helper.make_graph(
        [helper.make_node("Identity", [f"{name}_constant"], [name]) for name in heads],
        "detector",
        [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(value.shape)) for name, value in heads.items()],
        [numpy_helper.from_array(value, f"{name}_constant") for name, value in heads.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path
