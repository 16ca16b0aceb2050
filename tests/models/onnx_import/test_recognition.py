"""Graphs of arcface_torch's networks, in every style, become the network of that name with its parameters."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from onnx_styles import STYLES, save
from small_models import seeded
from torch import nn

from qgface_plugin.models.backbones import NAMES, get_model, iresnet
from qgface_plugin.models.onnx_import import recognition
from qgface_plugin.models.onnx_import.importing import TOLERANCE, import_onnx
from qgface_plugin.models.onnx_import.recognition import NETWORKS, skeleton
from qgface_plugin.utils.registry import NETWORKS as NETWORKS_BY_NAME


def lively(network: str, size: int) -> nn.Module:
    """With numbers in every parameter that are not those of the beginning."""
    model = seeded(network, size)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.rand_like(parameter) * 0.3)
    return model


def onnx_features(path, images: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None].numpy()})[0] for image in images])


@pytest.fixture(scope="module", params=["r10", "mbf", pytest.param("r50", marks=pytest.mark.long)])
def model(request):
    """One of MobileFaceNet, and an IResNet of one block a stage, which is as quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(iresnet.DEPTHS, "r10", (1, 1, 1, 1))
        patch.setitem(NETWORKS_BY_NAME, "r10", None)
        patch.setattr(recognition, "NETWORKS", (*NETWORKS, "r10"))
        yield request.param, lively(request.param, 24)


@pytest.mark.parametrize("style", STYLES)
def test_every_style_gives_the_network_by_its_names(model, style, tmp_path):
    network, original = model
    path = save(STYLES[style](original), tmp_path / "model.onnx")
    found = import_onnx(path)
    assert found.network == network and found.size == 24 and found.difference <= TOLERANCE
    shapes = {name: value.shape for name, value in get_model(network, 24).state_dict().items()}
    assert {name: value.shape for name, value in found.backbone.state_dict().items()} == shapes
    images = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        ours = found.backbone(images).numpy()
    theirs = onnx_features(path, images)
    assert (np.abs(ours - theirs) / np.linalg.norm(theirs, axis=1, keepdims=True)).max() <= 1e-5


def test_an_unfolded_graph_gives_back_the_very_numbers(model, tmp_path):
    network, original = model
    found = import_onnx(save(STYLES["unfolded"](original), tmp_path / "model.onnx"))
    for name, value in original.state_dict().items():
        torch.testing.assert_close(found.backbone.state_dict()[name], value, rtol=1e-6, atol=1e-7)


def test_another_network_of_as_many_convolutions_keeps_its_graph(model, tmp_path):
    network, original = model
    graph = STYLES["folded"](original)
    for node in graph.graph.node:
        if node.op_type == "PRelu":
            node.op_type = "LeakyRelu"
            del node.input[1:]
            break
    found = import_onnx(save(graph, tmp_path / "model.onnx"))
    assert found.network == "graph" and found.difference <= TOLERANCE
    assert any("LeakyRelu" in note for note in found.notes)


def test_every_network_of_arcface_torch_has_its_own_number_of_convolutions():
    """By which one is chosen; the rest is compared layer by layer."""
    counts = [sum(isinstance(m, nn.Conv2d) for m in skeleton(name, 8).modules()) for name in NETWORKS]
    assert len(set(counts)) == len(NETWORKS) and set(NETWORKS) <= set(NAMES)
