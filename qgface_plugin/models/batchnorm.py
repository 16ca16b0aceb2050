"""BatchNorm of networks that are trained further: given back where an exporter has folded it away, or frozen."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..utils import distributed
from ..utils.errors import DataError
from .embeddings import evaluating
from .onnx_import.network import KEY, GraphNetwork
from .onnx_import.simplification import only_reader, readers_of
from .onnx_import.structure import Node

LOGGER = logging.getLogger(__name__)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
EPSILON = 1e-5  # of the BatchNorms that come back


def unfold_batchnorm(module: nn.Module, batches: Iterable[Tensor], progress: str | None = None) -> nn.Module:
    """The network with the statistics of images in the BatchNorms that an exporter has folded away.

    What the network computes in evaluation mode stays: each of them gets the mean and the variance of what reaches it,
    and a weight and a bias that undo them. Those that still have statistics of their own keep them. On several ranks
    the statistics are those of the images of all ranks, and every rank has to call this.

    Args:
        module: as `load_trainable` gives it, not wrapped. One of arcface_torch's networks is changed in place; one that
            keeps its graph is made anew, with a BatchNorm behind each convolution that has a bias.
        batches: images (B, 3, 112, 112) in [-1, 1], on the network's device; a thousand are plenty.
        progress: label of a progress bar; None shows none.

    Returns:
        The network, in the mode that `module` was in.

    Raises:
        DataError: fewer than two numbers reach a BatchNorm.

    Example:
        >>> from .backbones import get_model
        >>> network = get_model("quick", 4)
        >>> unfold_batchnorm(network, [torch.zeros(2, 3, 112, 112)]) is network  # nothing was folded
        True
    """
    if isinstance(module, GraphNetwork):
        module = _with_norms(module)
    norms = folded_norms(module)
    if not norms:
        LOGGER.info("no BatchNorm of the network was folded away: its statistics are its own")
        return module
    sums = {name: norm.weight.new_zeros(3, norm.num_features, dtype=torch.float64) for name, norm in norms.items()}
    handles = [norm.register_forward_pre_hook(_adding(sums[name])) for name, norm in norms.items()]
    images = 0
    try:
        with evaluating(module), torch.no_grad():
            for batch in tqdm(batches, desc=progress, unit="batch", disable=progress is None):
                module(batch)
                images += len(batch)
    finally:
        for handle in handles:
            handle.remove()
    images = int(distributed.total(torch.tensor(images)))
    for name, norm in norms.items():
        _give(norm, distributed.total(sums[name]), name)
    LOGGER.info("%d BatchNorms that were folded away have the statistics of %d images", len(norms), images)
    return module


def folded_norms(module: nn.Module) -> dict[str, nn.BatchNorm1d | nn.BatchNorm2d]:
    """The BatchNorms of a network that an exporter has folded away, by name, as the import leaves them: they do nothing
    but to add their bias. Of a network that keeps its graph, those that it would be given."""
    module = _with_norms(module) if isinstance(module, GraphNetwork) else module
    norms = ((name, norm) for name, norm in module.named_modules() if isinstance(norm, _BATCH_NORMS))
    return {name: norm for name, norm in norms if _is_folded(norm)}


def freeze_batchnorm(module: nn.Module, affine: bool = False) -> nn.Module:
    """Make every BatchNorm of a network use its running statistics while it is trained, and leave them as they are.

    Args:
        module: the network, changed in place.
        affine: fix weights and biases of the BatchNorms too.

    Returns:
        The network.

    Example:
        >>> norm = freeze_batchnorm(nn.BatchNorm1d(2)).train()
        >>> norm(torch.full((3, 2), 5.0)).mean().item() > 4, norm.running_mean.tolist()
        (True, [0.0, 0.0])
    """
    for norm in module.modules():
        if isinstance(norm, (*_BATCH_NORMS, *_FROZEN.values())):
            norm.__class__ = _FROZEN.get(type(norm), type(norm))
            norm.eval()
            if affine:
                norm.requires_grad_(False)
    return module


class _Frozen(nn.modules.batchnorm._BatchNorm):
    """A BatchNorm that stays in evaluation mode. Its class is swapped, so that copies of it stay so too."""

    def train(self, mode: bool = True) -> _Frozen:
        return super().train(False)


class FrozenBatchNorm1d(_Frozen, nn.BatchNorm1d):
    """nn.BatchNorm1d that stays in evaluation mode."""


class FrozenBatchNorm2d(_Frozen, nn.BatchNorm2d):
    """nn.BatchNorm2d that stays in evaluation mode."""


_FROZEN: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: FrozenBatchNorm1d,
    nn.BatchNorm2d: FrozenBatchNorm2d,
}


def _adding(sums: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    """A hook that adds to `sums` (3, C): number, sum and sum of squares of what reaches a BatchNorm."""

    def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].double().transpose(0, 1).flatten(1)  # (C, numbers)
        sums[0] += x.shape[1]
        sums[1] += x.sum(1)
        sums[2] += x.square().sum(1)

    return add


def _is_folded(norm: nn.modules.batchnorm._BatchNorm) -> bool:
    """Whether a BatchNorm does nothing but to add its bias, as the import leaves those that it has no statistics of."""
    mean, var = norm.running_mean, norm.running_var
    if mean is None or var is None or norm.weight is None or mean.any():
        return False
    factor = norm.weight.detach().double() / (var.double() + norm.eps).sqrt()
    return bool(torch.allclose(factor, torch.ones_like(factor), rtol=0, atol=1e-6))  # one that is new has 1 - 5e-6


@torch.no_grad()
def _give(norm: nn.modules.batchnorm._BatchNorm, sums: Tensor, name: str) -> None:
    """Statistics from the sums, and the weight and the bias that keep what the BatchNorm computes."""
    count = sums[0, 0]
    if not count > 1:
        raise DataError(f"{name} has seen {int(count)} numbers per channel: give at least two images")
    assert norm.running_mean is not None and norm.running_var is not None
    mean = sums[1] / count
    variance = (sums[2] / count - mean.square()).clamp(min=0) * count / (count - 1)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_((norm.running_var.double() + norm.eps).sqrt())
    norm.bias.copy_(norm.bias.double() + norm.running_mean.double())


def _with_norms(network: GraphNetwork) -> nn.Module:
    """A network that keeps its graph, with a BatchNorm that adds the bias behind each convolution that has one, and
    behind a last linear layer. A graph with LayerNorms had none."""
    graph = network.wiring
    if any(node.op == "LayerNorm" for node in graph.nodes):
        return network
    readers, state = readers_of(graph), network.state_dict()
    names = {node.name for node in graph.nodes}
    nodes: list[Node] = []
    for node in graph.nodes:
        following = only_reader(graph, readers, node.outputs[0])
        folded = node.op == "Conv2d" or (node.op == "Linear" and node.outputs[0] == graph.output)
        if not folded or not node.attributes["bias"] or (following is not None and following.op == "BatchNorm"):
            nodes.append(node)
            continue
        name = _unused(f"{node.name}_bn", names)
        bias = state.pop(f"layers.{node.name}.bias")
        planar, inner = node.op == "Conv2d", f"{node.outputs[0]}_bn"
        attributes = {"channels": len(bias), "epsilon": EPSILON, "planar": planar}
        nodes.append(replace(node, outputs=(inner,), attributes={**node.attributes, "bias": False}))
        nodes.append(Node("BatchNorm", name, (inner,), node.outputs, attributes))
        ones = torch.ones_like(bias)
        state |= {f"layers.{name}.weight": ones, f"layers.{name}.bias": bias}
        state |= {f"layers.{name}.running_mean": 0 * ones, f"layers.{name}.running_var": (1 - EPSILON) * ones}
        state[f"layers.{name}.num_batches_tracked"] = torch.zeros((), dtype=torch.int64, device=bias.device)
    if len(nodes) == len(graph.nodes):
        return network
    made = GraphNetwork(replace(graph, nodes=tuple(nodes)))
    made.load_state_dict({**state, KEY: made.structure})
    made.checkpoint_activations = network.checkpoint_activations
    return made.to(network.structure.device).train(network.training)


def _unused(name: str, names: set[str]) -> str:
    while name in names:
        name += "_"
    names.add(name)
    return name
