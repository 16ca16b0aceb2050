"""TinyFace's .mat files in the forms that MATLAB and SciPy write, and damaged ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from identification_sets import cells
from scipy.io import savemat

from qgface_plugin.evaluation.protocols.counts import Inventory
from qgface_plugin.evaluation.protocols.tinyface_mat import read_identities
from qgface_plugin.utils.errors import DataError


def read(path: Path, **variables) -> tuple[dict[str, int], Inventory]:
    savemat(path, variables)
    inventory = Inventory()
    return read_identities(path, "probe_set", "probe_ids", inventory), inventory


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (cells(["1_1.jpg", "12_3.jpg"]), np.array([[1], [12]])),
        (cells([cells(["1_1.jpg"]), cells(["12_3.jpg"])]), np.array([[1.0], [12.0]])),  # cells of cells
        (np.array(["1_1.jpg", "12_3.jpg"]), np.array([1, 12])),  # a matrix of characters, padded with blanks
        (cells(["Probe/1_1.jpg", "Probe\\12_3.png"]), np.array([[1, 12]])),
        (cells(["1_1", "12_3"]), np.array([[1], [12]], dtype=np.uint16)),
    ],
)
def test_names_and_identities(tmp_path, names, ids):
    found, inventory = read(tmp_path / "x.mat", probe_set=names, probe_ids=ids)
    assert found == {"1_1": 1, "12_3": 12} and inventory.warnings == []


def test_what_contradicts_is_named(tmp_path):
    found, inventory = read(
        tmp_path / "x.mat", probe_set=cells(["1_1.jpg", "2_1.jpg", "1_1.jpg"]), probe_ids=np.array([1, 3, 1])
    )
    assert found == {"1_1": 1, "2_1": 3}
    assert inventory.warnings == [
        "1 names are repeated in x.mat and count once: 1_1",
        "1 names begin with another identity than x.mat gives, which counts: 2_1",
    ]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"probe_set": cells(["a"]), "other": np.array([1])}, "no variable probe_ids in it"),
        ({"probe_set": cells(["a", "b"]), "probe_ids": np.array([1])}, "2 names for 1 identities"),
        ({"probe_set": np.zeros((2, 1)), "probe_ids": np.array([1, 2])}, "its names are float64, not text"),
        ({"probe_set": cells(["a", np.zeros(2)]), "probe_ids": np.array([1, 2])}, "its names are float64, not text"),
        ({"probe_set": cells(["a"]), "probe_ids": np.array([1.5])}, r"probe_ids \(float64\) are not all identities"),
        ({"probe_set": cells(["a"]), "probe_ids": np.array([np.nan])}, "are not all identities"),
        ({"probe_set": cells(["a"]), "probe_ids": np.array([-1])}, "are not all identities"),
        ({"probe_set": cells(["a", "a"]), "probe_ids": np.array([1, 2])}, "a has two identities, 1 and 2"),
        ({"probe_set": {"x": 1}, "probe_ids": np.array([1])}, "its names are"),
    ],
)
def test_other_contents(tmp_path, variables, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path / "x.mat", **variables)


def test_damaged_files(tmp_path):
    """Cut short anywhere, or with bytes turned round: an error that names the file, or some names, no crash."""
    path = tmp_path / "x.mat"
    names = [f"{n}_1.jpg" for n in range(20)]
    expected, _ = read(path, probe_set=cells(names), probe_ids=np.arange(20))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(60):
        damaged = bytearray(whole[: rng.integers(len(whole))] if trial % 2 else whole)
        for _ in range(0 if trial % 2 else 3):
            damaged[rng.integers(128, len(damaged))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            found = read_identities(path, "probe_set", "probe_ids", Inventory())
        except DataError as error:
            refused += 1
            assert "x.mat" in str(error)
        else:
            assert len(found) <= len(expected)
    assert refused > 20


def test_absent(tmp_path):
    with pytest.raises(DataError, match="x.mat: the .mat file cannot be read"):
        read_identities(tmp_path / "x.mat", "probe_set", "probe_ids", Inventory())
