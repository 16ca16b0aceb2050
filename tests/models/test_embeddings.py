"""Embeddings: flip fusion, norms, batches and modes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from qgface_plugin.models.embeddings import Embeddings, embed, evaluating
from qgface_plugin.utils.errors import ConfigError, DataError


class Probe(nn.Module):
    """A small encoder that is not symmetric and behaves differently in training; remembers what it was given."""

    def __init__(self, size: int = 5) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(torch.randn(3 * 112 * 112, size, generator=generator) / 100)
        self.dropout = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(size)
        self.batches: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        self.batches.append(x)
        return self.norm(self.dropout(x.flatten(1)) @ self.weight)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, 112, 112, 3), dtype=np.uint8)


def test_features_by_hand(images):
    """Against the definition in float64: normalise, mirror the columns, multiply, add both."""
    probe = Probe()
    result = embed(probe, images, batch_size=3)
    weight = probe.weight.detach().double().numpy()
    scale = (1 + probe.norm.eps) ** -0.5
    for index, image in enumerate(images):
        pixels = (image.astype(np.float64) - 127.5) / 127.5
        straight = pixels.transpose(2, 0, 1).reshape(-1) @ weight * scale
        mirrored = pixels[:, ::-1].transpose(2, 0, 1).reshape(-1) @ weight * scale
        np.testing.assert_allclose(result.original[index], straight, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(result.mirrored[index], mirrored, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(result.features[index], straight + mirrored, rtol=1e-4, atol=1e-4)
        assert result.norms[index] == pytest.approx(np.linalg.norm(straight), rel=1e-4)


def test_types_and_lengths(images):
    result = embed(Probe(), images, batch_size=3)
    assert len(result) == 7 and result.features.shape == (7, 5) and result.norms.shape == (7,)
    assert {a.dtype for a in (result.original, result.mirrored, result.features, result.norms)} == {np.dtype("f4")}


def test_a_smaller_last_batch(images):
    probe = Probe()
    whole = embed(probe, images, batch_size=64)
    parts = embed(probe, images, batch_size=3)
    assert [len(batch) for batch in probe.batches] == [7, 7, 3, 3, 3, 3, 1, 1]
    np.testing.assert_allclose(parts.original, whole.original, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(parts.mirrored, whole.mirrored, rtol=1e-5, atol=1e-6)


def test_the_network_sees_normalised_float_images(images):
    probe = Probe()
    embed(probe, np.stack([np.zeros_like(images[0]), np.full_like(images[0], 255)]))
    assert probe.batches[0].dtype == torch.float32 and probe.batches[0].shape == (2, 3, 112, 112)
    assert torch.all(probe.batches[0][0] == -1) and torch.all(probe.batches[0][1] == 1)


def test_mean_norm_is_over_images_and_mirror_images():
    result = Embeddings(np.array([[3, 4]], np.float32), np.array([[0, 1]], np.float32))
    assert result.mean_norm == 3.0 and result.norms.tolist() == [5.0] and result.features.tolist() == [[3, 5]]


def test_every_module_is_back_in_its_own_mode(images):
    probe = Probe().train()
    probe.norm.eval()  # a frozen BatchNorm in a network that trains
    before = probe.norm.running_mean.clone()
    embed(probe, images)
    assert probe.training and probe.dropout.training and not probe.norm.training
    assert torch.equal(probe.norm.running_mean, before)


def test_modes_are_restored_after_an_error():
    probe = Probe().train()
    with pytest.raises(RuntimeError, match="stop"), evaluating(probe):
        assert not probe.training
        raise RuntimeError("stop")
    assert probe.training and probe.norm.training


def test_arrays_that_are_read_only_or_views_are_fine(images):
    probe = Probe()
    expected = embed(probe, images[::-1].copy())
    view = images[::-1]
    view.setflags(write=False)
    np.testing.assert_array_equal(embed(probe, view).original, expected.original)


def test_progress_only_with_a_label(images, capsys):
    embed(Probe(), images)
    assert capsys.readouterr().err == ""
    embed(Probe(), images, progress="lfw")
    assert "lfw" in capsys.readouterr().err


@pytest.mark.parametrize(
    "bad",
    [np.zeros((2, 112, 112, 3), np.float32), np.zeros((112, 112, 3), np.uint8), np.zeros((0, 112, 112, 3), np.uint8)],
)
def test_other_arrays_are_refused(bad):
    with pytest.raises(DataError, match="embed takes uint8"):
        embed(Probe(), bad)


def test_batch_size_below_one(images):
    with pytest.raises(ConfigError, match="batch_size is 0"):
        embed(Probe(), images, batch_size=0)
