"""Backbone weights in and out: every wrapper, every misfit named."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from qgface_plugin.models.weights import export_backbone, load_backbone
from qgface_plugin.utils.errors import CheckpointError


def backbone(width: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))


class Wrapped(nn.Module):
    """Prefixes as DistributedDataParallel and torch.compile give them."""

    def __init__(self, inner: nn.Module, name: str) -> None:
        super().__init__()
        self.add_module(name, inner)


def filled(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for i, value in enumerate(module.state_dict().values()):
            value.fill_(i + 1)
    return module


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    "wrappers", [(), ("module",), ("_orig_mod",), ("_orig_mod", "module"), ("module", "_orig_mod")]
)
@pytest.mark.parametrize("side", ["file", "backbone", "export"])
def test_wrappers_on_either_side(tmp_path, wrappers, side):
    source, target = filled(backbone()), backbone()
    outer = {"file": source, "export": source, "backbone": target}[side]
    for name in wrappers:
        outer = Wrapped(outer, name)
    if side == "export":
        export_backbone(tmp_path / "model.pt", outer.state_dict())
        assert list(torch.load(tmp_path / "model.pt", weights_only=True)) == list(source.state_dict())
    else:
        torch.save((outer if side == "file" else source).state_dict(), tmp_path / "model.pt")
    load_backbone(tmp_path / "model.pt", outer if side == "backbone" else target)
    assert equal(source, target)


def test_arcface_torchs_checkpoint(tmp_path):
    source, target = filled(backbone()), backbone()
    state = {"epoch": 3, "global_step": 7, "state_dict_backbone": source.state_dict(), "state_optimizer": {}}
    torch.save(state, tmp_path / "checkpoint_gpu_0.pt")
    load_backbone(tmp_path / "checkpoint_gpu_0.pt", target)
    assert equal(source, target)


def test_a_misfit_is_named_and_nothing_is_filled(tmp_path):
    state = {**backbone(5).state_dict(), "2.weight": torch.ones(1), "2.bias": torch.ones(1)}
    del state["1.bias"]
    torch.save(state, tmp_path / "model.pt")
    target = filled(backbone())
    with pytest.raises(CheckpointError) as error:
        load_backbone(tmp_path / "model.pt", target)
    message = str(error.value)
    assert "1 missing (1.bias); 2 unexpected (2.weight, 2.bias)" in message
    assert (
        "5 of another shape (0.weight (5, 3) for (4, 3), 0.bias (5,) for (4,), 1.weight (5,) for (4,), ...)" in message
    )
    assert equal(target, filled(backbone()))


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 3}, {"state_dict_backbone": {"a": 1}}])
def test_a_file_without_a_backbone(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="other.pt"):
        load_backbone(tmp_path / "other.pt", backbone())
