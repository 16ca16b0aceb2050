"""Features on disk: whole or not at all, and never those of something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ijb_sets import embeddings_of

from qgface_plugin.evaluation.feature_cache import FeatureCache
from qgface_plugin.models.embeddings import Embeddings
from qgface_plugin.utils.errors import DataError

FEATURES = embeddings_of(10)


def part(cache: FeatureCache, chunk: int) -> Embeddings:
    begin, end = cache.bounds(chunk)
    return Embeddings(FEATURES.original[begin:end], FEATURES.mirrored[begin:end])


def cache_of(folder: Path, **key: str) -> FeatureCache:
    return FeatureCache(folder, "ijbb", {"model": "a", **key}, count=10, chunk=4)


def test_filled_in_two_goes(tmp_path: Path) -> None:
    first = cache_of(tmp_path)
    assert first.chunks == 3 and first.missing() == [0, 1, 2] and not first.complete
    first.write(1, part(first, 1), {})
    again = cache_of(tmp_path)
    assert again.missing() == [0, 2]
    again.write(2, part(again, 2), {9: "9.jpg: undecodable"})
    again.write(0, part(again, 0), {})
    (again.folder / "original.npy.99.0123abcd.part").touch()  # of a kill
    again.finish()
    assert again.complete and again.missing() == []
    features, bad = cache_of(tmp_path).load()
    assert np.array_equal(features.original, FEATURES.original)
    assert np.array_equal(features.mirrored, FEATURES.mirrored)
    assert bad == {9: "9.jpg: undecodable"}
    assert sorted(path.name for path in again.folder.iterdir()) == ["complete.json", "mirrored.npy", "original.npy"]
    again.finish()  # changes nothing


def test_loaded_features_are_copied_on_write(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, "x", {}, count=10, chunk=10)
    cache.write(0, FEATURES, {})
    cache.finish()
    cache.load()[0].original[:] = 0
    assert np.array_equal(cache.load()[0].original, FEATURES.original)


def test_another_key_is_another_folder(tmp_path: Path) -> None:
    folders = {cache_of(tmp_path).folder, cache_of(tmp_path, model="b").folder, cache_of(tmp_path, data="c").folder}
    folders.add(FeatureCache(tmp_path, "ijbb", {"model": "a"}, count=11, chunk=4).folder)
    assert len(folders) == 4 and cache_of(tmp_path).folder in folders


def test_damaged(tmp_path: Path) -> None:
    cache = cache_of(tmp_path)
    for chunk in range(2):
        cache.write(chunk, part(cache, chunk), {})
    with pytest.raises(DataError, match="chunk_000002.npz: absent"):
        cache.finish()
    cache.write(2, part(cache, 1), {})
    with pytest.raises(DataError, match="chunk_000002.npz: not of 2 images"):
        cache.finish()
    (cache.folder / "chunk_000002.npz").write_bytes(b"PK\3\4 cut short")
    with pytest.raises(DataError, match="chunk_000002.npz: damaged"):
        cache.finish()
    with pytest.raises(DataError, match="not a complete cache of features"):
        cache.load()
    cache.write(2, part(cache, 2), {})
    cache.finish()
    np.save(cache.folder / "original.npy", FEATURES.original[:5])
    with pytest.raises(DataError, match="not of 10 images"):
        cache.load()
