"""Recognition of arcface_torch's networks in a graph: by its structure, whatever its nodes are called.

A network's modules are followed through the graph in the order in which the network runs them. A BatchNorm that the
exporter has folded into the layer before it comes back as one that does nothing but to add that layer's bias.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..backbones import iresnet, mobilefacenet
from ..backbones.iresnet import IResNet, IResNetBlock
from ..backbones.mobilefacenet import Block, MobileFaceNet
from .structure import INPUT, Node, Structure

NETWORKS = (*iresnet.DEPTHS, *mobilefacenet.SIZES)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_FLAT = ("Flatten", "Reshape", "Squeeze")


class NotThisNetwork(Exception):
    """A graph is another network's; says where it differs."""


def recognised(structure: Structure, weights: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """The network that a graph is, and its state dict.

    Args:
        structure: the graph, simplified.
        weights: state dict of a `GraphNetwork` of it.

    Raises:
        NotThisNetwork: it is none of NETWORKS.
    """
    convolutions = sum(node.op == "Conv2d" for node in structure.nodes)
    last = [node for node in structure.nodes if node.op == "Linear"]
    if not last:
        raise NotThisNetwork("it has no linear layer")
    size = last[-1].attributes["outputs"]
    for name in NETWORKS:
        model = skeleton(name, size)
        if sum(isinstance(module, nn.Conv2d) for module in model.modules()) == convolutions:
            return name, _Walk(structure, weights, model).state()
    raise NotThisNetwork(f"none of {', '.join(NETWORKS)} has {convolutions} convolutions")


def skeleton(name: str, size: int) -> nn.Module:
    """A network of NETWORKS without weights."""
    with torch.device("meta"):
        if name in iresnet.DEPTHS:
            return IResNet(iresnet.DEPTHS[name], size)
        return MobileFaceNet(*mobilefacenet.SIZES[name], size)


class _Walk:
    """One network's modules along the graph, and its state dict as it fills."""

    def __init__(self, structure: Structure, weights: Mapping[str, Tensor], model: nn.Module) -> None:
        self.structure, self.weights, self.model = structure, weights, model
        self.readers: dict[str, list[Node]] = {}
        for node in structure.nodes:
            for value in node.inputs:
                if isinstance(value, str) and not value.startswith("$"):
                    self.readers.setdefault(value, []).append(node)
        self.found: dict[str, Tensor] = {}

    def state(self) -> dict[str, Tensor]:
        """The state dict.

        Raises:
            NotThisNetwork: the graph goes another way.
        """
        end = self._through(self.model, "", INPUT)
        if end != self.structure.output:
            raise NotThisNetwork(f"it goes on behind the last layer, with {self._next(end)}")
        return {name: self.found[name] for name in self.model.state_dict()}

    def _through(self, module: nn.Module, name: str, x: str) -> str:
        """The value behind a module that gets the value `x`."""
        if isinstance(module, IResNet):
            body = [n for n, _ in module.named_children() if n not in ("dropout", "fc", "features")]
            x = self._sequence(module, "", body, x)
            return self._sequence(module, "", ["fc", "features"], self._flat(x))
        if isinstance(module, MobileFaceNet):
            x = self._sequence(module.layers, "layers.", [n for n, _ in module.layers.named_children()], x)
            return self._sequence(module, "", ["conv_sep", "features"], x)
        if isinstance(module, IResNetBlock):
            out = self._sequence(module, name, ["bn1", "conv1", "bn2", "prelu", "conv2", "bn3"], x)
            skip = x if module.downsample is None else self._through(module.downsample, f"{name}downsample.", x)
            return self._sum(out, skip)
        if isinstance(module, Block):
            out = self._through(module.layers, f"{name}layers.", x)
            return self._sum(out, x) if module.residual else out
        assert isinstance(module, nn.Sequential)
        return self._sequence(module, name, [n for n, _ in module.named_children()], x)

    def _sequence(self, parent: nn.Module, prefix: str, names: Sequence[str], x: str) -> str:
        """Children of a module, one after the other; a layer and the BatchNorm behind it in one step."""
        bias: Tensor | None = None
        for i, child in enumerate(names):
            module, name = parent.get_submodule(child), f"{prefix}{child}"
            following = parent.get_submodule(names[i + 1]) if i + 1 < len(names) else None
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                x, bias = self._layer(module, name, x)
                if not isinstance(following, _BATCH_NORMS) and bias is not None:
                    raise NotThisNetwork(f"the layer that would be {name} has a bias")
            elif isinstance(module, _BATCH_NORMS):
                x, bias = self._norm(module, name, x, bias), None
            elif isinstance(module, nn.PReLU):
                x = self._prelu(module, name, x)
            elif isinstance(module, nn.Flatten):
                x = self._flat(x)
            else:
                x = self._through(module, f"{name}.", x)
        return x

    def _one(self, x: str, *ops: str) -> Node | None:
        found = [node for node in self.readers.get(x, []) if node.op in ops]
        return found[0] if len(found) == 1 else None

    def _next(self, x: str) -> str:
        return ", ".join(f"{node.name} ({node.op})" for node in self.readers.get(x, [])) or "the end of the graph"

    def _layer(self, module: nn.Conv2d | nn.Linear, name: str, x: str) -> tuple[str, Tensor | None]:
        """The value behind a convolution or a linear layer, and the bias that it has and the module lacks."""
        for node in self.readers.get(x, []):
            if node.op == type(module).__name__ and _fits(node, module):
                self.found[f"{name}.weight"] = self.weights[f"layers.{node.name}.weight"]
                bias = self.weights.get(f"layers.{node.name}.bias")
                if module.bias is not None:
                    self.found[f"{name}.bias"] = (
                        module.bias.new_zeros(len(module.bias), device="cpu") if bias is None else bias
                    )
                    bias = None
                return node.outputs[0], bias
        raise NotThisNetwork(f"where {name} would be it has {self._next(x)}")

    def _norm(self, module: nn.Module, name: str, x: str, bias: Tensor | None) -> str:
        """The value behind a BatchNorm, which gets `bias` added to what it gets."""
        assert isinstance(module, _BATCH_NORMS)
        channels, eps = module.num_features, module.eps
        node = self._one(x, "BatchNorm")
        if node is not None and node.attributes["channels"] == channels:
            own = {
                key: self.weights[f"layers.{node.name}.{key}"].double()
                for key in ("weight", "bias", "running_mean", "running_var")
            }
            variance, x = own["running_var"] + node.attributes["epsilon"], node.outputs[0]
        else:
            zeros = torch.zeros(channels, dtype=torch.float64)
            own = {"weight": zeros + 1, "bias": zeros, "running_mean": zeros}
            variance = zeros + 1
            if bias is None:
                factor, shift, x = self._affine(channels, x)
                own["weight"], own["bias"] = factor, shift
            else:
                own["bias"], bias = bias.double(), None
        # the same sum of variance and epsilon, with this module's epsilon
        running_var = (variance - eps).clamp(min=0)
        own["weight"] = own["weight"] * ((running_var + eps) / variance).sqrt()
        own["running_mean"] = own["running_mean"] - (0 if bias is None else bias.double())
        own["running_var"] = running_var
        self.found |= {f"{name}.{key}": value.float() for key, value in own.items()}
        self.found[f"{name}.num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
        return x

    def _affine(self, channels: int, x: str) -> tuple[Tensor, Tensor, str]:
        """Factor and shift of products and sums with constants, which some simplifiers make of a BatchNorm."""
        factor, shift = torch.ones(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
        while len(found := [pair for node in self.readers.get(x, []) if (pair := _constant_beside(node, x))]) == 1:
            node, constant = found[0]
            numbers = self.weights[f"tensors.{constant}"].double().reshape(-1)
            if len(numbers) not in (1, channels):
                break
            factor, shift = (factor * numbers, shift * numbers) if node.op == "Mul" else (factor, shift + numbers)
            x = node.outputs[0]
        return factor, shift, x

    def _prelu(self, module: nn.PReLU, name: str, x: str) -> str:
        node = self._one(x, "PReLU")
        if node is None or node.attributes["channels"] not in (1, module.num_parameters):
            raise NotThisNetwork(f"where {name} would be it has {self._next(x)}")
        slopes = self.weights[f"layers.{node.name}.weight"]
        self.found[f"{name}.weight"] = slopes.expand(module.num_parameters).clone()
        return node.outputs[0]

    def _flat(self, x: str) -> str:
        node = self._one(x, *_FLAT)
        if node is None:
            raise NotThisNetwork(f"where it would be flattened it has {self._next(x)}")
        return node.outputs[0]

    def _sum(self, x: str, y: str) -> str:
        for node in self.readers.get(x, []):
            if node.op == "Add" and sorted(map(str, node.inputs)) == sorted((x, y)):
                return node.outputs[0]
        raise NotThisNetwork(f"where a residual would be added it has {self._next(x)}")


def _fits(node: Node, module: nn.Conv2d | nn.Linear) -> bool:
    if isinstance(module, nn.Linear):
        return [node.attributes["inputs"], node.attributes["outputs"]] == [module.in_features, module.out_features]
    assert isinstance(module.padding, tuple)
    wanted = {
        "channels": [module.in_channels, module.out_channels],
        "kernel": list(module.kernel_size),
        "stride": list(module.stride),
        "pads": list(module.padding) * 2,
        "dilation": list(module.dilation),
        "groups": module.groups,
    }
    return all(node.attributes[key] == value for key, value in wanted.items())


def _constant_beside(node: Node, x: str) -> tuple[Node, str] | None:
    """A product or sum of a value and a tensor, and the tensor's name."""
    others = [value for value in node.inputs if value != x]
    if node.op not in ("Mul", "Add") or len(others) != 1 or not str(others[0]).startswith("$"):
        return None
    return node, others[0][1:]
