"""Loading of a face model from what a user names: a file, a folder, a pack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..utils.device import pick_device
from ..utils.errors import CheckpointError, ConfigError
from ..utils.listing import files_in, unpacked
from .face_model import USUAL, Scale, check_color
from .onnx_model import OnnxModel, load_onnx_model, load_pack, load_zoo_model
from .torch_model import TorchModel, load_torch_model
from .weights import others_in


def load_model(
    model: str,
    *,
    network: str | None = None,
    color: str = "rgb",
    device: str = "auto",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> OnnxModel | TorchModel:
    """The model that `model` names.

    Args:
        model: a `model.pt` or `checkpoint_gpu_0.pt` of this project or of arcface_torch; another trainer's checkpoint
            or a safetensors file, of a network that is known here; an ONNX file; a folder with a `model.pt` or of ONNX
            files; or a name of insightface's models (buffalo_l), which are looked for in
            ~/.insightface/models and never downloaded.
        network: r18, r34, r50, r100, r200, mbf, mbf_large, quick, small, or vit_* where ARCFACE_TORCH names a checkout;
            None: as recipe.json beside the file says, else recognised by its parameters. For .pt files only.
        color: the order of channels that the model was trained on, "rgb" or "bgr"; `embed` takes RGB always.
        device: "auto" (this rank's GPU, else the CPU), "cpu", "cuda", "cuda:1".
        mean: what is subtracted from pixels of 0 to 255: one number, or three in the order of `color`. None: 127.5, or
            what an ONNX graph that normalises pixels itself leaves to do.
        std: what they are then divided by, given when `mean` is.

    Raises:
        CheckpointError: a file that is absent, damaged, refused or of another network; names the first parameter that
            differs.
        ConfigError: an argument that does not fit, or a package that is absent.
    """
    check_color(color)
    scale = _scale(mean, std)
    where = pick_device(device, "--device")
    path = Path(model)
    if path.is_dir():
        if (path / "model.pt").is_file():
            path = path / "model.pt"
        elif files_in(unpacked(path, ".onnx"), ".onnx"):
            _no_network(model, network)
            return load_pack(path, color, where, scale)
        else:
            raise CheckpointError(f"{model} is a folder without model.pt and without .onnx files{others_in(path)}")
    if path.is_file() and path.suffix.lower() != ".onnx":
        return load_torch_model(path, network, color, where, scale or USUAL)
    if path.is_file():
        _no_network(model, network)
        return load_onnx_model(path, color, where, scale=scale)
    if path.suffix in (".pt", ".pth") or len(path.parts) > 1:
        raise CheckpointError(f"{model} does not exist")
    return load_zoo_model(model, color, where, scale)


def _scale(mean: Sequence[float] | None, std: Sequence[float] | None) -> Scale | None:
    if mean is None and std is None:
        return None
    if mean is None or std is None:
        raise ConfigError(f"--{'mean' if std is None else 'std'} is given alone: --mean and --std go together")
    return Scale.of(mean, std)


def _no_network(model: str, network: str | None) -> None:
    if network is not None:
        raise ConfigError(f"--network {network} is for .pt files: {model} is ONNX, which holds its own network")
