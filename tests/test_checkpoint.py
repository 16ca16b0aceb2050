"""Checkpoints: whole or recognised as not, old or new but never neither, plain values or refused."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import same

from qgface_plugin.errors import CheckpointError
from qgface_plugin.hosts.checkpoint import load, peek, save


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


# one file


def test_round_trip_of_all_plain_values(tmp_path):
    value = {
        "a": [1, 2.5, None, True, ("x", {3: torch.ones(2, dtype=torch.int64)})],
        "p": torch.nn.Parameter(torch.ones(1)),
    }
    save(tmp_path / "s.pt", value)
    loaded = load(tmp_path / "s.pt")
    assert same(value["a"], loaded["a"]) and torch.equal(value["p"], loaded["p"])
    assert names(tmp_path) == ["s.pt"]


def test_plain_torch_load_reads_it(tmp_path):
    value = {"step": 3, "weights": {"layer": torch.rand(3, 4)}}
    save(tmp_path / "s.pt", value)
    assert same(torch.load(tmp_path / "s.pt", weights_only=True), value)


def test_a_peek_gives_the_numbers_and_the_same_errors(tmp_path):
    value = {"step": 3, "weights": torch.rand(1000)}
    save(tmp_path / "s.pt", value)
    assert same(peek(tmp_path / "s.pt"), value)
    (tmp_path / "cut.pt").write_bytes((tmp_path / "s.pt").read_bytes()[:-2000])
    with pytest.raises(CheckpointError, match="cut.pt is cut short"):
        peek(tmp_path / "cut.pt")
    torch.save({"step": Hostile()}, tmp_path / "hostile.pt")
    with pytest.raises(CheckpointError, match="hostile.pt is refused: it asks for posix.mkdir"):
        peek(tmp_path / "hostile.pt")
    with pytest.raises(CheckpointError, match="nowhere.pt does not exist"):
        peek(tmp_path / "nowhere.pt")


def test_a_real_optimizer_scheduler_and_scaler_are_plain(tmp_path):
    model = torch.nn.Linear(3, 2)
    for make in (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), lambda p: torch.optim.AdamW(p, lr=0.1)):
        optimizer = make(model.parameters())
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        value = {"o": optimizer.state_dict(), "s": schedule.state_dict(), "g": torch.amp.GradScaler("cpu").state_dict()}
        save(tmp_path / "s.pt", value)
        make(model.parameters()).load_state_dict(load(tmp_path / "s.pt")["o"])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": {"lr": np.float64(0.1)}}, r"state\['a'\]\['lr'\] is numpy.float64: a checkpoint holds tensors"),
        ({"a": [0, Path("x")]}, r"state\['a'\]\[1\] is pathlib"),
        ({np.int64(1): 2}, "the key .*1.* of state is numpy.int64"),
    ],
)
def test_what_would_not_load_is_not_saved(tmp_path, value, message):
    with pytest.raises(CheckpointError, match=message):
        save(tmp_path / "s.pt", value)
    assert names(tmp_path) == []


def test_hostile_pickles_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"step": 1, "qgface": Hostile()}, "zip.pt")
    Path("raw.pt").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(CheckpointError, match="zip.pt is refused: it asks for posix.mkdir"):
        load("zip.pt")
    with pytest.raises(CheckpointError, match="raw.pt is damaged, or no file of torch.save"):
        load("raw.pt")
    assert names(tmp_path) == ["raw.pt", "zip.pt"]


def test_absent_file(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere.pt does not exist"):
        load(tmp_path / "nowhere.pt")


def test_an_error_that_is_not_the_disks_is_not_dressed_up(tmp_path, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("something else")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(RuntimeError, match="something else"):
        save(tmp_path / "s.pt", {"step": 1})
    assert names(tmp_path) == []
