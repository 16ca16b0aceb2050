"""Small models in every form that --model takes, and images for them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from qgface_plugin.models.backbones import get_model
from qgface_plugin.models.weights import export_backbone


def noise_images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 112, 112, 3), dtype=np.uint8)


def seeded(network: str, size: int, seed: int = 0) -> nn.Module:
    """A network whose BatchNorm statistics are not the ones it starts with."""
    torch.manual_seed(seed)
    model = get_model(network, size).eval()
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    return model


def write_model(folder: Path, network: str = "quick", size: int = 16, seed: int = 0) -> nn.Module:
    """`folder`/model.pt; returns the model."""
    folder.mkdir(parents=True, exist_ok=True)
    model = seeded(network, size, seed)
    export_backbone(folder / "model.pt", model.state_dict())
    return model


def write_onnx(path: Path, model: nn.Module, side: int = 112, batch: int | None = None, **options) -> Path:
    """`model` as an ONNX file with one input `data`; `batch` fixes the number of images."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dynamic = {"data": {0: "N"}, "feature": {0: "N"}} if batch is None else None
    options = {"input_names": ["data"], "output_names": ["feature"], "dynamic_axes": dynamic, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model.eval(), torch.zeros(batch or 1, 3, side, side), str(path), dynamo=False, **options)
    return path


def naive_features(model: nn.Module, image: np.ndarray, mirrored: bool) -> np.ndarray:
    """One image by the definition: columns reversed for the mirror image, then (x - 127.5) / 127.5."""
    pixels = image[:, ::-1] if mirrored else image
    values = ((pixels.astype(np.float64) - 127.5) / 127.5).transpose(2, 0, 1)
    with torch.no_grad():
        return model(torch.from_numpy(values[None].astype(np.float32))).numpy()[0]
