"""Files cut short or changed: recognised for certain, ours and plain torch.save's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from qgface_plugin.hosts.checkpoint import load, save
from qgface_plugin.hosts.seal import DamagedError


def small_file(folder: Path, sealed: bool) -> tuple[dict, bytes]:
    value, path = {"weight": torch.arange(6.0), "step": 3}, folder / "whole.pt"
    save(path, value) if sealed else torch.save(value, path)
    return value, path.read_bytes()


def same(a: dict, b: dict) -> bool:
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
    assert same(load(path), value)


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
        assert position >= seal - 22 and same(loaded, value), position


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
