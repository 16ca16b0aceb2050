"""The loader hands the host's loop what it expects: [images, labels], a sampler with set_epoch."""

from __future__ import annotations

import logging

import pytest
import torch
from tiny import IDENTITIES, IMAGES, write_faces
from torch.utils.data import DataLoader

from qgface_plugin.config.degradation import OURS
from qgface_plugin.data.pairs import PairDataset, concatenate, normalise
from qgface_plugin.data.records import FaceRecords
from qgface_plugin.data.sampler import EpochSampler
from qgface_plugin.hosts.pair_loader import PairLoader

TOTAL, BATCH = IDENTITIES * IMAGES, 6


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> FaceRecords:
    return FaceRecords(str(write_faces(tmp_path_factory.mktemp("faces") / "data")))


def loader(source, policy=OURS, on_corrupt="error", workers=0) -> PairLoader:
    sampler = EpochSampler(len(source), BATCH, 0, 1, seed=3)
    return PairLoader(PairDataset(source, policy, 3, on_corrupt), sampler, workers, torch.device("cpu"))


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_both_views_of_the_sampled_images(source, workers):
    subject = loader(source, workers=workers)
    assert isinstance(subject, DataLoader)
    subject.sampler.set_epoch(2)
    batches = list(subject)
    assert len(batches) == TOTAL // BATCH
    places = list(EpochSampler(len(source), BATCH, 0, 1, seed=3, epoch=2))
    for i, batch in enumerate(batches):
        assert isinstance(batch, list)
        images, labels = batch
        expected = subject.dataset.__getitems__(places[i * BATCH : (i + 1) * BATCH])
        expected_images, expected_labels = concatenate(expected)
        assert images.shape == (2 * BATCH, 3, 112, 112) and images.dtype == torch.float32
        assert torch.equal(images, normalise(expected_images)) and torch.equal(labels, expected_labels)
    assert torch.equal(subject.latest.high, expected.high)


def test_single_views_are_not_doubled(source):
    images, labels = next(iter(loader(source, policy=None)))
    assert len(images) == len(labels) == BATCH


def test_skipped_images_are_counted_in_the_log(tmp_path, caplog):
    source = FaceRecords(str(write_faces(tmp_path / "data", corrupt=7)), on_corrupt="skip")
    subject = loader(source, on_corrupt="skip")
    with caplog.at_level(logging.WARNING, "qgface_plugin"):
        count = sum(1 for _ in subject)
    assert count == TOTAL // BATCH
    places = [index for _, index in EpochSampler(len(source), BATCH, 0, 1, seed=3)]
    assert ("1 corrupt images were skipped" in caplog.text) == (7 in places) and 7 in places


def test_degraded_views_may_be_made_by_the_device(source):
    sampler = EpochSampler(len(source), BATCH, 0, 1, seed=3)
    dataset = PairDataset(source, OURS, 3, degrade_on="device")
    subject = PairLoader(dataset, sampler, 1, torch.device("cpu"))
    for (images, labels), (expected, expected_labels) in zip(subject, loader(source), strict=True):
        assert torch.equal(images[:BATCH], expected[:BATCH]) and torch.equal(labels, expected_labels)
        assert (images[BATCH:] - expected[BATCH:]).abs().mean() < 3 / 127.5
    assert subject.latest.low.shape == (BATCH, 3, 112, 112)
    assert subject.feed.take_waited() > 0
