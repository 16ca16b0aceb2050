"""Pair verification from pixels to numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from qgface_plugin.data.bin_files import read_bin
from qgface_plugin.evaluation.metrics import kfold_accuracy, pair_distances
from qgface_plugin.evaluation.protocols.lfw import DecodedPairs, verify
from qgface_plugin.utils.errors import DataError


class FakePairs:
    """Pairs of flat colours: a genuine pair shares its colour up to noise, an impostor pair does not."""

    name = "colours"

    def __init__(self, pairs: int = 40) -> None:
        rng = np.random.default_rng(0)
        self.same = np.arange(pairs) % 3 != 0
        colours = rng.integers(0, 256, (pairs, 2, 3))
        colours[self.same, 1] = np.clip(colours[self.same, 0] + rng.integers(-9, 10, (self.same.sum(), 3)), 0, 255)
        self.images = np.broadcast_to(colours.reshape(-1, 1, 1, 3), (2 * pairs, 112, 112, 3)).astype(np.uint8)
        self.decoded = 0

    def decode(self) -> np.ndarray:
        self.decoded += 1
        return self.images


class MeanColour(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) * 10


def test_result_agrees_with_the_parts():
    pairs = FakePairs()
    result = verify(MeanColour(), pairs, batch_size=16)
    colours = (pairs.images[:, 0, 0].astype(np.float64) - 127.5) / 127.5 * 10
    expected = kfold_accuracy(pair_distances(2 * colours), pairs.same)
    assert (result.name, result.pairs) == ("colours", 40)
    assert result.accuracy == pytest.approx(expected.mean) and result.std == pytest.approx(expected.std)
    assert result.threshold == pytest.approx(expected.threshold)
    assert result.xnorm == pytest.approx(np.linalg.norm(colours, axis=1).mean(), rel=1e-5)
    assert result.accuracy > 0.85 and result.auc > 0.9
    assert [point.far for point in result.tar_at_far] == [1e-3, 1e-2, 1e-1]


def test_as_dict_is_json_and_keeps_every_number():
    result = verify(MeanColour(), FakePairs())
    restored = json.loads(json.dumps(result.as_dict()))
    assert restored == result.as_dict() and restored["accuracy"] == result.accuracy
    assert set(restored["tar_at_far"][0]) == {"far", "nearest", "strict"}


def test_decoded_pairs_decode_once():
    pairs = FakePairs()
    held = DecodedPairs.of(pairs)
    first, second = verify(MeanColour(), held), verify(MeanColour(), held)
    assert pairs.decoded == 1 and first == second == verify(MeanColour(), pairs)


def test_features_that_are_not_finite_stop_it():
    class Broken(MeanColour):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) / 0 * 0

    with pytest.raises(DataError, match="features are not finite"):
        verify(Broken(), FakePairs())


def test_fewer_pairs_than_folds():
    with pytest.raises(DataError, match="4 pairs cannot be split into 10 folds"):
        verify(MeanColour(), FakePairs(4))


class Pixels(nn.Module):
    """Grey image of 14 x 14, its mean removed."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        small = nn.functional.avg_pool2d(x.mean(1, keepdim=True), 8).flatten(1)
        return small - small.mean(1, keepdim=True)


def test_raw_pixels_of_real_faces_are_above_chance(lfw):
    """Pixels tell a little, far from everything; with images or pairs in a wrong order they would tell nothing."""
    result = verify(Pixels(), read_bin(lfw / "train" / "lfw_dev.bin"))
    assert result.pairs == 1000 and 0.6 < result.auc < 0.9 and 0.55 < result.accuracy < 0.8
