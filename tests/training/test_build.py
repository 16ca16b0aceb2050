"""What a run is built of: sources, verification sets, optimiser groups."""

from __future__ import annotations

import logging
from dataclasses import replace

import cv2
import pytest
import torch
from tiny import face, tiny_model, tiny_run, write_faces

from qgface_plugin.config.options import DataOptions
from qgface_plugin.data.sources.source import open_source
from qgface_plugin.training import build
from qgface_plugin.utils.errors import ConfigError, DataError, TrainingError


@pytest.fixture
def run(tmp_path):
    write_faces(tmp_path / "data")
    return tiny_run(tmp_path)


def test_counts_come_from_the_data(run):
    source, resolved = open_source(run)
    assert (resolved.num_classes, resolved.num_image) == (6, 48) == (source.num_classes, len(source))


def test_image_count_that_differs(run):
    with pytest.raises(ConfigError, match=r"config\.num_image is 47, but .*data has 48"):
        open_source(replace(run, num_image=47))


def test_no_data_named(run):
    with pytest.raises(ConfigError, match=r"config\.rec"):
        open_source(replace(run, rec=None))


@pytest.mark.parametrize("source", ["recordio", "folder"])
@pytest.mark.parametrize("there", [False, True])
def test_missing_data_say_what_names_them(tmp_path, monkeypatch, source, there):
    """No such folder, and a folder without data in it; by the recipe, and by the environment."""
    data = tmp_path / "empty"
    if there:
        data.mkdir()
    run = tiny_run(tmp_path, rec=str(data), data=DataOptions(source=source))
    monkeypatch.delenv("DATA_ROOT", raising=False)
    with pytest.raises(DataError, match=r"empty: no .* \(named by config\.rec, whose place DATA_ROOT takes"):
        open_source(run)
    monkeypatch.setenv("DATA_ROOT", str(data))
    with pytest.raises(DataError, match=r"\(named by DATA_ROOT, which takes the place of config\.rec\)$"):
        open_source(run)


def test_faces_that_cannot_be_drawn_say_where_and_what_names_it(tmp_path):
    (tmp_path / "file").touch()
    run = tiny_run(tmp_path, rec=str(tmp_path / "file" / "faces"), data=DataOptions(source="procedural"))
    with pytest.raises(TrainingError, match=r"faces: no faces can be drawn there: .*config\.rec.*can be written"):
        open_source(run)


def test_arcface_torchs_synthetic_data_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"synthetic: no such .*config\.rec\. .*random images.*'procedural'"):
        open_source(tiny_run(tmp_path, rec="synthetic"))


def test_several_image_folders_are_refused_not_passed_over(tmp_path):
    run = tiny_run(tmp_path, rec=("a", "b"), data=DataOptions(source="folder"))
    with pytest.raises(ConfigError, match=r"config\.rec is \('a', 'b'\), but .*'folder' reads one folder"):
        open_source(run)


def test_folder_source_is_chosen_explicitly(tmp_path):
    for who in range(3):
        (tmp_path / "images" / f"p{who}").mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "images" / f"p{who}" / "0.png"), face(who, 0))
    run = tiny_run(tmp_path, rec=str(tmp_path / "images"))
    with pytest.raises(DataError, match="no .rec file"):
        open_source(run)
    _, resolved = open_source(replace(run, data=DataOptions(source="folder")))
    assert (resolved.num_classes, resolved.num_image) == (3, 3)


def test_missing_pair_set_is_named_and_passed_over(run, caplog):
    with caplog.at_level(logging.WARNING):
        found = build.open_pair_sets(replace(run, val_targets=("lfw", "dev")))
    assert [pairs.name for pairs in found] == ["dev"]
    assert "no verification on lfw: there is no lfw.bin in" in caplog.text


def test_class_centres_are_the_last_group(run):
    _, run = open_source(run)
    backbone = tiny_model("", 8, True)
    backbone.norm.bias.requires_grad_(False)
    criterion = build.make_criterion(run, "cpu", fp16=False)
    optimizer = build.make_optimizer(run, backbone, criterion)
    assert [len(group["params"]) for group in optimizer.param_groups] == [3, 1]
    assert optimizer.param_groups[1]["params"][0] is criterion.weight


def test_weights_follow_from_the_seed(run):
    first, same, other = (build.make_backbone(replace(run, network="quick", seed=seed), "cpu") for seed in (1, 1, 2))
    assert (first.fc.weight == same.fc.weight).all() and not (first.fc.weight == other.fc.weight).all()


def test_a_warm_up_of_minus_1_is_none(run):
    """As arcface_torch's config 3millions has it: the same rates as with 0."""
    rates = []
    for epochs in (-1, 0):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
        schedule = build.make_schedule(replace(run, warmup_epoch=epochs, num_epoch=2), optimizer, steps_per_epoch=3)
        rates.append([schedule.get_last_lr()])
        for _ in range(6):
            optimizer.step()
            schedule.step()
            rates[-1].append(schedule.get_last_lr())
    assert rates[0] == rates[1] and rates[0][0] == [0.2] and rates[0][-1] == [0.0]
