"""Batches reach the step on its device and with both views, and the time spent waiting for them is known."""

from __future__ import annotations

import logging

import pytest
import torch
from tiny import IDENTITIES, IMAGES, tiny_run, write_faces
from torch.utils.data import DataLoader

from qgface_plugin.config.degradation import OURS
from qgface_plugin.config.options import DataOptions
from qgface_plugin.data import loader as module
from qgface_plugin.data.degradation.gpu import both_views
from qgface_plugin.data.loader import PairLoader, Prefetcher, TensorLoader, open_batches
from qgface_plugin.data.pair_dataset import PairDataset, concatenate, normalise
from qgface_plugin.data.sampler import EpochSampler
from qgface_plugin.data.sources.records import FaceRecords
from qgface_plugin.data.sources.source import open_source
from qgface_plugin.training import build
from qgface_plugin.utils.errors import DataError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("loader")
    write_faces(path / "data")
    return path


def made_batches(folder, degrade_on: str, workers: int = 0) -> list:
    source, run = open_source(
        tiny_run(folder, data=DataOptions(degrade_on=degrade_on), num_workers=workers, batch_size=12)
    )
    loader = PairLoader(build.make_dataset(run, source), build.make_sampler(run, 1), run.num_workers, CPU)
    with open_batches(loader) as found:
        return list(Prefetcher(CPU, run.degradation)(found))


def test_batches_with_both_views_pass_as_they_are(folder):
    made = made_batches(folder, "cpu")
    assert len(made) == 4 and all(batch.params is None and batch.low.shape == (12, 3, 112, 112) for batch in made)


@pytest.mark.parametrize("workers", [0, 1])
def test_degraded_views_are_made_where_the_workers_made_none(folder, workers):
    here, there = made_batches(folder, "cpu"), made_batches(folder, "device", workers)
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.high, other.high) and torch.equal(one.labels, other.labels)
        assert (one.low.float() - other.low.float()).abs().mean() < 3  # tiny's noise faces amplify a rounding
        assert other.params is None and other.low.dtype == torch.uint8
    again = made_batches(folder, "device", 1 - workers)
    assert all(torch.equal(one.low, other.low) for one, other in zip(there, again, strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_workers_error_is_said_in_its_own_words(tmp_path, workers):
    write_faces(tmp_path / "data", corrupt=5)
    with pytest.raises(DataError, match=r"^\S*train\.rec key 5 at offset \d+: undecodable JPEG[^\n]*$") as found:
        made_batches(tmp_path, "cpu", workers)
    assert ("Traceback" in str(found.value.__cause__)) == bool(workers)


def test_waiting_is_the_time_spent_in_the_loader(folder, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    made = made_batches(folder, "cpu")

    def loader():
        for number, batch in enumerate(made):
            clock[0] += 2.0**number
            yield batch
        clock[0] += 100

    prefetcher, waited = Prefetcher(CPU, OURS), []
    for _ in prefetcher(loader()):
        waited.append(prefetcher.take_waited())
        clock[0] += 1000  # the step
    assert waited == [1.0, 2.0, 4.0, 8.0]
    assert prefetcher.take_waited() == 100 and prefetcher.take_waited() == 0, (
        "the end of an epoch counts to the next step"
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="copying ahead needs CUDA")
def test_on_a_gpu_batches_are_copied_ahead(folder):
    device = torch.device("cuda")
    source, run = open_source(tiny_run(folder, data=DataOptions(degrade_on="device"), batch_size=12))
    loader = PairLoader(build.make_dataset(run, source), build.make_sampler(run, 1), run.num_workers, device)
    here = made_batches(folder, "device")
    for one, other in zip(here, Prefetcher(device, run.degradation)(iter(loader)), strict=True):
        assert torch.equal(one.high, other.high.cpu())
        assert (one.low.float() - other.low.cpu().float()).abs().mean() < 1
    assert both_views(other, None) is other


# --- A checkout's loop gets what it expects: [images, labels], a sampler with set_epoch -------------------------------


TOTAL, BATCH = IDENTITIES * IMAGES, 6


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> FaceRecords:
    return FaceRecords(str(write_faces(tmp_path_factory.mktemp("faces") / "data")))


def loader(source, policy=OURS, on_corrupt="error", workers=0) -> TensorLoader:
    sampler = EpochSampler(len(source), BATCH, 0, 1, seed=3)
    return TensorLoader(PairDataset(source, policy, 3, on_corrupt), sampler, workers, torch.device("cpu"))


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
    assert torch.equal(subject.latest.high, expected.high) and subject.images is images


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
    subject = TensorLoader(dataset, sampler, 1, torch.device("cpu"))
    for (images, labels), (expected, expected_labels) in zip(subject, loader(source), strict=True):
        assert torch.equal(images[:BATCH], expected[:BATCH]) and torch.equal(labels, expected_labels)
        assert (images[BATCH:] - expected[BATCH:]).abs().mean() < 3 / 127.5
    assert subject.latest.low.shape == (BATCH, 3, 112, 112)
    assert subject.prefetcher.take_waited() > 0


@pytest.mark.parametrize(("workers", "degrade_on"), [(0, "cpu"), (1, "cpu"), (1, "device")])
def test_surplus_bytes_are_counted_and_said_once(tmp_path, caplog, workers, degrade_on):
    faces = FaceRecords(write_faces(tmp_path / "data"))
    odd = {1: lambda image: image[:-2], 3: lambda image: image + bytes(3)}

    class Odd:
        def __len__(self):
            return len(faces)

        def read(self, index):
            encoded, label = faces.read(index)
            return odd.get(index, bytes)(bytes(encoded)), label

        where = faces.where

    dataset = PairDataset(Odd(), OURS, seed=0, degrade_on=degrade_on)
    loader = TensorLoader(dataset, EpochSampler(len(faces), len(faces), 0, 1, seed=0), workers, CPU)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert len(list(loader)) == 1
    assert [record.message for record in caplog.records if "surplus" in record.message] == [
        "2 JPEGs carry surplus bytes or lack their end marker; no pixel is missing, they are used"
    ]
