"""model.pt and checkpoints as face models: every network, where its name comes from, every misfit named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import naive_features, noise_images, seeded, write_model

from qgface_plugin.models import load_model
from qgface_plugin.models.backbones import NAMES, get_model
from qgface_plugin.models.torch_model import embedding_size, first_difference, recognise, shapes
from qgface_plugin.utils.errors import CheckpointError, ConfigError, DataError

IMAGES = noise_images(3)


@pytest.mark.parametrize(("network", "size"), [("r18", 24), ("mbf", 16), ("quick", 256), ("small", 8)])
def test_features_are_the_networks(tmp_path: Path, network: str, size: int) -> None:
    model = write_model(tmp_path / "run", network, size)
    loaded = load_model(str(tmp_path / "run" / "model.pt"), device="cpu")
    assert (loaded.name, loaded.dim, loaded.network) == ("run", size, network)
    found = loaded.embed(IMAGES, batch_size=2)
    for row, image in enumerate(IMAGES):
        for features, mirrored in ((found.original, False), (found.mirrored, True)):
            expected = naive_features(model, image, mirrored)
            np.testing.assert_allclose(features[row], expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(found.norms, np.linalg.norm(found.original, axis=1), rtol=1e-6)


@pytest.mark.parametrize("network", NAMES)
def test_every_network_is_recognised(network: str) -> None:
    with torch.device("meta"):
        weights = get_model(network, 40).state_dict()
    alike = [name for name in NAMES if shapes(name, 40) == shapes(network, 40)]  # transformers that differ in training
    assert embedding_size(weights, "x") == 40 and recognise(weights, 40) == alike[0]
    assert alike == [network] or network.startswith("vit_")
    assert recognise(weights, 41) is None


def test_bgr_turns_the_channels(tmp_path: Path) -> None:
    write_model(tmp_path)
    as_bgr = load_model(str(tmp_path), color="bgr").embed(IMAGES[..., ::-1])
    as_rgb = load_model(str(tmp_path)).embed(IMAGES)
    np.testing.assert_array_equal(as_bgr.original, as_rgb.original)
    np.testing.assert_array_equal(as_bgr.mirrored, as_rgb.mirrored)
    assert not np.allclose(load_model(str(tmp_path), color="bgr").embed(IMAGES).original, as_rgb.original)


def test_another_normalisation(tmp_path: Path) -> None:
    model = write_model(tmp_path)
    loaded = load_model(str(tmp_path), color="bgr", mean=[90, 100, 110], std=[60])
    pixels = (IMAGES[..., ::-1].astype(np.float64) - [90, 100, 110]) / 60  # of B, G, R
    with torch.no_grad():
        expected = model(torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32))).numpy()
    np.testing.assert_allclose(loaded.embed(IMAGES).original, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
    assert (loaded.scale.mean, loaded.scale.std) == ((90, 100, 110), (60,))


def test_training_checkpoint_with_wrapped_names(tmp_path: Path) -> None:
    model = write_model(tmp_path / "run")
    wrapped = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save({"epoch": 1, "state_dict_backbone": wrapped}, tmp_path / "run" / "checkpoint_gpu_0.pt")
    loaded = load_model(str(tmp_path / "run" / "checkpoint_gpu_0.pt"))
    assert loaded.name == "run"
    np.testing.assert_array_equal(
        loaded.embed(IMAGES).original, load_model(str(tmp_path / "run")).embed(IMAGES).original
    )


def test_half_precision_and_no_counters(tmp_path: Path) -> None:
    model = write_model(tmp_path)
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    torch.save({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}, tmp_path / "old.pt")
    found = load_model(str(tmp_path / "old.pt"))
    whole = load_model(str(tmp_path / "model.pt")).embed(IMAGES).original
    assert found.name == "old"
    np.testing.assert_allclose(found.embed(IMAGES).original, whole, rtol=0.05, atol=0.01 * np.abs(whole).max())


@pytest.mark.parametrize("network", ["quick", "small", "mbf"])
@pytest.mark.parametrize(
    ("holder", "prefix", "beside"),
    [
        ("state_dict", "model.", "head.kernel"),
        ("model", "module.backbone.", "module.head.fc.weight"),
        ("net", "_orig_mod.encoder.", "fc.weight"),
        (None, "arcface.0.", "arcface.1.weight"),
        (None, "", "head.weight"),
    ],
)
def test_checkpoints_of_other_trainers(
    tmp_path: Path, network: str, holder: str | None, prefix: str, beside: str
) -> None:
    weights = dict(seeded(network, 8).state_dict())
    state = {beside: torch.ones(3, 8)} | {prefix + name: value for name, value in weights.items()}
    torch.save({"epoch": 3, holder: state} if holder else state, tmp_path / "other.ckpt")
    loaded = load_model(str(tmp_path / "other.ckpt"))
    assert (loaded.network, loaded.dim) == (network, 8)
    assert all(torch.equal(value, weights[name]) for name, value in loaded.backbone.state_dict().items())


def test_a_network_of_adaface_is_called_so(tmp_path: Path) -> None:
    state = {"model.input_layer.0.weight": torch.ones(2), "model.output_layer.3.weight": torch.ones(2, 2)}
    torch.save({"state_dict": state}, tmp_path / "ir_50.ckpt")
    with pytest.raises(CheckpointError, match="ir_50.ckpt is of an IR network of AdaFace.*export the model to ONNX"):
        load_model(str(tmp_path / "ir_50.ckpt"))


def test_recipe_beside_the_file_names_the_network(tmp_path: Path) -> None:
    write_model(tmp_path)
    (tmp_path / "recipe.json").write_text(json.dumps({"network": "quick"}))
    assert load_model(str(tmp_path)).network == "quick"
    (tmp_path / "recipe.json").write_text(json.dumps({"network": "mbf"}))
    with pytest.raises(CheckpointError, match=r"model.pt is no mbf, as .*recipe.json says: .*It fits quick: give"):
        load_model(str(tmp_path))
    assert load_model(str(tmp_path), network="quick").network == "quick"


@pytest.mark.parametrize("content", ["not JSON", "[1]", '{"network": 3}'])
def test_other_files_of_that_name_do_not_matter(tmp_path: Path, content: str) -> None:
    write_model(tmp_path)
    (tmp_path / "recipe.json").write_text(content)
    assert load_model(str(tmp_path)).network == "quick"


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda weights: weights.pop("layers.1.weight"), "layers.1.weight is missing"),
        (lambda weights: weights.update(extra=torch.zeros(1)), "extra is surplus"),
        (
            lambda weights: weights.update({"layers.1.weight": torch.zeros(2, 3)}),
            r"layers.1.weight is \(2, 3\), not \(32, 3, 3, 3\)",
        ),
    ],
)
def test_the_first_differing_parameter_is_named(tmp_path: Path, change, difference: str) -> None:
    weights = dict(seeded("quick", 16).state_dict())
    change(weights)
    torch.save(weights, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=f"is no quick, as --network says: {difference}. Check --network"):
        load_model(str(tmp_path), network="quick")
    with pytest.raises(CheckpointError, match="none of the networks r18, .*--network"):
        load_model(str(tmp_path))


def test_wrong_network(tmp_path: Path) -> None:
    write_model(tmp_path, "mbf", 16)
    with pytest.raises(CheckpointError, match="no r18, as --network says: conv1.weight is missing. It fits mbf: give"):
        load_model(str(tmp_path), network="r18")
    with pytest.raises(ConfigError, match="network is 'resnet': .*r18,"):
        load_model(str(tmp_path), network="resnet")


def test_first_difference_is_the_networks_order() -> None:
    expected = shapes("quick", 8)
    weights = dict(seeded("quick", 8).state_dict())
    assert first_difference(weights, expected) is None
    del weights["fc.bias"], weights["layers.1.weight"]
    assert first_difference(weights, expected) == "layers.1.weight is missing"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": torch.zeros(2)}, r"is of no network that is known: .*its first parameter is x"),
        ({"pos_embed": torch.zeros(2), "feature.2.weight": torch.zeros(8, 4)}, "vision transformer: give its name"),
        ({"x": 1}, "holds no backbone"),
        ([1], "holds no backbone"),
    ],
)
def test_what_is_no_backbone(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=message):
        load_model(str(tmp_path))


def test_damaged_and_hostile_files(tmp_path: Path) -> None:
    write_model(tmp_path)
    whole = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[:5000])
    with pytest.raises(CheckpointError, match="cut.pt is cut short: its 5000 bytes"):
        load_model(str(tmp_path / "cut.pt"))
    torch.save({"x": Path}, tmp_path / "hostile.pt")
    with pytest.raises(CheckpointError, match="hostile.pt is refused: it asks for pathlib"):
        load_model(str(tmp_path / "hostile.pt"))
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(CheckpointError, match="text.pt"):
        load_model(str(tmp_path / "text.pt"))


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    model = write_model(tmp_path)
    model.fc.bias.data[3] = float("nan")
    torch.save(model.state_dict(), tmp_path / "model.pt")
    with pytest.raises(DataError, match="not finite .* for 3 of 3 images, first image 0"):
        load_model(str(tmp_path)).embed(IMAGES)


def test_images_that_do_not_fit(tmp_path: Path) -> None:
    write_model(tmp_path)
    model = load_model(str(tmp_path))
    for images in (IMAGES.astype(np.float32), IMAGES[0], IMAGES[:0], IMAGES[..., :1], IMAGES[:, :96, :96]):
        with pytest.raises(DataError, match=r"embed takes uint8 \(N, 112, 112, 3\)"):
            model.embed(images)
    with pytest.raises(ConfigError, match="batch_size is 0"):
        model.embed(IMAGES, batch_size=0)


CHECKOUT = """
from torch import nn

def get_model(name, num_features):
    if name != "vit_small":
        raise ValueError()
    if {absent!r}:
        import {absent}
    model = nn.Module()
    model.feature = nn.Sequential(nn.Flatten(), nn.AvgPool1d(112 * 14), nn.Linear(24, num_features, bias=False))
    model.forward = lambda x: model.feature(x)
    return model
"""


def write_backbones(folder: Path, absent: str = "") -> Path:
    (folder / "backbones").mkdir(parents=True)
    source = CHECKOUT if absent else CHECKOUT.replace("    if {absent!r}:\n        import {absent}\n", "")
    (folder / "backbones" / "__init__.py").write_text(source.format(absent=absent))
    return folder


def test_networks_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = torch.randn(8, 24)
    torch.save({"feature.2.weight": weights}, tmp_path / "model.pt")
    monkeypatch.delenv("ARCFACE_TORCH", raising=False)
    with pytest.raises(ConfigError, match="'vit_small' .*ARCFACE_TORCH"):
        load_model(str(tmp_path), network="vit_small")
    monkeypatch.setenv("ARCFACE_TORCH", str(write_backbones(tmp_path / "checkout")))
    loaded = load_model(str(tmp_path), network="vit_small")
    assert (loaded.dim, loaded.network) == (8, "vit_small") and loaded.embed(IMAGES).original.shape == (3, 8)
    with pytest.raises(ConfigError, match="has no network 'vit_big'"):
        load_model(str(tmp_path), network="vit_big")
    monkeypatch.setenv("ARCFACE_TORCH", str(tmp_path))
    with pytest.raises(ConfigError, match="is no arcface_torch checkout: .*backbones/__init__.py"):
        load_model(str(tmp_path), network="vit_small")
    monkeypatch.setenv("ARCFACE_TORCH", str(write_backbones(tmp_path / "other", absent="no_such_package")))
    with pytest.raises(ConfigError, match="does not import .*no_such_package.*: pip install no_such_package"):
        load_model(str(tmp_path), network="vit_small")
