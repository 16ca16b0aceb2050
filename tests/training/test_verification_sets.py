"""Verification sets that cannot be verified are found before anything is written; max_steps ends with one verified."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tiny import face, tiny_model, tiny_run, write_faces

from qgface_plugin.config.options import TrainOptions
from qgface_plugin.data.bin_files import write_bin
from qgface_plugin.data.images import encode_jpeg
from qgface_plugin.training import build
from qgface_plugin.training.trainer import train
from qgface_plugin.utils.errors import DataError
from qgface_plugin.utils.logs import early_log


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "get_model", tiny_model)
    write_faces(tmp_path / "data")
    return tiny_run(tmp_path, train=TrainOptions(max_steps=1))


def jpegs(count: int) -> list[bytes]:
    return [encode_jpeg(face(i % 3, i), 95) for i in range(count)]


def no_pickle(path):
    path.write_bytes(b"\x80\x04nothing")


def undecodable(path):
    write_bin(path, [*jpegs(39), b"\xff\xd8\xff no image"], [True, False] * 10)


SETS = {
    "nine_pairs": (lambda path: write_bin(path, jpegs(18), [True, False, True] * 3), "9 pairs .* 10 folds"),
    "genuine_only": (lambda path: write_bin(path, jpegs(40), [True] * 20), "20 of 20 pairs are genuine"),
    "impostors_only": (lambda path: write_bin(path, jpegs(40), [False] * 20), "0 of 20 pairs are genuine"),
    "damaged": (no_pickle, "refused|cut short|damaged"),
    "undecodable": (undecodable, "image 39"),
    "a_folder": (lambda path: path.mkdir(), "cannot be read"),
    "dangling": (lambda path: path.symlink_to("/nonexistent/set.bin"), "cannot be read"),
}


@pytest.mark.parametrize("name", SETS)
def test_a_set_that_cannot_be_verified_is_refused_before_anything_is_written(run, tmp_path, name):
    write, reason = SETS[name]
    write(tmp_path / "data" / f"{name}.bin")
    with pytest.raises(DataError, match=rf"config\.val_targets: .*{name}\.bin cannot be verified: .*{reason}"):
        train(replace(run, val_targets=("dev", name)))
    assert not (tmp_path / "out").exists()


def test_an_absent_set_is_a_warning_in_the_log_and_the_others_are_verified(run, tmp_path, capsys):
    with early_log() as log:
        train(replace(run, val_targets=("lfw", "dev.bin")), log)
    warned = [line for line in (tmp_path / "out" / "training.log").read_text().splitlines() if "lfw" in line]
    warned = [line for line in warned if "no verification" in line]
    assert len(warned) == 1 and "config.val_targets" in warned[0] and str(tmp_path / "data") in warned[0]
    assert "WARNING" in warned[0]
    assert capsys.readouterr().out.count("no verification on lfw") == 1
    assert "[dev][1]Accuracy-Flip" in (tmp_path / "out" / "training.log").read_text()


def test_the_last_step_of_max_steps_is_verified(run, tmp_path):
    results = train(replace(run, val_targets=("dev",), train=TrainOptions(max_steps=2)))
    lines = map(json.loads, (tmp_path / "out" / "metrics.jsonl").read_text().splitlines())
    assert [line["step"] for line in lines if line["kind"] == "verification"] == [2]
    assert results["dev"]["pairs"] == 20
