from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from qgface_plugin.config.degradation import OURS, DegradationPolicy
from qgface_plugin.data import pair_dataset as module
from qgface_plugin.data.degradation.cpu import apply
from qgface_plugin.data.degradation.params import ViewParams
from qgface_plugin.data.images import decode_into, encode_png
from qgface_plugin.data.pair_dataset import PairDataset, ViewPair, collate, concatenate, normalise, worker_init
from qgface_plugin.data.sampler import EpochSampler
from qgface_plugin.data.sources.records import FaceRecords
from qgface_plugin.utils.errors import ConfigError, DataError

NOTHING = DegradationPolicy(rescale_p=0.0, jpeg_p=0.0, crop_p=0.0, photometric_p=0.0, rotation_p=0.0)


class MemoryFaces:
    """A face source in memory; image i has label i // 2, and its first pixel is (i, label, 99)."""

    def __init__(self, count: int, corrupt: tuple[int, ...] = (), unreadable: tuple[int, ...] = ()) -> None:
        rng = np.random.default_rng(count)
        self.images = rng.integers(0, 256, (count, 112, 112, 3), dtype=np.uint8)
        for index, image in enumerate(self.images):
            image[0, 0] = index, index // 2, 99
        self.encoded = [encode_png(image) for image in self.images]
        for index in corrupt:
            self.encoded[index] = self.encoded[index][:50]
        self.unreadable = unreadable
        self.num_classes = (count + 1) // 2
        self.reads = 0

    def __len__(self) -> int:
        return len(self.encoded)

    def read(self, index: int) -> tuple[bytes, int]:
        self.reads += 1
        if index in self.unreadable:
            raise DataError(f"{self.where(index)}: wrong magic")
        return self.encoded[index], index // 2

    def where(self, index: int) -> str:
        return f"memory key {index}"


@pytest.fixture(scope="module")
def faces() -> MemoryFaces:
    return MemoryFaces(24)


def same(first: ViewPair, second: ViewPair) -> bool:
    return np.array_equal(first.high, second.high) and np.array_equal(first.low, second.low) and first[2:] == second[2:]


def test_a_pair_follows_from_seed_epoch_and_index(faces):
    at = list(itertools.product((0, 1), (3, 4)))
    pairs = {where: PairDataset(faces, OURS, 7)[where] for where in at}
    backwards = PairDataset(faces, OURS, 7)
    assert all(same(backwards[where], pairs[where]) for where in reversed(at))
    low = {pair.low.tobytes() for pair in pairs.values()} | {PairDataset(faces, OURS, 8)[0, 3].low.tobytes()}
    assert len(low) == 5


def test_views_are_mirrored_each_on_its_own(faces):
    dataset = PairDataset(faces, NOTHING, 1)
    seen = {(False, False): 0, (False, True): 0, (True, False): 0, (True, True): 0}
    for epoch, index in itertools.product(range(30), range(len(faces))):
        pair = dataset[epoch, index]
        image = faces.images[index]
        for view in (pair.high, pair.low):
            assert np.array_equal(view, image) or np.array_equal(view, image[:, ::-1])
        seen[not np.array_equal(pair.high, image), not np.array_equal(pair.low, image)] += 1
    assert min(seen.values()) > 0.2 * 720 and max(seen.values()) < 0.3 * 720


def test_the_original_view_is_untouched_by_the_degradation(faces):
    never = PairDataset(faces, dataclasses.replace(OURS, flip_p=0.0), 1)
    pair = never[0, 6]
    np.testing.assert_array_equal(pair.high, faces.images[6])
    assert pair.label == 3 and pair.low.shape == (112, 112, 3) and pair.low.dtype == np.uint8
    assert np.abs(pair.low.astype(int) - pair.high).mean() > 10


def test_one_decoding_a_pair(monkeypatch):
    source, decoded = MemoryFaces(4), []
    monkeypatch.setattr(module, "decode_into", lambda *given: decoded.append(given[2]()) or decode_into(*given))
    PairDataset(source, OURS, 0)[0, 2]
    assert decoded == ["memory key 2"] and source.reads == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_no_byte(faces, workers):
    def batches(count):
        dataset = PairDataset(faces, OURS, 3)
        sampler = EpochSampler(len(faces), 5, 0, 1, 3, epoch=4)
        loader = DataLoader(
            dataset, 5, sampler=sampler, collate_fn=collate, num_workers=count, worker_init_fn=worker_init
        )
        return list(loader)

    for alone, shared in zip(batches(0), batches(workers), strict=True):
        assert torch.equal(alone.high, shared.high) and torch.equal(alone.low, shared.low)
        assert torch.equal(alone.labels, shared.labels)


def test_ranks_see_the_pairs_that_one_process_sees(faces):
    dataset = PairDataset(faces, OURS, 3)
    alone = dataset.__getitems__(list(itertools.islice(EpochSampler(24, 8, 0, 1, 3), 8)))
    ranks = [dataset.__getitems__(list(itertools.islice(EpochSampler(24, 4, r, 2, 3), 4))) for r in (0, 1)]
    assert torch.equal(alone.low, torch.cat([batch.low for batch in ranks]))
    assert torch.equal(alone.labels, torch.cat([batch.labels for batch in ranks]))


def test_a_batch_keeps_order_names_and_pixels(faces):
    dataset = PairDataset(faces, OURS, 1)
    pairs = [dataset[0, index] for index in (5, 2, 9)]
    batch = dataset.__getitems__([(0, index) for index in (5, 2, 9)])
    assert collate(batch) is batch
    assert len(batch) == 3 and batch.skipped == 0
    assert batch.labels.tolist() == [2, 1, 4] and batch.labels.dtype == torch.int64
    for view in ("high", "low"):
        images = getattr(batch, view)
        assert images.shape == (3, 3, 112, 112) and images.dtype == torch.uint8
        assert images.is_contiguous(memory_format=torch.channels_last)
        for row, pair in enumerate(pairs):
            np.testing.assert_array_equal(images[row].numpy().transpose(1, 2, 0), getattr(pair, view))


def test_concatenate_puts_originals_first(faces):
    dataset = PairDataset(faces, OURS, 1)
    batch = dataset.__getitems__([(0, 8), (0, 3)])
    images, labels = concatenate(batch)
    assert images.data_ptr() == batch.high.data_ptr(), "nothing is copied"
    assert images.shape == (4, 3, 112, 112) and images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images[:2], batch.high) and torch.equal(images[2:], batch.low)
    assert labels.tolist() == [4, 1, 4, 1]


def test_normalise():
    images = torch.tensor([0, 127, 128, 255], dtype=torch.uint8).repeat(3, 1).reshape(1, 3, 2, 2)
    normal = normalise(images)
    assert normal.dtype == torch.float32
    expected = (images.double() - 127.5) / 127.5
    assert torch.allclose(normal.double(), expected, rtol=0, atol=1e-7) and normal.min() == -1 and normal.max() == 1
    already = torch.full((1, 3, 2, 2), 255.0)
    assert normalise(already).max() == 1 and already.min() == 255, "the argument stays as it is"
    channels_last = torch.zeros(2, 3, 8, 8, dtype=torch.uint8).to(memory_format=torch.channels_last)
    assert normalise(channels_last).is_contiguous(memory_format=torch.channels_last)


def test_a_batch_moves_with_everything_it_has(faces):
    dataset = PairDataset(faces, OURS, 1)
    batch = dataclasses.replace(dataset.__getitems__([(0, 0)]), skipped=2)
    moved = batch.to("meta", non_blocking=True)
    assert {moved.high.device.type, moved.low.device.type, moved.labels.device.type} == {"meta"}
    assert moved.skipped == 2 and batch.high.device.type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs CUDA")
def test_a_pinned_batch_is_the_same(faces):
    batch = PairDataset(faces, OURS, 1).__getitems__([(0, 0)])
    pinned = batch.pin_memory()
    assert pinned.high.is_pinned() and pinned.low.is_pinned() and pinned.labels.is_pinned()
    assert torch.equal(pinned.low, batch.low) and pinned.low.is_contiguous(memory_format=torch.channels_last)


def test_pin_memory_pins_every_tensor(monkeypatch, faces):
    batch = dataclasses.replace(PairDataset(faces, OURS, 1).__getitems__([(0, 0)]), skipped=3)
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    moved = batch.pin_memory()
    assert moved.skipped == 3 and torch.equal(moved.low, batch.low) and torch.equal(moved.high, batch.high)
    assert {tensor.data_ptr() for tensor in pinned} == {
        tensor.data_ptr() for tensor in (batch.high, batch.labels, batch.strength)
    }
    pinned.clear()
    originals = PairDataset(faces, OURS, 1, degrade_on="device").__getitems__([(0, 0)]).pin_memory()
    assert len(pinned) == 4 and {id(t) for t in pinned} == {id(t) for t in originals.tensors()}


def test_views_that_do_not_lie_side_by_side_are_put_there(faces):
    batch = PairDataset(faces, OURS, 1).__getitems__([(0, 8), (0, 3)])
    apart = dataclasses.replace(batch, low=batch.low.clone())
    assert torch.equal(concatenate(apart)[0], concatenate(batch)[0])
    assert torch.equal(apart.to("cpu").low, batch.low)
    overlapping = dataclasses.replace(batch, low=batch.high)
    assert torch.equal(concatenate(overlapping)[0], torch.cat([batch.high, batch.high]))


def test_originals_for_the_device_come_with_the_same_params(faces):
    there, here = (PairDataset(faces, OURS, 7, degrade_on=where) for where in ("device", "cpu"))
    places = [(2, 5), (2, 1), (3, 5)]
    batch = there.__getitems__(places)
    assert batch.low is None and batch.labels.tolist() == [2, 0, 2]
    for row, (place, view) in enumerate(zip(places, ViewParams.unpack(batch.params).images(), strict=True)):
        image = batch.high[row].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(image, faces.images[place[1]])
        np.testing.assert_array_equal(apply(image, view, OURS), here[place].low)
        assert same(there[place], here[place])
    with pytest.raises(AssertionError, match="both_views"):
        concatenate(batch)
    assert PairDataset(faces, None, 7, degrade_on="device").__getitems__(places).params is None


def test_single_views_are_originals_mirrored_half_of_the_time(faces):
    dataset = PairDataset(faces, None, 1)
    mirrored = 0
    for epoch, index in itertools.product(range(10), range(len(faces))):
        pair = dataset[epoch, index]
        assert pair.low is None
        straight = np.array_equal(pair.high, faces.images[index])
        assert straight or np.array_equal(pair.high, faces.images[index][:, ::-1])
        mirrored += not straight
    assert 0.4 < mirrored / 240 < 0.6
    batch = dataset.__getitems__([(0, 5), (0, 2)])
    assert batch.low is None and batch.to("meta").low is None
    images, labels = concatenate(batch)
    assert images.shape == (2, 3, 112, 112) and images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, batch.high) and labels.tolist() == [2, 1]


def test_corrupt_images_raise_by_default():
    dataset = PairDataset(MemoryFaces(6, corrupt=(2,), unreadable=(4,)), OURS, 0)
    with pytest.raises(DataError, match="memory key 2: undecodable"):
        dataset[0, 2]
    with pytest.raises(DataError, match="memory key 4: wrong magic"):
        dataset[0, 4]


def test_skipping_takes_the_next_good_image_with_its_own_label():
    source = MemoryFaces(7, corrupt=(2, 6), unreadable=(3, 0))
    dataset = PairDataset(source, NOTHING, 0, on_corrupt="skip")
    for index, stand_in, skipped in ((1, 1, 0), (2, 4, 2), (3, 4, 1), (6, 1, 2), (0, 1, 1)):
        pair = dataset[5, index]
        assert pair.label == stand_in // 2 and pair.skipped == skipped
        for view in (pair.high, pair.low):
            assert any((corner == (stand_in, pair.label, 99)).all() for corner in (view[0, 0], view[0, -1]))
        assert same(pair, dataset[5, index])


@pytest.mark.parametrize("workers", [0, 2])
def test_the_number_skipped_reaches_the_main_process(workers):
    dataset = PairDataset(MemoryFaces(8, corrupt=(2,), unreadable=(3,)), OURS, 0, on_corrupt="skip")
    loader = DataLoader(dataset, 4, sampler=EpochSampler(8, 4, 0, 1, 0), collate_fn=collate, num_workers=workers)
    batches = list(loader)
    assert sum(batch.skipped for batch in batches) == 3
    assert concatenate(batches[0])[1].shape == (8,)


def test_an_error_in_a_worker_names_the_image():
    dataset = PairDataset(MemoryFaces(4, corrupt=(2,)), OURS, 0)
    loader = DataLoader(dataset, 4, sampler=EpochSampler(4, 4, 0, 1, 0), collate_fn=collate, num_workers=1)
    with pytest.raises(DataError, match="memory key 2: undecodable"):
        list(loader)


def test_a_source_without_one_good_image_ends_in_an_error():
    dataset = PairDataset(MemoryFaces(5, unreadable=tuple(range(5))), OURS, 0, on_corrupt="skip")
    with pytest.raises(DataError, match="5 images.*memory key 1: wrong magic"):
        dataset[0, 2]


@pytest.mark.parametrize(
    ("seed", "on_corrupt", "match"),
    [
        (-1, "error", r"seed is -1"),
        (2**64, "error", "seed is 18446744073709551616"),
        (0, "ignore", "on_corrupt is 'ignore'"),
    ],
)
def test_settings_out_of_range_are_named(faces, seed, on_corrupt, match):
    with pytest.raises(ConfigError, match=match):
        PairDataset(faces, OURS, seed, on_corrupt)


def test_unknown_degrade_on_is_refused(faces):
    with pytest.raises(ConfigError, match="degrade_on is 'gpu'"):
        PairDataset(faces, OURS, 0, degrade_on="gpu")


def test_real_faces_make_pairs_in_workers(lfw):
    source = FaceRecords(lfw / "train")
    dataset = PairDataset(source, OURS, 0)
    sampler = EpochSampler(len(source), 16, 0, 1, 0)
    sampler.set_epoch(0, sampler.steps_per_epoch - 2)
    loader = DataLoader(dataset, 16, sampler=sampler, collate_fn=collate, num_workers=2, worker_init_fn=worker_init)
    labels = source.labels()
    for batch, at in zip(loader, np.array(list(sampler)).reshape(-1, 16, 2), strict=True):
        assert batch.labels.tolist() == labels[at[:, 1]].tolist()
        high, low = (normalise(images) for images in (batch.high, batch.low))
        sharpness = [images.diff(dim=3).abs().mean() for images in (high, low)]
        assert sharpness[0] > 1.2 * sharpness[1]
