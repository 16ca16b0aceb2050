"""Starting encoder of a training: what people have, weights or ONNX, as a network that can be trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from ..utils.errors import CheckpointError
from ..utils.listing import files_in, unpacked
from .backbones import NAMES, get_model
from .checkout_networks import checkout_network, is_of_the_checkout
from .face_model import Scale
from .onnx_import.importing import import_onnx
from .onnx_import.network import GRAPH, GraphNetwork, structure_in
from .onnx_model import in_pack, zoo_path
from .torch_model import KNOWN_BY, embedding_size, read_network, recognise
from .weights import is_counter, others_in, read_backbone


@dataclass(frozen=True)
class Trainable:
    """A network with the weights that somebody has trained.

    Attributes:
        backbone: RGB (N, 3, 112, 112) in [-1, 1] -> raw features (N, d); on the CPU, in evaluation mode.
        network: its name: r18 ... mbf_large, ..., or "graph" where it keeps the graph of an ONNX file.
        size: d.
        source: the file that it is from.
        notes: what a user has to know, one sentence each.
        difference: of an ONNX file: from onnxruntime, as `Imported` has it.
    """

    backbone: nn.Module
    network: str
    size: int
    source: Path
    notes: tuple[str, ...] = ()
    difference: float = 0.0


def load_trainable(
    source: str | Path,
    *,
    network: str | None = None,
    features_bias: bool = True,
    color: str = "rgb",
    scale: Scale | None = None,
    keep_graph: bool = False,
) -> Trainable:
    """The encoder that `source` names, to be trained further.

    Args:
        source: a file of PyTorch weights as `weights.read_backbone` takes it, or an ONNX file; a folder with a
            model.pt, or a pack of ONNX files; or a name in insightface's folder of models. Nothing is downloaded.
        network: of PyTorch weights, where it is known; None: as recipe.json beside the file says, else recognised.
        features_bias: False fixes the bias of the last BatchNorm, as `get_model` has it; its value stays.
        color: the order of channels that an ONNX model was trained on, "rgb" or "bgr".
        scale: what an ONNX model wants to be done to pixels of 0 to 255; None: what its graph or its pack says.
        keep_graph: an ONNX model keeps its graph also where its network is known.

    Raises:
        CheckpointError: a file that is absent, damaged, refused, of another network, or with an operation that cannot
            be trained; names the file and what it is about.
        ConfigError: a network that is not known, or a package that is absent.
    """
    path, name, stated = _located(source)
    if path.suffix.lower() == ".onnx":
        found = import_onnx(path, color, scale or stated, name, keep_graph, features_bias)
        return Trainable(found.backbone, found.network, found.size, path, found.notes, found.difference)
    weights, network, size = read_network(path, network)
    backbone = build_network(network, size, features_bias, weights, str(path))
    fill(backbone, weights)
    return Trainable(backbone.eval(), network, size, path)


def _located(source: str | Path) -> tuple[Path, str | None, Scale | None]:
    """The file that is meant, its name for messages, and the normalisation that its pack states."""
    path = Path(source)
    if not path.exists() and len(path.parts) == 1 and path.suffix not in (".pt", ".pth"):
        path = zoo_path(str(source))
    if not path.is_dir():
        return path, None, None
    if (path / "model.pt").is_file():
        return path / "model.pt", None, None
    if files_in(unpacked(path, ".onnx"), ".onnx"):
        return in_pack(path)
    raise CheckpointError(f"{path} is a folder without model.pt and without .onnx files{others_in(path)}")


def is_pytorch(source: str | Path) -> bool:
    """Whether `source` names PyTorch weights, and not an ONNX file, a pack or a model of insightface.

    Raises:
        CheckpointError: it names nothing.
    """
    path = Path(source)
    if path.is_file():
        return path.suffix.lower() != ".onnx"
    return _located(source)[0].suffix.lower() != ".onnx"


def network_in(source: str | Path) -> str | None:
    """The network that PyTorch weights are of, by what they hold and what recipe.json says; None where that is unknown.

    Raises:
        CheckpointError: a file that is absent, damaged or refused.
    """
    path = _located(source)[0]
    weights = read_backbone(path, KNOWN_BY)
    if structure_in(weights, str(path)) is not None:
        return GRAPH
    try:
        return recognise(weights, embedding_size(weights, str(path)))
    except CheckpointError:  # layers of none of them
        return None


def build_network(
    network: str, size: int, features_bias: bool, weights: Mapping[str, Tensor], source: str
) -> nn.Module:
    """A network with weights of its beginning.

    Args:
        network: its name; "graph" is made by the structure in `weights`.
        size: d.
        features_bias: as `get_model` has it.
        weights: state dict of such a network.
        source: where it is from, for messages.
    """
    if network == GRAPH:
        structure = structure_in(weights, source)
        assert structure is not None  # read_network has looked
        return GraphNetwork(structure)
    if network not in NAMES and is_of_the_checkout(network):
        return checkout_network(network, size)
    return get_model(network, size, features_bias=features_bias)


def fill(backbone: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a network weights that fit it; counters of BatchNorms may be absent."""
    own = backbone.state_dict()
    backbone.load_state_dict(
        {name: weights[name] if name in weights or not is_counter(name) else own[name] for name in own}
    )
