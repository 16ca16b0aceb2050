"""Batches reach the step on its device and with both views, and the time spent waiting for them is known."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_run, write_faces

from qgface_plugin.config.degradation import OURS
from qgface_plugin.config.options import DataOptions
from qgface_plugin.data.degrade_batch import both_views
from qgface_plugin.hosts import feed as module
from qgface_plugin.hosts import parts
from qgface_plugin.hosts.feed import Feed
from qgface_plugin.utils.errors import DataError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("feed")
    write_faces(path / "data")
    return path


def batches(folder, degrade_on: str, workers: int = 0) -> list:
    source, run = parts.open_source(
        tiny_run(folder, data=DataOptions(degrade_on=degrade_on), num_workers=workers, batch_size=12)
    )
    loader = parts.make_loader(run, parts.make_dataset(run, source), parts.make_sampler(run, 1), CPU)
    with parts.batches(loader) as found:
        return list(Feed(CPU, run.degradation)(found))


def test_batches_with_both_views_pass_as_they_are(folder):
    made = batches(folder, "cpu")
    assert len(made) == 4 and all(batch.plans is None and batch.low.shape == (12, 3, 112, 112) for batch in made)


@pytest.mark.parametrize("workers", [0, 1])
def test_degraded_views_are_made_where_the_workers_made_none(folder, workers):
    here, there = batches(folder, "cpu"), batches(folder, "device", workers)
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.high, other.high) and torch.equal(one.labels, other.labels)
        assert (one.low.float() - other.low.float()).abs().mean() < 3  # tiny's noise faces amplify a rounding
        assert other.plans is None and other.low.dtype == torch.uint8
    again = batches(folder, "device", 1 - workers)
    assert all(torch.equal(one.low, other.low) for one, other in zip(there, again, strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_workers_error_is_said_in_its_own_words(tmp_path, workers):
    write_faces(tmp_path / "data", corrupt=5)
    with pytest.raises(DataError, match=r"^\S*train\.rec key 5 at offset \d+: undecodable JPEG[^\n]*$") as found:
        batches(tmp_path, "cpu", workers)
    assert ("Traceback" in str(found.value.__cause__)) == bool(workers)


def test_waiting_is_the_time_spent_in_the_loader(folder, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    made = batches(folder, "cpu")

    def loader():
        for number, batch in enumerate(made):
            clock[0] += 2.0**number
            yield batch
        clock[0] += 100

    feed, waited = Feed(CPU, OURS), []
    for _ in feed(loader()):
        waited.append(feed.take_waited())
        clock[0] += 1000  # the step
    assert waited == [1.0, 2.0, 4.0, 8.0]
    assert feed.take_waited() == 100 and feed.take_waited() == 0, "the end of an epoch counts to the next step"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="copying ahead needs CUDA")
def test_on_a_gpu_batches_are_copied_ahead(folder):
    device = torch.device("cuda")
    source, run = parts.open_source(tiny_run(folder, data=DataOptions(degrade_on="device"), batch_size=12))
    loader = parts.make_loader(run, parts.make_dataset(run, source), parts.make_sampler(run, 1), device)
    here = batches(folder, "device")
    for one, other in zip(here, Feed(device, run.degradation)(iter(loader)), strict=True):
        assert torch.equal(one.high, other.high.cpu())
        assert (one.low.float() - other.low.cpu().float()).abs().mean() < 1
    assert both_views(other, None) is other
