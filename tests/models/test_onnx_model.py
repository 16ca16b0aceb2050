"""Models by insightface's names, in a folder of models that is made here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import noise_images, seeded, write_model, write_onnx
from torch import nn

from qgface_plugin.models import load_model
from qgface_plugin.models.digest import model_digest
from qgface_plugin.models.embeddings import embed
from qgface_plugin.models.face_model import NOTHING, USUAL
from qgface_plugin.models.onnx_normalisation import scale_outside
from qgface_plugin.utils.errors import CheckpointError, ConfigError, DataError

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
IMAGES = noise_images(2)


class Blocks(nn.Module):
    """Mean colours of blocks: a recognition model at 112 pixels, something else at other sides or with more outputs."""

    def __init__(self, factor: float = 1.0, outputs: int = 1) -> None:
        super().__init__()
        self.factor, self.outputs = factor, outputs

    def forward(self, x: torch.Tensor):
        features = self.factor * nn.functional.avg_pool2d(x, 16).flatten(1)
        return tuple(features + i for i in range(self.outputs)) if self.outputs > 1 else features


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """insightface's folder in an own home, with the pack `buffalo_x` of a detector, landmarks and recognition."""
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".insightface" / "models"
    pack = folder / "buffalo_x"
    names = [f"o{i}" for i in range(6)]
    write_onnx(pack / "det_10g.onnx", Blocks(outputs=6), output_names=names, dynamic_axes=None)
    write_onnx(pack / "2d106det.onnx", Blocks(), side=192)
    write_onnx(pack / "w600k_r50.onnx", Blocks(2.0))
    return folder


def test_recognition_model_of_a_pack(models: Path) -> None:
    loaded = load_model("buffalo_x")
    assert (loaded.name, loaded.dim) == ("buffalo_x/w600k_r50", 147)
    expected = 2 * (IMAGES / 127.5 - 1).transpose(0, 3, 1, 2).reshape(2, 3, 7, 16, 7, 16).mean((3, 5)).reshape(2, 147)
    np.testing.assert_allclose(loaded.embed(IMAGES).original, expected, atol=1e-4)
    assert load_model(str(models / "buffalo_x")).name == "buffalo_x/w600k_r50"


def test_a_pack_as_archives_leave_it(models: Path) -> None:
    inner = models / "buffalo_x" / "buffalo_x"
    inner.mkdir()
    for path in list((models / "buffalo_x").glob("*.onnx")):
        path.rename(inner / path.name)
        (inner / f"._{path.name}").write_bytes(b"Mac OS X")
    for name in ("buffalo_x", str(models / "buffalo_x"), str(inner)):
        assert load_model(name).name == "buffalo_x/w600k_r50"
    assert model_digest("buffalo_x") == model_digest(str(inner)) and len(model_digest("buffalo_x").split()) == 3


def test_a_file_in_the_folder(models: Path) -> None:
    write_onnx(models / "mine.onnx", Blocks())
    assert load_model("mine").name == load_model("mine.onnx").name == "mine"


def test_a_pack_whose_manifest_names_its_model(models: Path) -> None:
    write_onnx(models / "raccoon" / "a.onnx", Blocks(3.0))
    write_onnx(models / "raccoon" / "b.onnx", Blocks(1.0))
    task = {"file": "b.onnx", "preprocessing": {"mean": 100.0, "std": 50.0}}
    manifest = {"manifest_version": 2, "tasks": {"recognition": task}}
    (models / "raccoon" / "manifest.json").write_text(json.dumps(manifest))
    loaded = load_model("raccoon")
    expected = ((IMAGES - 100.0) / 50).transpose(0, 3, 1, 2).reshape(2, 3, 7, 16, 7, 16).mean((3, 5)).reshape(2, 147)
    assert loaded.name == "raccoon/b"
    np.testing.assert_allclose(loaded.embed(IMAGES).original, expected, atol=1e-4)
    del task["preprocessing"]["std"]
    (models / "raccoon" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"manifest.json names no recognition model \(KeyError\('std'\)\)"):
        load_model("raccoon")


def test_what_is_not_there(models: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"antelope is no file, and no model of insightface: neither .*there are b"
    ):
        load_model("antelope")
    with pytest.raises(CheckpointError, match="runs/antelope does not exist"):
        load_model("runs/antelope")
    with pytest.raises(CheckpointError, match="model.pt does not exist"):
        load_model("model.pt")


def test_nothing_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", lambda *args: pytest.fail("a connection was made"))
    with pytest.raises(CheckpointError, match=r"\(nothing is\).*not downloaded here: python -c .*'buffalo_l'"):
        load_model("buffalo_l")
    assert not list(tmp_path.iterdir())


def test_a_pack_without_a_recognition_model(models: Path) -> None:
    (models / "buffalo_x" / "w600k_r50.onnx").unlink()
    with pytest.raises(
        CheckpointError, match=r"no recognition model \(2d106det.onnx: .*192 x 192.*; det_10g.onnx: .*6 outputs"
    ):
        load_model("buffalo_x")


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="folder without model.pt"):
        load_model(str(tmp_path))
    write_model(tmp_path)
    write_onnx(tmp_path / "x.onnx", Blocks())
    assert load_model(str(tmp_path)).network == "quick"


# ---
# ONNX files as face models, exported here by torch: equal to PyTorch, every shape of a graph, every misfit named.


pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
FACES = noise_images(5)


class Squeezed(nn.Module):
    """Mean colours of 16 x 16 blocks, then a linear layer: small enough to look at."""

    def __init__(self, inside: bool = False, outputs: int = 1) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = nn.Linear(3 * 49, 6)
        self.inside, self.outputs = inside, outputs

    def forward(self, x: torch.Tensor):
        if self.inside:
            x = (x - 127.5) * 0.0078125
        features = self.layer(nn.functional.avg_pool2d(x, 16).flatten(1))
        return features if self.outputs == 1 else (features, features + 1)


def close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("batch", [None, 1, 2])
def test_a_network_is_pytorchs(tmp_path: Path, batch: int | None) -> None:
    """With any number of images, with one and with two at a time: five images leave a part of a batch of two."""
    model = seeded("quick", 12)
    loaded = load_model(str(write_onnx(tmp_path / "small.onnx", model, batch=batch)), device="cpu")
    assert (loaded.name, loaded.dim) == ("small", 12)
    found, expected = loaded.embed(FACES, batch_size=3), embed(model, FACES)
    close(found.original, expected.original)
    close(found.mirrored, expected.mirrored)
    close(
        load_model(str(tmp_path / "small.onnx"), color="bgr").embed(FACES[..., ::-1]).original,
        expected.original,
    )


def test_mobilefacenet_is_pytorchs(tmp_path: Path) -> None:
    model = seeded("mbf", 16)
    found = load_model(str(write_onnx(tmp_path / "mbf.onnx", model)), device="cpu").embed(FACES[:2])
    close(found.mirrored, embed(model, FACES[:2]).mirrored)


def test_normalisation_inside_the_graph(tmp_path: Path) -> None:
    """ArcFaceONNX tells it by the names of the first nodes; its own numbers for the same file agree."""
    import onnx

    path = write_onnx(tmp_path / "inside.onnx", Squeezed(inside=True))
    graph = onnx.load(str(path))
    for node in graph.graph.node:
        node.name = node.name.rpartition("/")[2]  # torch says /Sub, MXNet's exporter Sub
    onnx.save(graph, str(path))
    assert scale_outside(path) == NOTHING
    assert scale_outside(write_onnx(tmp_path / "outside.onnx", Squeezed())) == USUAL
    pixels = torch.from_numpy(FACES.astype(np.float32)).permute(0, 3, 1, 2)
    found = load_model(str(path)).embed(FACES)
    close(found.original, Squeezed(inside=True)(pixels).detach().numpy())
    arcface = pytest.importorskip("insightface.model_zoo").arcface_onnx.ArcFaceONNX
    for name in ("inside", "outside"):
        theirs = arcface(str(tmp_path / f"{name}.onnx")).get_feat(list(FACES[..., ::-1]))
        close(load_model(str(tmp_path / f"{name}.onnx")).embed(FACES).original, theirs)


def test_half_precision_input(tmp_path: Path) -> None:
    write_onnx(tmp_path / "x.onnx", Squeezed())
    import onnx
    from onnx import TensorProto, helper

    graph = onnx.load(str(tmp_path / "x.onnx"))
    first = graph.graph.input[0]
    first.type.tensor_type.elem_type = TensorProto.FLOAT16
    for node in graph.graph.node:
        node.input[:] = ["as_float" if name == "data" else name for name in node.input]
    graph.graph.node.insert(0, helper.make_node("Cast", ["data"], ["as_float"], to=TensorProto.FLOAT))
    onnx.save(graph, str(tmp_path / "half.onnx"))
    found = load_model(str(tmp_path / "half.onnx")).embed(FACES).original
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, load_model(str(tmp_path / "x.onnx")).embed(FACES).original, atol=2e-3)


class WithNorm(nn.Module):
    """Unit features and their norms, as AdaFace's network gives them; in any order and shape, or something else."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.inner, self.kind = Squeezed(), kind

    def forward(self, x: torch.Tensor):
        raw = self.inner(x)
        norm = torch.linalg.norm(raw, dim=1, keepdim=True)
        return {
            "norm second": (raw / norm, norm),
            "norm first": (norm, raw / norm),
            "flat": (raw / norm, norm.flatten()),
            "raw": (raw, norm),
            "score": (raw / norm, -norm),
            "two features": (raw, raw[:, :2]),
            "two norms": (norm, norm + 1),
            "three": (raw / norm, norm, raw[:, :2]),
        }[self.kind]


@pytest.mark.parametrize("kind", ["norm second", "norm first", "flat", "raw"])
@pytest.mark.parametrize("batch", [None, 1, 2])
def test_features_and_norms_as_two_outputs(tmp_path: Path, kind: str, batch: int | None) -> None:
    """The raw feature is their product, so norms stay what quality is read from."""
    write_onnx(tmp_path / "one.onnx", Squeezed())
    dynamic = {"data": {0: "N"}, "a": {0: "N"}, "b": {0: "N"}} if batch is None else None
    options = {"output_names": ["a", "b"], "dynamic_axes": dynamic}
    write_onnx(tmp_path / "two.onnx", WithNorm(kind), batch=batch, **options)
    one, two = (load_model(str(tmp_path / f"{name}.onnx")) for name in ("one", "two"))
    assert two.dim == one.dim == 6
    found, expected = two.embed(FACES), one.embed(FACES)
    close(found.original, expected.original)
    close(found.mirrored, expected.mirrored)
    close(found.norms, expected.norms)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("score", "no unit features and their norms"),
        ("two features", r"2 outputs \(a N x 6, b N x 2\)"),
        ("two norms", r"2 outputs \(a N x 1, b N x 1\)"),
        ("three", r"3 outputs \(a N x 6, b N x 1, c N x 2\)"),
    ],
)
def test_other_outputs_are_named(tmp_path: Path, kind: str, said: str) -> None:
    names = ["a", "b", "c"][: 3 if kind == "three" else 2]
    dynamic = {name: {0: "N"} for name in ("data", *names)}
    write_onnx(tmp_path / "x.onnx", WithNorm(kind), output_names=names, dynamic_axes=dynamic)
    with pytest.raises(CheckpointError, match=said):
        load_model(str(tmp_path / "x.onnx"))


class FixedInside(nn.Module):
    """Declares any number of images and flattens to one row, as old exporters did."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(x, 16).reshape(1, 147)


def test_a_graph_for_one_image_that_says_otherwise(tmp_path: Path) -> None:
    loaded = load_model(str(write_onnx(tmp_path / "one.onnx", FixedInside())))
    expected = (FACES / 127.5 - 1).transpose(0, 3, 1, 2).reshape(5, 3, 7, 16, 7, 16).mean((3, 5)).reshape(5, 147)
    np.testing.assert_allclose(loaded.embed(FACES, batch_size=4).original, expected, atol=1e-5)


class Flat(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((1, 2, 3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: write_onnx(p, nn.Flatten(), side=128), "input is N x 3 x 128 x 128, not N x 3 x 112 x 112"),
        (
            lambda p: write_onnx(p, Squeezed(outputs=2), output_names=["a", "b"], dynamic_axes=None),
            "1 inputs and 2 out",
        ),
        (lambda p: write_onnx(p, Flat()), r"a run on 1 black images gives no features \(N, d\): it gives \(1,\)"),
        (lambda p: p.write_bytes(b"not a graph"), "cannot be loaded by onnxruntime: "),
        (lambda p: p.write_bytes(b""), "cannot be loaded by onnxruntime: "),
        (lambda p: p.write_bytes(write_onnx(p, Squeezed()).read_bytes()[:900]), "cannot be loaded by onnxruntime: "),
        (lambda p: None, "x.onnx does not exist"),
    ],
)
def test_what_is_no_recognition_model(tmp_path: Path, make, message: str) -> None:
    make(tmp_path / "x.onnx")
    with pytest.raises(CheckpointError, match=message):
        load_model(str(tmp_path / "x.onnx"))


def test_a_network_needs_no_name(tmp_path: Path) -> None:
    write_onnx(tmp_path / "x.onnx", Squeezed())
    with pytest.raises(ConfigError, match="--network r18 is for .pt files: .*x.onnx is ONNX"):
        load_model(str(tmp_path / "x.onnx"), network="r18")


def test_features_that_are_not_finite(tmp_path: Path) -> None:
    model = Squeezed()
    model.layer.bias.data[0] = float("inf")
    write_onnx(tmp_path / "x.onnx", model)
    with pytest.raises(DataError, match="x gives features that are not finite"):
        load_model(str(tmp_path / "x.onnx")).embed(FACES)
    with pytest.raises(DataError, match="embed takes uint8"):
        load_model(str(tmp_path / "x.onnx")).embed(FACES.astype(np.float32))


def test_cuda_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="--device is 'cuda'"):
        load_model("x.onnx", device="cuda")
    with pytest.raises(ConfigError, match="--device is 'gpu'"):
        load_model("x.onnx", device="gpu")
    with pytest.raises(ConfigError, match="color is 'grb'"):
        load_model("x.onnx", color="grb")
