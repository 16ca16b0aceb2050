"""An ONNX file with the outputs of OpenCV's face_detection_yunet that finds one face in any image of 320 x 320."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SIDE = 320
STRIDES = (8, 16, 32)
WIDTHS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}


def write_yunet(path: Path, score: float, box: np.ndarray, points: np.ndarray) -> Path:
    """One face, on the first anchor of stride 8.

    Args:
        path: the file.
        score: of the class and of the object; the root of their product is the face's.
        box: x, y, width, height in pixels.
        points: (5, 2) x and y in pixels, the image's left eye first.
    """
    from onnx import TensorProto, helper, numpy_helper

    heads = {
        f"{kind}_{stride}": np.zeros((1, (SIDE // stride) ** 2, width), dtype=np.float32)
        for kind, width in WIDTHS.items()
        for stride in STRIDES
    }
    heads["cls_8"][0, 0] = heads["obj_8"][0, 0] = score
    centre = box[:2] + box[2:] / 2
    heads["bbox_8"][0, 0] = [*(centre / 8), *np.log(box[2:] / 8)]
    heads["kps_8"][0, 0] = (points / 8).ravel()
    nodes, constants = [], []
    for name, value in heads.items():  # zero times the image's mean: outputs that hang on the input
        constants.append(numpy_helper.from_array(value, f"{name}_constant"))
        nodes.append(helper.make_node("Add", [f"{name}_constant", "nothing"], [name]))
    constants.append(numpy_helper.from_array(np.zeros((1, 1, 1), np.float32), "zero"))
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("ReduceMean", ["mean"], ["one"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["one", "zero"], ["nothing"]),
        *nodes,
    ]
    graph = helper.make_graph(
        nodes,
        "yunet",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(value.shape)) for name, value in heads.items()],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path
