"""Features of a set of image files: computed once, gone on with, shared among ranks; bad images counted and named."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from ijb_sets import FlatModel, write_set

from qgface_plugin.evaluation.feature_cache import FeatureCache
from qgface_plugin.evaluation.protocols.ijb.features import extract, feature_cache
from qgface_plugin.evaluation.protocols.ijb.images import load_faces
from qgface_plugin.evaluation.protocols.ijb.metadata import IjbImages, read_images
from qgface_plugin.models.embeddings import Embeddings
from qgface_plugin.utils import distributed
from qgface_plugin.utils.errors import ConfigError, DataError

IMAGES = 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_set(tmp_path / "set", IMAGES)


def cache_in(folder: Path) -> FeatureCache:
    return FeatureCache(folder / "features", "ijbb", {}, IMAGES, chunk=5)


def expected(images: IjbImages) -> Embeddings:
    faces, _ = load_faces(images, 0, IMAGES, ThreadPoolExecutor(1))
    return FlatModel().embed(faces)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_interrupted_and_gone_on_with(folder: Path, batch_size: int) -> None:
    images = read_images(folder, "IJBB")
    with pytest.raises(KeyboardInterrupt):
        extract(FlatModel(fail_after=7), images, cache_in(folder), batch_size)
    assert cache_in(folder).missing() == [1, 2]
    model = FlatModel()
    features, bad = extract(model, images, cache_in(folder), batch_size)
    assert model.seen == 7 and not bad
    whole = expected(images)
    assert np.array_equal(features.original, whole.original) and np.array_equal(features.mirrored, whole.mirrored)
    once_more = FlatModel()
    assert np.array_equal(extract(once_more, images, cache_in(folder))[0].original, whole.original)
    assert once_more.seen == 0


def test_missing_images(folder: Path) -> None:
    for name in ("3.jpg", "8.jpg"):
        (folder / "loose_crop" / name).unlink()
    images, model = read_images(folder, "IJBB"), FlatModel()
    with pytest.raises(
        DataError, match=r"2 of 12 images cannot be used: .*3.jpg: no such file; .*8.jpg.*--on-corrupt skip"
    ):
        extract(model, images, cache_in(folder))
    assert model.seen == 0
    features, bad = extract(model, images, cache_in(folder), on_corrupt="skip")
    assert list(bad) == [2, 7] and not features.original[[2, 7]].any() and features.original[3].any()
    with pytest.raises(DataError, match="2 of 12 images cannot be used"):
        extract(model, images, cache_in(folder))


def test_undecodable_image(folder: Path) -> None:
    (folder / "loose_crop" / "9.jpg").write_bytes(b"?")
    with pytest.raises(DataError, match="1 of 12 images cannot be used: .*9.jpg: undecodable image of 1 bytes"):
        extract(FlatModel(), read_images(folder, "IJBB"), cache_in(folder))


def test_on_corrupt(folder: Path) -> None:
    with pytest.raises(ConfigError, match="on_corrupt is 'ignore': .*error, skip"):
        extract(FlatModel(), read_images(folder, "IJBB"), cache_in(folder), on_corrupt="ignore")


def test_the_cache_belongs_to_model_and_images(folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.pt"
    folders = set()
    for content, color, name in ((b"a", "rgb", None), (b"b", "rgb", None), (b"b", "bgr", None), (b"b", "bgr", "4.jpg")):
        model.write_bytes(content)
        if name:
            (folder / "loose_crop" / name).write_bytes((folder / "loose_crop" / "5.jpg").read_bytes())
        images = read_images(folder, "IJBB")
        folders.add(feature_cache(tmp_path, images, str(model), "mbf", color).folder)
        assert feature_cache(tmp_path, images, str(model), "mbf", color).folder in folders
    assert len(folders) == 4


def rank_main(rank: int, folder: Path, rendezvous: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    model = FlatModel()
    features, _ = extract(model, read_images(folder, "IJBB"), cache_in(folder), 4)
    np.savez(folder / f"rank{rank}.npz", seen=model.seen, original=features.original)
    distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_ranks(folder: Path) -> None:
    mp.spawn(rank_main, (folder, f"file://{folder}/rendezvous"), nprocs=2)
    whole = expected(read_images(folder, "IJBB"))
    results = [np.load(folder / f"rank{rank}.npz") for rank in range(2)]
    assert [int(result["seen"]) for result in results] == [7, 5]  # chunks of 5, 5 and 2 images: two and one
    for result in results:
        assert np.array_equal(result["original"], whole.original)


def test_landmarks_of_another_order_are_refused_and_a_few_bad_ones_warned_of(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = read_images(folder, "IJBB")
    extract(FlatModel(), images, cache_in(folder))
    assert not caplog.records
    whole = images.landmarks.copy()
    images.landmarks[3] = whole[3] * [-1, 1]
    extract(FlatModel(), images, cache_in(folder))
    assert "IJBB: the landmarks of 1 of 12 images fit the template badly, the first 4.jpg (2" in caplog.text
    images.landmarks[:] = whole.transpose(0, 2, 1).reshape(-1, 5, 2)
    with pytest.raises(DataError, match="IJBB's landmarks: .* as five x before five y"):
        extract(FlatModel(), images, cache_in(folder))


def test_images_without_an_end_marker_are_used_and_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = read_images(folder, "IJBB")
    whole = expected(images)
    path = folder / "loose_crop" / images.names[2]
    path.write_bytes(path.read_bytes()[:-2])
    features, bad = extract(FlatModel(), images, cache_in(folder))
    assert not bad and np.array_equal(features.original, whole.original)
    assert [record.message for record in caplog.records] == [
        "IJBB: 1 JPEG carries surplus bytes or lacks its end marker; no pixel is missing, it is used"
    ]
