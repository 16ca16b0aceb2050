"""Networks beyond the convolutional ones: arcface_torch's transformers, timm's, a user's; less memory."""

from __future__ import annotations

import copy
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from qgface_plugin import network
from qgface_plugin.models import load_model
from qgface_plugin.models.backbones import NAMES, VisionTransformer, get_model, save_activations, vit
from qgface_plugin.models.onnx_export import export_onnx
from qgface_plugin.models.weights import export_backbone
from qgface_plugin.utils.errors import ConfigError
from qgface_plugin.utils.registry import NETWORKS


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(4, 3, 112, 112, generator=torch.Generator().manual_seed(3)) * 2 - 1


def tiny_vit(hidden: float = 0.25, dropped: float = 0.0) -> VisionTransformer:
    torch.manual_seed(5)
    return VisionTransformer(32, 3, dropped, hidden, num_features=8)


def names_of_arcface_torch(width: int, depth: int, size: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes in their order, as written down from its VisionTransformer with norm_layer="ln"."""
    found: dict[str, tuple[int, ...]] = {"pos_embed": (1, 144, width), "mask_token": (1, 1, width)}
    found |= {"patch_embed.proj.weight": (width, 3, 9, 9), "patch_embed.proj.bias": (width,)}
    for i in range(depth):
        block = f"blocks.{i}."
        found |= {f"{block}norm1.weight": (width,), f"{block}norm1.bias": (width,)}
        found |= {f"{block}norm2.weight": (width,), f"{block}norm2.bias": (width,)}
        found |= {f"{block}attn.qkv.weight": (3 * width, width)}
        found |= {f"{block}attn.proj.weight": (width, width), f"{block}attn.proj.bias": (width,)}
        found |= {f"{block}mlp.fc1.weight": (4 * width, width), f"{block}mlp.fc1.bias": (4 * width,)}
        found |= {f"{block}mlp.fc2.weight": (width, 4 * width), f"{block}mlp.fc2.bias": (width,)}
    found |= {"norm.weight": (width,), "norm.bias": (width,), "feature.0.weight": (width, 144 * width)}
    for i, channels in ((1, width), (3, size)):
        if i == 3:
            found["feature.2.weight"] = (size, width)
        found |= {f"feature.{i}.{key}": (channels,) for key in ("weight", "bias", "running_mean", "running_var")}
        found[f"feature.{i}.num_batches_tracked"] = ()
    return found


@pytest.mark.parametrize("name, width, depth", [(name, *size[:2]) for name, size in vit.SIZES.items()])
def test_names_and_shapes_are_arcface_torchs(name, width, depth):
    with torch.device("meta"):
        state = get_model(name, 64).state_dict()
    expected = names_of_arcface_torch(width, depth, 64)
    assert {key: tuple(value.shape) for key, value in state.items()} == expected and [*state] == [*expected]


def test_a_transformer_by_its_definition(images):
    """The whole forward pass again, in float64, patch by patch."""
    model = tiny_vit().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.05)
    w = {name: value.double().numpy() for name, value in model.state_dict().items()}

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def attention(x, name):
        query, key, value = np.split(x @ w[f"{name}.qkv.weight"].T, 3, axis=1)
        out = np.zeros_like(x)
        for head in range(8):
            part = slice(4 * head, 4 * head + 4)
            scores = np.exp(query[:, part] @ key[:, part].T / 2.0)
            out[:, part] = scores / scores.sum(1, keepdims=True) @ value[:, part]
        return out @ w[f"{name}.proj.weight"].T + w[f"{name}.proj.bias"]

    expected = []
    for image in images[:2].double().numpy():
        patches = [image[:, 9 * i : 9 * i + 9, 9 * j : 9 * j + 9] for i in range(12) for j in range(12)]
        kernel = w["patch_embed.proj.weight"]
        x = np.array([np.tensordot(kernel, patch, 3) for patch in patches]) + w["patch_embed.proj.bias"]
        x = x + w["pos_embed"][0]
        for i in range(3):
            x = x + attention(norm(x, f"blocks.{i}.norm1"), f"blocks.{i}.attn")
            inner = norm(x, f"blocks.{i}.norm2") @ w[f"blocks.{i}.mlp.fc1.weight"].T + w[f"blocks.{i}.mlp.fc1.bias"]
            x = x + np.clip(inner, 0, 6) @ w[f"blocks.{i}.mlp.fc2.weight"].T + w[f"blocks.{i}.mlp.fc2.bias"]
        x = norm(x, "norm").reshape(-1) @ w["feature.0.weight"].T
        x = (x - w["feature.1.running_mean"]) / np.sqrt(w["feature.1.running_var"] + 2e-5)
        x = (x * w["feature.1.weight"] + w["feature.1.bias"]) @ w["feature.2.weight"].T
        x = (x - w["feature.3.running_mean"]) / np.sqrt(w["feature.3.running_var"] + 2e-5)
        expected.append(x * w["feature.3.weight"] + w["feature.3.bias"])
    with torch.no_grad():
        np.testing.assert_allclose(model(images[:2]), expected, rtol=1e-4, atol=1e-5)


def test_patches_are_hidden_in_training_only(images):
    model = tiny_vit(hidden=0.25)
    seen = []
    model.blocks[0].register_forward_pre_hook(lambda _, x: seen.append(x[0].shape[1]))
    model.train()(images).sum().backward()
    assert model.mask_token.grad.abs().sum() > 0
    model.eval()(images)
    assert seen == [108, 144]
    assert not tiny_vit(hidden=0.0).mask_token.requires_grad  # DistributedDataParallel would wait for it


def test_a_transformer_exports_and_is_recognised(tmp_path, images):
    report = export_onnx(tiny_vit(), tmp_path / "vit.onnx")
    assert max(row.difference for row in report.comparisons) <= 1e-5
    export_backbone(tmp_path / "model.pt", get_model("vit_t_dp005_mask0", 16).state_dict())
    loaded = load_model(str(tmp_path), network="vit_t_dp005_mask0", device="cpu")
    assert loaded.dim == 16
    assert load_model(str(tmp_path), device="cpu").network == "vit_t"  # the same when it embeds


def gradients(model: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(9)
    out = model(images)
    (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    found = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    return found, {name: value.clone() for name, value in model.named_buffers()}


@pytest.mark.parametrize("name", ["iresnet", "mbf", "vit"])
def test_activations_that_are_computed_again_give_the_same_gradients(name, images):
    from qgface_plugin.models.backbones import IResNet, MobileFaceNet

    torch.manual_seed(0)
    makers = {
        "iresnet": lambda: IResNet((1, 1, 1, 1), 8),
        "mbf": lambda: MobileFaceNet((1, 1, 1, 1), 64, 8),
        "vit": lambda: tiny_vit(0.25, 0.3),
    }
    model = makers[name]().train()
    again = copy.deepcopy(model)
    save_activations(again, name)
    (expected, buffers), (found, after) = gradients(model, images), gradients(again, images)
    assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()
    assert all(torch.equal(value, after[key]) for key, value in buffers.items())  # each batch has counted once


def kept_for_backward(model: nn.Module, images: torch.Tensor) -> int:
    """Bytes of activations, without weights, each storage once."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found: dict[int, int] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        out = model(images)
    assert out.requires_grad
    return sum(found.values())


def test_activations_that_are_computed_again_take_less_memory(images):
    model = tiny_vit(0.0).train()
    plain = kept_for_backward(model, images)
    model.checkpoint_activations = True
    assert kept_for_backward(model, images) < 0.4 * plain


def test_a_network_without_a_way_is_refused():
    with pytest.raises(ConfigError, match="checkpoint_activations is True, but network 'quick' has no such attribute"):
        save_activations(get_model("quick", 8), "quick")


@pytest.fixture
def mine():
    @network("mine")
    class Mine(nn.Module):
        def __init__(self, num_features, features_bias=True):
            super().__init__()
            self.fc = nn.Linear(3, num_features, bias=features_bias)

        def forward(self, x):
            return self.fc(x.mean((2, 3)))

    yield Mine
    del NETWORKS["mine"]


def test_a_network_of_ones_own(mine, images):
    model = get_model("mine", 6, features_bias=False)
    assert isinstance(model, mine) and model(images).shape == (4, 6) and model.fc.bias is None
    with pytest.raises(ValueError, match="there is a network 'r50' already"):
        network("r50")(mine)
    with pytest.raises(ValueError, match="names with a colon"):
        network("my:net")
    with pytest.raises(ConfigError, match="known networks are r18, .*mine, and timm:NAME"):
        get_model("yours")
    assert "mine" not in NAMES


@pytest.fixture
def timm_standin(monkeypatch):
    """A module with the three functions of timm that are called, for machines without it."""

    class Net(nn.Module):
        def __init__(self, num_classes, side):
            super().__init__()
            self.head, self.side = nn.Linear(3, num_classes), side

        def forward(self, x):
            assert x.shape[-1] == self.side, "Input size does not match"
            return self.head(x.mean((2, 3)))

    def create_model(name, pretrained, num_classes, **options):
        assert pretrained is False
        if name == "conv" and options:
            raise TypeError("unexpected keyword argument 'img_size'")
        return Net(num_classes, 224 if name == "stiff" else options.get("img_size", 112))

    module = ModuleType("timm")
    module.__dict__.update(create_model=create_model, list_models=lambda: ["vit_x", "conv", "stiff"], __version__="1.0")
    monkeypatch.setitem(sys.modules, "timm", module)


@pytest.mark.parametrize("name", ["vit_x", "conv"])
def test_a_network_of_timm(timm_standin, name, images):
    model = get_model(f"timm:{name}", 6, features_bias=False)
    assert model(images).shape == (4, 6) and not model.features.bias.requires_grad
    with pytest.raises(ConfigError, match="this network of timm cannot do it"):
        save_activations(model, name)


def test_what_timm_does_not_have_is_named(timm_standin, monkeypatch):
    with pytest.raises(ConfigError, match=r"timm 1\.0 has no network 'vit_y': did you mean timm:vit_x\?"):
        get_model("timm:vit_y", 6)
    with pytest.raises(ConfigError, match="timm's stiff does not take 112 x 112 pixels: Input size"):
        get_model("timm:stiff", 6)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match="needs timm, which does not import .*pip install timm, with the torchvision"):
        get_model("timm:vit_x", 6)


def _real_timm() -> bool:
    try:
        import timm  # noqa: F401
    except Exception:  # absent, or its torchvision belongs to another torch
        return False
    return True


@pytest.mark.skipif(not _real_timm(), reason="needs timm, and the torchvision that belongs to this torch")
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "mobilenetv3_small_050"])
def test_the_real_timm(name, images, tmp_path):
    model = get_model(f"timm:{name}", 6).train()
    again = copy.deepcopy(model)
    assert model(images).shape == (4, 6)
    save_activations(again, name)
    (expected, _), (found, _) = gradients(copy.deepcopy(model), images), gradients(again, images)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    report = export_onnx(model.eval(), tmp_path / "timm.onnx", opset=17)
    assert max(row.difference for row in report.comparisons) <= 1e-5
