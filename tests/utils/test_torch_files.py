"""Checkpoints: whole or recognised as not, old or new but never neither, plain values or refused."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import same

from qgface_plugin.utils.errors import CheckpointError
from qgface_plugin.utils.torch_files import DamagedError, load, peek, save


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


# --- Files cut short or changed: recognised for certain, ours and plain torch.save's ----------------------------------


def small_file(folder: Path, sealed: bool) -> tuple[dict, bytes]:
    value, path = {"weight": torch.arange(6.0), "step": 3}, folder / "whole.pt"
    save(path, value) if sealed else torch.save(value, path)
    return value, path.read_bytes()


def same_file(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and torch.equal(a["weight"], b["weight"]) and a["step"] == b["step"]


@pytest.mark.parametrize("sealed", [True, False], ids=["ours", "torch.save"])
def test_cut_short_at_every_length(tmp_path, sealed):
    value, whole = small_file(tmp_path, sealed)
    path = tmp_path / "cut.pt"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedError, match="cut short" if length >= 4 else "damaged"):
            load(path)
    path.write_bytes(whole)
    assert same_file(load(path), value)


def test_every_flipped_byte_of_ours_is_noticed(tmp_path):
    value, whole = small_file(tmp_path, sealed=True)
    seal = whole.rindex(b"qgface-sha256:")
    path = tmp_path / "flipped.pt"
    for position in range(len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= 0x20 if position % 2 else 0xFF
        path.write_bytes(flipped)
        try:
            loaded = load(path)
        except DamagedError:
            continue
        # only the words before the digest may change unseen: then the archive's own CRCs are checked instead
        assert position >= seal - 22 and same_file(loaded, value), position


def test_flipped_content_of_arcface_torchs_file_is_noticed(tmp_path):
    _, whole = small_file(tmp_path, sealed=False)
    numbers = torch.arange(6.0).numpy().tobytes()
    start = whole.index(numbers)
    path = tmp_path / "flipped.pt"
    for position in range(start, start + len(numbers)):
        flipped = bytearray(whole)
        flipped[position] ^= 1
        path.write_bytes(flipped)
        assert not torch.equal(
            torch.load(path, weights_only=True)["weight"], torch.arange(6.0)
        )  # torch does not notice
        with pytest.raises(DamagedError, match="data/0 does not have the CRC"):
            load(path)


def test_lost_blocks_are_noticed(tmp_path):
    # what a power cut leaves where data never reached the disk: the right length, a block of zeros
    save(tmp_path / "s.pt", {"weight": torch.rand(10_000)})
    whole = bytearray((tmp_path / "s.pt").read_bytes())
    whole[8192:12288] = bytes(4096)
    (tmp_path / "s.pt").write_bytes(whole)
    with pytest.raises(DamagedError, match="s.pt is damaged: its SHA-256"):
        load(tmp_path / "s.pt")
