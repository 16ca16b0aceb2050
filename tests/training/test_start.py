"""Runs that start from somebody else's encoder: what follows it, that they train, resume and export."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.multiprocessing as mp
from onnx_styles import folded, odd_encoder, save
from small_models import seeded, write_model
from tiny import same, tiny_run, write_faces

from qgface_plugin.config.options import FinetuneOptions, TrainOptions
from qgface_plugin.models import load_model
from qgface_plugin.models.onnx_export import export_onnx
from qgface_plugin.training.start import starting_encoder
from qgface_plugin.training.trainer import train
from qgface_plugin.utils.errors import CheckpointError, ConfigError

FROZEN = FinetuneOptions(batchnorm="frozen")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    found = tmp_path_factory.mktemp("start")
    write_faces(found / "data")
    save(odd_encoder(), found / "odd.onnx")
    return found


def a_run(folder: Path, out: str, **changes):
    fixed = dict(init_from=str(folder / "odd.onnx"), output=str(folder / out), num_epoch=1, lr=0.005)
    return tiny_run(folder, **{**fixed, **changes})


def checkpoint(folder: Path, out: str, rank: int = 0) -> dict:
    state = torch.load(folder / out / f"checkpoint_gpu_{rank}.pt", weights_only=True)
    for key in ("run_id", "recipe", "record"):
        del state["qgface"][key]
    return state


def losses(folder: Path, out: str) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(folder) -> Path:
    train(a_run(folder, "whole"))
    return folder / "whole"


def test_the_recipe_follows_the_file(folder, caplog):
    run = replace(a_run(folder, "x", network="r34", embedding_size=512), set_keys=frozenset(("network",)))
    with caplog.at_level(logging.INFO):
        followed, start = starting_encoder(run)
    assert (followed.network, followed.embedding_size) == ("graph", 12) and start.size == 12
    said = {record.getMessage(): record.levelname for record in caplog.records if "config." in record.getMessage()}
    odd = folder / "odd.onnx"
    assert said[f"config.network is 'graph', as {odd} has it, and not 'r34'"] == "WARNING"
    assert said[f"config.embedding_size is 12, as {odd} has it, and not 512"] == "INFO"  # the recipe has not set it


def test_a_run_on_a_graph_leaves_what_everything_else_needs(folder, whole):
    recipe = json.loads((whole / "recipe.json").read_text())
    assert (recipe["network"], recipe["embedding_size"]) == ("graph", 12)
    model = load_model(str(whole / "model.pt"), device="cpu")
    assert model.dim == 12 and model.network == "graph"
    report = export_onnx(model.backbone, folder / "again.onnx")
    assert report.embedding_size == 12 and max(row.difference for row in report.comparisons) <= 1e-5
    images = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    trained, exported = (m.embed(images).original for m in (model, load_model(str(folder / "again.onnx"))))
    np.testing.assert_allclose(exported, trained, atol=1e-5 * np.linalg.norm(trained, axis=1).max())
    before = load_model(str(folder / "odd.onnx"), device="cpu").embed(images).original
    assert np.abs(before - trained).max() > 1e-3, "nothing was trained"


def test_a_run_on_a_graph_resumes_exactly(folder, whole):
    train(a_run(folder, "cut", train=TrainOptions(max_steps=3)))
    train(a_run(folder, "cut", resume=True))
    assert losses(folder, "cut") == losses(folder, "whole") and len(losses(folder, "whole")) == 6
    assert same(checkpoint(folder, "cut"), checkpoint(folder, "whole"))


def test_a_run_resumes_when_the_file_is_gone(folder, whole, tmp_path):
    shutil.copy(folder / "odd.onnx", tmp_path / "odd.onnx")
    run = replace(a_run(folder, "gone", train=TrainOptions(max_steps=3)), init_from=str(tmp_path / "odd.onnx"))
    train(run)
    (tmp_path / "odd.onnx").unlink()
    train(replace(run, train=TrainOptions(), resume=True))
    assert losses(folder, "gone") == losses(folder, "whole")


def test_weights_of_a_graph_start_a_run(folder, whole):
    run = replace(a_run(folder, "second"), init_from=str(whole / "model.pt"))
    followed, start = starting_encoder(run)
    assert followed.network == "graph" and start is not None
    weights = torch.load(whole / "model.pt", weights_only=True)
    assert all(torch.equal(value, weights[name]) for name, value in start.backbone.state_dict().items())


def test_a_network_without_its_graph_says_what_is_missing(folder, whole, tmp_path):
    weights = torch.load(whole / "model.pt", weights_only=True)
    torch.save({name: value for name, value in weights.items() if name != "structure"}, tmp_path / "model.pt")
    (tmp_path / "recipe.json").write_text((whole / "recipe.json").read_text())
    with pytest.raises(CheckpointError, match=r"model\.pt .*'structure' is not among its parameters.* ONNX file"):
        load_model(str(tmp_path), device="cpu")


def test_a_known_network_starts_by_its_name(folder, tmp_path):
    save(folded(seeded("mbf", 16)), tmp_path / "mbf.onnx")
    followed, start = starting_encoder(replace(a_run(folder, "x"), init_from=str(tmp_path / "mbf.onnx")))
    assert (followed.network, followed.embedding_size) == ("mbf", 16)
    assert "conv_sep.layers.0.weight" in start.backbone.state_dict()


def test_weights_name_their_network_where_the_recipe_names_none(folder, tmp_path):
    write_model(tmp_path, "quick", 16)
    run = replace(a_run(folder, "x"), init_from=str(tmp_path / "model.pt"))
    followed, start = starting_encoder(run)
    assert (followed.network, followed.embedding_size) == ("quick", 16) and start.network == "quick"
    named, start = starting_encoder(replace(run, network="r50", set_keys=frozenset(("network",))))
    assert named.network == "r50" and start is None  # whose own check says what does not fit


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(init_from=None, network="graph"), "config.network is 'graph', which is that of an ONNX file"),
        (dict(init_from="of/absent.onnx"), "of/absent.onnx does not exist"),
        (dict(init_from="buffalo_x"), "buffalo_x is no file, and no model of insightface"),
        (dict(init_from="model.pt", init_color="bgr"), "config.init_color, init_mean and init_std are for ONNX files"),
    ],
)
def test_what_does_not_fit_is_named(folder, changes, message, tmp_path, monkeypatch):
    write_model(tmp_path, "quick", 16)
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ConfigError, CheckpointError), match=message):
        starting_encoder(replace(a_run(folder, "x"), **changes))


def _on_two_ranks(rank: int, name: str) -> None:
    torch.set_num_threads(1)
    folder = Path(name)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    train(a_run(folder, "two", batch_size=4, resume=True, finetune=FROZEN))
    torch.distributed.destroy_process_group()


def test_two_ranks_go_on_with_a_graph_as_one_does(folder):
    """With BatchNorm frozen, as its statistics would be those of each rank's own images."""
    train(a_run(folder, "one", finetune=FROZEN))
    train(a_run(folder, "two", train=TrainOptions(max_steps=3), finetune=FROZEN))
    mp.spawn(_on_two_ranks, args=(str(folder),), nprocs=2)
    assert len(losses(folder, "two")) == 6
    np.testing.assert_allclose(losses(folder, "two"), losses(folder, "one"), rtol=1e-4)
    one, two = (checkpoint(folder, out)["state_dict_backbone"] for out in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-5)
    assert not any(name.endswith("running_mean") for name in one), "nothing was folded out"


def test_batchnorm_that_is_trained_comes_back(folder, whole):
    state = checkpoint(folder, "whole")["state_dict_backbone"]
    means = [name for name in state if name.endswith("running_mean")]
    assert len(means) == 4 and all(state[name].any() for name in means)  # three convolutions and the last layer


def test_the_exported_file_is_read_by_onnxruntime_alone(folder, whole):
    model = load_model(str(whole), device="cpu")
    export_onnx(model.backbone, folder / "plain.onnx")
    session = onnxruntime.InferenceSession(str(folder / "plain.onnx"), providers=["CPUExecutionProvider"])
    assert session.run(None, {"data": np.zeros((2, 3, 112, 112), np.float32)})[0].shape == (2, 12)
