"""qgface benchmark pairs: its plain ways make the pairs that are measured against them, and it runs."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch

from qgface_plugin.benchmarks import pairs
from qgface_plugin.commands.benchmark import main
from qgface_plugin.config.degradation import ADAFACE, OURS
from qgface_plugin.data.degradation.params import draw, uniforms
from qgface_plugin.data.images import encode_jpeg
from qgface_plugin.data.pair_dataset import PairDataset
from qgface_plugin.data.procedural.face import draw_face


@pytest.fixture
def module():
    threads = torch.get_num_threads(), cv2.getNumThreads()
    yield pairs
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


class Memory:
    num_classes = 20

    def __init__(self, count: int) -> None:
        self.encoded = [encode_jpeg(draw_face(number, 0), 95) for number in range(count)]

    def __len__(self) -> int:
        return len(self.encoded)

    def read(self, index: int) -> tuple[memoryview, int]:
        return memoryview(self.encoded[index]), index

    def where(self, index: int) -> str:
        return str(index)


def levels(view) -> np.ndarray:
    """A view float32 (3, h, w) in [-1, 1] as (h, w, 3) in [0, 255]."""
    return np.asarray(view).transpose(1, 2, 0).astype(np.float64) * 127.5 + 127.5


@pytest.mark.parametrize("policy", [OURS, ADAFACE])
def test_the_plain_way_makes_the_same_pairs(module, policy):
    source = Memory(20)
    dataset = PairDataset(source, policy, 5)
    params = draw(policy, uniforms(5, np.full(20, 2), np.arange(20)))
    differences = []
    for index, view in enumerate(params.images()):
        pair = dataset[2, index]
        high, low = map(levels, module.plain_pair(source.read(index)[0], view, policy))
        assert np.abs(high - pair.high).max() < 0.01
        differences.append(np.abs(low - pair.low).mean())
    # Lanczos in uint8 rounds otherwise than in float32, and the JPEG makes more of it
    assert np.max(differences) < 3 and np.mean(differences) < 0.5


def test_the_way_with_pillow_makes_similar_pairs(module):
    pytest.importorskip("PIL")
    source, pair = Memory(20), module.pillow_pair()
    dataset, params = PairDataset(source, OURS, 5), draw(OURS, uniforms(5, np.full(20, 2), np.arange(20)))
    differences = []
    for index, view in enumerate(params.images()):
        ours = dataset[2, index]
        high, low = map(levels, pair(source.read(index)[0], view, OURS))
        assert np.abs(high - ours.high).mean() < 1
        differences.append(np.abs(low - ours.low).mean())
    assert np.median(differences) < 8, "its filters have other widths"


def test_it_runs_and_writes_its_figures(module, tmp_path, capsys):
    given = "pairs --rounds 1 --batch 8 --batches 2 --workers 1 2 --loader-rounds 1 --json".split()
    assert main([*given, str(tmp_path / "out.json")]) == 0
    results = json.loads((tmp_path / "out.json").read_text())["results"]
    assert results["one core"]["pairs a second"] > 1 and results["ratios"]["pairs / plain pairs, OpenCV"] > 0
    one, two = results["whole loaders"]["1 workers"], results["whole loaders"]["2 workers"]
    assert one["pairs a second"] > 1 and one["times those of 1"] == 1
    assert two["times those of 1"] == two["pairs a second"] / one["pairs a second"]
    assert "decoding alone a second" in capsys.readouterr().out
    assert main(["pairs", "--batch", "0"]) == 2
    assert (
        "qgface benchmark: --batch, --rounds, --batches, --loader-rounds and --workers must be at least 1"
        in capsys.readouterr().err
    )
