"""A data set and a backbone small enough that a training loop takes a second: noise faces, one linear layer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from qgface_plugin.config.options import DataOptions
from qgface_plugin.config.recipe import load_recipe
from qgface_plugin.config.run import Run
from qgface_plugin.data.bin_files import write_bin
from qgface_plugin.data.images import encode_jpeg
from qgface_plugin.data.recordio import Header, RecordWriter, pack
from qgface_plugin.training import build
from qgface_plugin.training.trainer import train

IDENTITIES, IMAGES = 6, 8
TIMES = ("samples_per_second", "data_stall")  # of a line in metrics.jsonl, from the clock


def face(identity: int, image: int) -> np.ndarray:
    """An identity is a coarse pattern, an image of it the pattern with noise. uint8 (112, 112, 3)."""
    pattern = np.random.default_rng(identity).integers(40, 216, (7, 7, 3))
    noise = np.random.default_rng((identity, image)).integers(-30, 31, (112, 112, 3))
    return (np.kron(pattern, np.ones((16, 16, 1), dtype=int)) + noise).clip(0, 255).astype(np.uint8)


def write_faces(folder: Path, corrupt: int | None = None, identities: int = IDENTITIES, images: int = IMAGES) -> Path:
    """train.rec/.idx with identities x images faces and dev.bin with 20 pairs; `corrupt`: key of a broken image."""
    folder.mkdir(parents=True)
    with RecordWriter(folder / "train.rec", folder / "train.idx") as writer:
        for key in range(identities * images):
            encoded = encode_jpeg(face(key // images, key), 95)
            writer.write(
                key, pack(Header(0, float(key // images), key, 0), encoded[:200] if key == corrupt else encoded)
            )
    pairs = [(i % IDENTITIES, 100 + i, (i + i % 2) % IDENTITIES, 200 + i) for i in range(20)]
    encoded = [encode_jpeg(face(who, which), 95) for a, x, b, y in pairs for who, which in ((a, x), (b, y))]
    write_bin(folder / "dev.bin", encoded, [a == b for a, _, b, _ in pairs])
    return folder


class TinyBackbone(nn.Module):
    """Mean colours of 16 x 16 blocks, then one layer. Images (B, 3, 112, 112) -> (B, d)."""

    checkpoint_activations = False  # there is nothing to save

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 49, num_features)
        self.norm = nn.BatchNorm1d(num_features)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.norm(self.layer(nn.functional.avg_pool2d(images, 16).flatten(1)))


def tiny_model(name: str, num_features: int, features_bias: bool) -> nn.Module:
    """Stands in for `backbones.get_model`."""
    return TinyBackbone(num_features)


def tiny_run(folder: Path, **changes) -> Run:
    """A run over `folder`/data into `folder`/out; `changes` are fields of Run."""
    settings = dict(
        rec=str(folder / "data"), output=str(folder / "out"), embedding_size=8, batch_size=8, num_epoch=2, lr=0.05,
        num_workers=0, frequent=1, seed=3,
    )  # fmt: skip
    return Run(**{**settings, **changes})


def same(a, b) -> bool:
    """Equal to the last bit, type by type, through dicts, lists and tuples."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def two_steps(recipe: Path, folder: Path, monkeypatch, batch_size: int) -> list[dict]:
    """Train two steps of a recipe in `folder` with the tiny model and faces; the lines of its metrics.jsonl."""
    monkeypatch.setattr(build, "get_model", tiny_model)
    write_faces(folder / "data")
    run = load_recipe(recipe, {"DATA_ROOT": str(folder / "data")})
    options, data = replace(run.train, max_steps=2), DataOptions()
    small = dict(output=str(folder / "out"), num_workers=0, frequent=1, train=options, data=data)
    train(replace(run, batch_size=batch_size, **small))
    lines = [json.loads(line) for line in (folder / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    return lines
