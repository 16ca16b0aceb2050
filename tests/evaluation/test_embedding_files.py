"""Files of embeddings: every format gives back the same numbers, any name, and nothing else is written over."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from qgface_plugin.evaluation.embedding_files import KINDS, format_of, read_embeddings, write_embeddings
from qgface_plugin.models.photographs import PhotoEmbeddings
from qgface_plugin.utils.errors import ConfigError, DataError
from qgface_plugin.utils.outputs import check_output

NAMES = ("Ann/1.jpg", 'a "b", c.jpg', os.fsdecode(b"Jos\xe9.jpg"))
ROWS = np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32)
FOUND = PhotoEmbeddings(NAMES, ROWS, ROWS[:, 0] ** 2, np.array([1, 3, 1]), {}, np.array([0.0, 62.25, 100]))
SETTINGS = {"flip_fusion": True, "model_sha256": "ab"}


def test_npz(tmp_path: Path) -> None:
    write_embeddings(tmp_path / "a.npz", FOUND, SETTINGS)
    found, settings = read_embeddings(tmp_path / "a.npz")
    assert found.paths == NAMES and settings == SETTINGS
    for name in ("embeddings", "norms", "faces", "quality"):
        np.testing.assert_array_equal(getattr(found, name), getattr(FOUND, name))
    with np.load(tmp_path / "a.npz") as arrays:  # without this package, and without pickles
        assert arrays["paths"][0] == "Ann/1.jpg"
    (tmp_path / "b.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"b\.npz"):
        read_embeddings(tmp_path / "b.npz")


def test_csv(tmp_path: Path) -> None:
    write_embeddings(tmp_path / "a.csv", FOUND, SETTINGS)
    with open(tmp_path / "a.csv", errors="surrogateescape", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["path", "faces", "norm", "quality", *(f"e{i}" for i in range(7))]
    assert tuple(row[0] for row in rows) == NAMES and rows[1][3] == "62.25"
    np.testing.assert_array_equal(np.array([row[4:] for row in rows], dtype=np.float32), ROWS)


def test_parquet(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_embeddings(tmp_path / "a.parquet", FOUND, SETTINGS)
    table = parquet.read_table(tmp_path / "a.parquet")
    np.testing.assert_array_equal(np.array(table["embedding"].to_pylist(), dtype=np.float32), ROWS)
    assert table["path"].to_pylist()[:2] == list(NAMES[:2]) and table["quality"].to_pylist() == [0.0, 62.25, 100]
    assert json.loads(table.schema.metadata[b"qgface_embeddings"]) == SETTINGS


@pytest.mark.parametrize("kind", KINDS)
def test_its_own_file_is_written_over_and_others_are_not(tmp_path: Path, kind: str) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"a.{kind}"
    write_embeddings(path, FOUND, SETTINGS)
    check_output(path, KINDS[kind])
    path.write_bytes(b"PAR1 something else")
    with pytest.raises(ConfigError, match="no file of embeddings"):
        check_output(path, KINDS[kind])


def test_formats() -> None:
    assert (format_of("a.CSV"), format_of("x/a.npz", "npz")) == ("csv", "npz")
    for output, given in (("a.txt", None), ("a", None), ("a.npz", "csv")):
        with pytest.raises(ConfigError, match="ends in"):
            format_of(output, given)
