"""Backbones: arcface_torch's names, shapes and initialisation, and float32 features whatever the caller does."""

from __future__ import annotations

import copy
import gzip
import json

import pytest
import torch
from paths import TESTS
from torch import nn

from qgface_plugin.models.backbones import NAMES, IResNet, MobileFaceNet, get_model, vit
from qgface_plugin.utils.errors import ConfigError

# network -> [[name, shape], ...] in the order of arcface_torch's state dict for 512 features
UPSTREAM = json.loads(gzip.decompress((TESTS / "data" / "state_dicts.json.gz").read_bytes()))
SMALL = ("r18", "mbf")
# the same classes with one block a stage: quick enough for what does not depend on the depth
TINY = {"iresnet": lambda **kw: IResNet((1, 1, 1, 1), **kw), "mbf": lambda **kw: MobileFaceNet((1, 1, 1, 1), 64, **kw)}


@pytest.fixture
def images() -> torch.Tensor:
    return torch.empty(2, 3, 112, 112).uniform_(-1, 1, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=TINY)
def model(request) -> nn.Module:
    """A small network whose running statistics fit its weights, so that evaluation mode gives ordinary numbers."""
    torch.manual_seed(1)
    model = TINY[request.param]().train()
    norms = [m for m in model.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model(torch.empty(4, 3, 112, 112).uniform_(-1, 1))
    for norm in norms:
        norm.momentum = 0.1
    return model.eval()


def last_norm(model: nn.Module) -> nn.BatchNorm1d:
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm1d)][-1]


def test_every_network_but_our_own_is_in_the_list():
    assert sorted(NAMES) == sorted([*UPSTREAM, *vit.SIZES, "quick", "small"])


@pytest.mark.parametrize("features_bias", [True, False])
@pytest.mark.parametrize("name", UPSTREAM)
def test_state_dict_is_upstreams(name, features_bias):
    with torch.device("meta"):
        state = get_model(name, features_bias=features_bias).state_dict()
    assert [[key, list(value.shape)] for key, value in state.items()] == UPSTREAM[name]


@pytest.mark.parametrize("name", SMALL)
def test_num_features_changes_only_the_last_layers(name):
    with torch.device("meta"):
        state = get_model(name, num_features=128).state_dict()
    changed = {key for key, shape in UPSTREAM[name] if list(state[key].shape) != shape}
    assert changed and all(key.startswith(("fc.", "features.")) for key in changed)


@pytest.mark.parametrize("name", [*SMALL, "quick", "small"])
def test_shapes_and_gradients(name, images):
    model = get_model(name, num_features=64).train()
    out = model(images)
    assert out.shape == (2, 64) and out.dtype == torch.float32
    (out * torch.randn_like(out)).sum().backward()
    for key, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key


def test_only_iresnet_fixes_the_last_norms_weight():
    for name in SMALL:
        model = get_model(name)
        fixed = [key for key, parameter in model.named_parameters() if not parameter.requires_grad]
        assert fixed == (["features.weight"] if name == "r18" else [])
        assert torch.all(last_norm(model).weight == 1)


@pytest.mark.parametrize("name", [*SMALL, "quick", "small"])
def test_features_bias_stays_zero_through_a_step(name, images):
    model = get_model(name, features_bias=False).train()
    bias = last_norm(model).bias
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    before = trained[0].clone()
    out = model(images)
    (out * torch.randn_like(out)).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4).step()
    assert not bias.requires_grad and torch.all(bias == 0)
    assert not torch.equal(before, trained[0])


@pytest.mark.parametrize("name", [*SMALL, "quick", "small"])
def test_weights_move_between_both_kinds_of_bias(name):
    biased, unbiased = get_model(name), get_model(name, features_bias=False)
    last_norm(biased).bias.data.fill_(0.5)
    unbiased.load_state_dict(biased.state_dict())
    assert torch.all(last_norm(unbiased).bias == 0.5) and not last_norm(unbiased).bias.requires_grad
    biased.load_state_dict(unbiased.state_dict())


@pytest.mark.parametrize("name", ["r18", "mbf", "mbf_large"])
def test_initial_distribution(name):
    """Normal with standard deviation 0.1 (iresnet) or sqrt(2 / fan_out) (MobileFaceNet), every BatchNorm 1 and 0."""
    torch.manual_seed(2)
    for key, module in get_model(name).named_modules():
        if isinstance(module, nn.Conv2d) or (isinstance(module, nn.Linear) and name != "r18"):
            fan_out = module.weight.shape[0] * module.weight[0, 0].numel()  # torch's: the groups are not counted
            expected = 0.1 if name == "r18" else (2 / fan_out) ** 0.5
            count = module.weight.numel()
            assert module.weight.std().item() == pytest.approx(expected, rel=5 / (2 * count) ** 0.5), key
            assert abs(module.weight.mean().item()) < 5 * expected / count**0.5, key
            assert module.bias is None
        elif isinstance(module, nn.Linear):  # torch's default: uniform in +-1 / sqrt(fan_in)
            bound = module.in_features**-0.5
            assert module.weight.abs().max().item() == pytest.approx(bound, rel=1e-3) and module.bias is not None
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            assert torch.all(module.weight == 1) and torch.all(module.bias == 0), key
        elif isinstance(module, nn.PReLU):
            assert torch.all(module.weight == 0.25), key


def test_channels_last_gives_the_same_features(model, images):
    with torch.no_grad():
        expected = model(images)
        last = copy.deepcopy(model).to(memory_format=torch.channels_last)
        actual = last(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_bfloat16_autocast_ends_before_the_last_layers(model, images):
    seen = {}
    # the body's last layer, and the layers that must stay in float32
    watched = {"layer4": torch.bfloat16, "fc": torch.float32, "features": torch.float32}
    if not hasattr(model, "fc"):
        watched = {"layers.7": torch.bfloat16, "conv_sep": torch.float32, "features": torch.float32}
    hooks = [
        model.get_submodule(key).register_forward_hook(lambda m, i, out, key=key: seen.update({key: out.dtype}))
        for key in watched
    ]
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(images[:1])
    for hook in hooks:
        hook.remove()
    assert seen == watched and out.dtype == torch.float32
    with torch.no_grad():
        cosine = torch.nn.functional.cosine_similarity(out, model(images[:1]))
    assert cosine.min().item() > 0.99


def test_bfloat16_gradients_reach_the_first_convolution(images):
    model = TINY["mbf"](num_features=32).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(images)
    (out * torch.randn_like(out)).sum().backward()
    gradient = next(model.parameters()).grad
    assert gradient.dtype == torch.float32 and torch.isfinite(gradient).all() and gradient.abs().max() > 0


def test_fp16_changes_nothing_on_a_cpu(model, images):
    with torch.no_grad():
        expected = model(images)
        model.fp16 = True
        actual = model(images)
        model.fp16 = False
    assert torch.equal(actual, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="float16 autocast runs on CUDA only")
def test_fp16_on_cuda_gives_float32_features(model, images):
    model = copy.deepcopy(model).cuda()
    with torch.no_grad():
        expected = model(images.cuda())
        model.fp16 = True
        actual = model(images.cuda())
    assert actual.dtype == torch.float32 and not torch.equal(actual, expected)
    assert torch.nn.functional.cosine_similarity(actual, expected).min().item() > 0.999


@pytest.mark.parametrize(("name", "autocast"), [("iresnet", False), ("mbf", True)])
def test_forward_is_one_graph_for_torch_compile(name, autocast, images):
    model = TINY[name](num_features=32).train()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        torch.testing.assert_close(compiled(images), model(images))


def test_dropout_sits_in_front_of_the_last_linear_layer(images):
    model = TINY["iresnet"](num_features=16, dropout=0.5).train()
    zeros = []
    model.fc.register_forward_pre_hook(lambda m, args: zeros.append((args[0] == 0).double().mean().item()))
    with torch.no_grad():
        model(images)
        model.eval()(images)  # the body's output is never exactly zero
    assert zeros[0] == pytest.approx(0.5, abs=0.02) and zeros[1] < 0.01


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match="'r43'.*r18, r34, r50, r100, r200, mbf, mbf_large"):
        get_model("r43")
    with pytest.raises(ConfigError, match=r"'r2060'.* arcface_torch has it: .*config\.host"):
        get_model("r2060")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "mbf", "dropout": 0.4}, "'mbf' has no dropout"),
        ({"name": "r18", "dropout": 1.0}, r"dropout is 1.0: it must be in \[0, 1\)"),
        ({"name": "r18", "num_features": 0}, "num_features is 0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        get_model(**arguments)
