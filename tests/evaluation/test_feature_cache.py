"""Features on disk: whole or not at all, and never those of something else."""

from __future__ import annotations

import json
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


def complete(folder: Path) -> FeatureCache:
    cache = cache_of(folder)
    for chunk in range(cache.chunks):
        cache.write(chunk, part(cache, chunk), {9: "9.jpg: undecodable"} if chunk == 2 else {})
    cache.finish()
    return cache


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_feature_that_is_not_finite(tmp_path: Path, value: float) -> None:
    cache = complete(tmp_path)
    array = np.load(cache.folder / "mirrored.npy")
    array[7, 3] = value
    np.save(cache.folder / "mirrored.npy", array)
    with pytest.raises(DataError, match="mirrored.npy: feature 7 is not finite"):
        cache.load()
    broken = cache_of(tmp_path / "chunks")
    features = part(broken, 1)
    features.original[2, 0] = value
    broken.write(1, Embeddings(features.original.copy(), features.mirrored), {})
    for chunk in (0, 2):
        broken.write(chunk, part(broken, chunk), {})
    features.original[2, 0] = 0.5
    with pytest.raises(DataError, match="chunk_000001.npz: feature 6 is not finite"):
        broken.finish()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("{", "not JSON"),
        ('{"key": {}, "bad": {}}', "of other features"),
        (None, "its bad images are"),
    ],
)
def test_a_damaged_record_of_what_is_complete(tmp_path: Path, said: str | None, message: str) -> None:
    cache = complete(tmp_path)
    for bad in ([], {"10": "x"}, {"-1": "x"}, {"1": 2}, {"x": "y"}, {"9" * 5000: "x"}) if said is None else [{}]:
        text = said if said is not None else json.dumps({"key": cache.key, "bad": bad})
        (cache.folder / "complete.json").write_text(text)
        with pytest.raises(DataError, match=message):
            cache.load()


def test_other_arrays_than_features(tmp_path: Path) -> None:
    cache = complete(tmp_path)
    whole = (cache.folder / "original.npy").read_bytes()
    for content in (
        b"",
        whole[:60],
        whole[:-4],
        whole + b"\0",
        whole.replace(b"<f4", b"<f8"),
        b"\x93NUMPY" + b"(" * 9000,
    ):
        (cache.folder / "original.npy").write_bytes(content)
        with pytest.raises(DataError, match="original.npy"):
            cache.load()
    for array in (
        FEATURES.original.astype(np.float64),
        FEATURES.original.ravel(),
        np.asfortranarray(FEATURES.original),
    ):
        np.save(cache.folder / "original.npy", array)
        with pytest.raises(DataError, match="original.npy"):
            cache.load()
    np.save(cache.folder / "original.npy", FEATURES.original[:, :3])
    with pytest.raises(DataError, match=r"features \(10, 3\) and"):
        cache.load()


def test_a_chunk_that_expands(tmp_path: Path) -> None:
    cache = cache_of(tmp_path)
    for chunk in range(cache.chunks):
        cache.write(chunk, part(cache, chunk), {})
    features = part(cache, 1)
    np.savez_compressed(
        cache.folder / "chunk_000001.npz", original=features.original, mirrored=features.mirrored, bad=np.array("{}")
    )
    with pytest.raises(DataError, match="chunk_000001.npz: original.npy is compressed"):
        cache.finish()
