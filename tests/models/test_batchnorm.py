"""Folded BatchNorm comes back with the images' statistics and changes nothing; frozen BatchNorm stays as it is."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from onnx_styles import folded, odd_encoder, save
from small_models import seeded
from torch import nn

from qgface_plugin.models.backbones import get_model
from qgface_plugin.models.batchnorm import freeze_batchnorm, unfold_batchnorm
from qgface_plugin.models.onnx_import.importing import import_onnx
from qgface_plugin.utils.errors import DataError

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@pytest.fixture(scope="module", params=["mbf", "graph"])
def imported(request, tmp_path_factory) -> nn.Module:
    path = tmp_path_factory.mktemp("models") / "model.onnx"
    graph = odd_encoder() if request.param == "graph" else folded(seeded("mbf", 16))
    found = import_onnx(save(graph, path))
    assert found.network == request.param
    return found.backbone


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(6, 3, 112, 112, generator=torch.Generator().manual_seed(4)) * 2 - 1


def inputs_of_norms(model: nn.Module, images: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    seen: dict[str, list[torch.Tensor]] = {}
    norms = {name: m for name, m in model.named_modules() if isinstance(m, NORMS)}
    hooks = [
        m.register_forward_pre_hook(lambda _, x, name=name: seen.setdefault(name, []).append(x[0]))
        for name, m in norms.items()
    ]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return seen


def test_the_function_stays_and_the_statistics_are_the_images(imported, images):
    before = copy.deepcopy(imported).eval()
    unfolded = unfold_batchnorm(copy.deepcopy(imported).eval(), [images[:4], images[4:]])
    assert not unfolded.training
    with torch.no_grad():
        expected, found = before(images), unfolded(images)
    assert ((found - expected).abs().max(1).values / expected.norm(dim=1)).max() <= 1e-5
    seen, norms = inputs_of_norms(unfolded, images), dict(unfolded.named_modules())
    own = {name for name, m in before.named_modules() if isinstance(m, NORMS) and m.running_mean.any()}
    for name, (x,) in seen.items():
        if name in own:  # the exporter has left it its own
            continue
        values = x.double().transpose(0, 1).flatten(1).numpy()
        np.testing.assert_allclose(norms[name].running_mean, values.mean(1), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(norms[name].running_var, values.var(1, ddof=1), rtol=1e-3, atol=1e-6)
    assert len(seen.keys() - own) == (49 if "conv_sep" in norms else 4)


def trained(model: nn.Module) -> nn.Module:
    """In training mode, but for a last BatchNorm that has kept statistics of its own."""
    model = copy.deepcopy(model).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d) and not hasattr(model, "wiring"):
            module.eval()
    return model


def test_in_training_the_batch_that_it_was_made_of_gives_nearly_the_same(imported, images):
    """What folded statistics of 0 and 1 would not: each layer would be normalised to something else."""
    unfolded = unfold_batchnorm(copy.deepcopy(imported), [images])
    with torch.no_grad():
        expected = unfolded.eval()(images)
        cosines = [torch.cosine_similarity(trained(model)(images), expected) for model in (unfolded, imported)]
    assert cosines[0].min() > 0.95
    assert hasattr(imported, "wiring") or cosines[1].min() < 0.9


def test_every_parameter_that_comes_back_can_be_trained(imported, images):
    unfolded = unfold_batchnorm(copy.deepcopy(imported), [images]).train()
    out = unfolded(images)
    (out * torch.randn_like(out)).sum().backward()
    for name, parameter in unfolded.named_parameters():
        assert not parameter.requires_grad or parameter.grad is not None, name


def test_twice_is_once(imported, images):
    once = unfold_batchnorm(copy.deepcopy(imported), [images])
    state = {name: value.clone() for name, value in once.state_dict().items()}
    again = unfold_batchnorm(once, [images[:2] * 0.1])
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in state.items())


def test_statistics_of_its_own_stay(images):
    model = seeded("mbf", 16)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    assert unfold_batchnorm(model, [images]) is model
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in state.items())


def test_one_number_is_too_few(imported, images):
    with pytest.raises(DataError, match="at least two images"):
        unfold_batchnorm(copy.deepcopy(imported), [images[:1]])


@pytest.mark.parametrize("affine", [False, True])
def test_frozen_means_frozen(affine, images):
    model = freeze_batchnorm(seeded("quick", 16), affine)
    state = {name: value.clone() for name, value in model.named_buffers()}
    copied = copy.deepcopy(model).train()
    with torch.no_grad():
        expected = model.eval()(images)
        assert torch.equal(copied(images), expected)
    assert all(torch.equal(value, state[name]) for name, value in copied.named_buffers())
    norms = [module for module in copied.modules() if isinstance(module, NORMS)]
    assert norms and all(p.requires_grad != affine for norm in norms for p in norm.parameters())
    assert copied.state_dict().keys() == get_model("quick", 16).state_dict().keys()
