"""Reading TinyFace: the two .mat files decide, and every difference is counted and named."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from identification_sets import cells, write_face, write_tinyface
from scipy.io import savemat

from qgface_plugin.evaluation.protocols.inventory import Inventory
from qgface_plugin.evaluation.protocols.tinyface_files import read_identities, read_tinyface
from qgface_plugin.utils.errors import DataError


@pytest.fixture
def root(tmp_path):
    return write_tinyface(tmp_path / "set", people=3, distractors=4)


def test_a_small_set(root):
    found = read_tinyface(root)
    assert [path.name for path in found.probes] == ["1_3.jpg", "1_4.jpg", "2_3.jpg", "2_4.jpg", "3_3.jpg", "3_4.jpg"]
    assert found.probe_ids.tolist() == found.match_ids.tolist() == [1, 1, 2, 2, 3, 3]
    assert [path.name for path in found.matches][:2] == ["1_1.jpg", "1_2.jpg"]
    assert [path.name for path in found.distractors] == ["d_0.jpg", "d_1.jpg", "d_2.jpg", "d_3.jpg"]
    assert {path.parents[1].name for path in found.probes + found.distractors} == {"aligned_pad_0.1_pad_high"}
    assert found.inventory.warnings == [
        "probes: 3,728 in the protocol, 6 here",
        "gallery matches: 4,443 in the protocol, 6 here",
        "distractors: 153,428 in the protocol, 4 here",
    ]


def test_every_difference_is_named(root):
    aligned = root / "aligned_pad_0.1_pad_high"
    for name in ("Probe/1_3.jpg", "Gallery_Match/2_1.jpg", "Gallery_Match/2_2.jpg", "Gallery_Distractor/d_1.jpg"):
        (aligned / name).unlink()
    write_face(aligned / "Probe" / "9_9.jpg", 9, 9)
    write_face(aligned / "Gallery_Distractor" / "d_99.jpg", 99, 9)
    found = read_tinyface(root)
    original = root / "tinyface" / "Testing_Set" / "Gallery_Distractor"
    names = {key: value for key, value in found.inventory.names.items() if value}
    assert names == {
        "Probe missing": ["1_3"],
        "Probe surplus": ["9_9"],
        "Gallery_Match missing": ["2_1", "2_2"],
        "Gallery_Distractor missing": ["d_1"],
        "Gallery_Distractor surplus": ["d_99"],
        "probes without a mate": ["2_3.jpg", "2_4.jpg"],
    }
    for sentence in (
        "1 images of probe_img_ID_pairs.mat have no aligned image in Probe/: 1_3",
        "1 images of Probe/ are not in probe_img_ID_pairs.mat and are left out: 9_9",
        "2 probes show nobody of the gallery, so the rates are without them: 2_3.jpg, 2_4.jpg",
        "distractors: 153,428 in the protocol, 4 here",
        f"1 images of Gallery_Distractor/ are not in {original} and are searched all the same: d_99",
    ):
        assert sentence in found.inventory.warnings
    assert len(found.probes) == 5 and len(found.matches) == 4 and len(found.distractors) == 4


def test_without_the_original_images(root):
    """Only the two .mat files and aligned images: nothing to compare the distractors' names with."""
    for part in ("Probe", "Gallery_Match", "Gallery_Distractor"):
        shutil.rmtree(root / "tinyface" / "Testing_Set" / part)
    assert len(read_tinyface(root).distractors) == 4


def test_another_suffix_after_alignment(root):
    aligned = root / "aligned_pad_0.1_pad_high"
    (aligned / "Probe" / "1_3.jpg").rename(aligned / "Probe" / "1_3.png")
    assert read_tinyface(root).probes[0].name == "1_3.png"


def test_other_places(root, tmp_path):
    shutil.move(root / "aligned_pad_0.1_pad_high", root / "mine")
    with pytest.raises(DataError, match="Probe, Gallery_Match, Gallery_Distractor .*--aligned"):
        read_tinyface(root)
    assert len(read_tinyface(root, "mine").probes) == len(read_tinyface(root, root / "mine").probes) == 6
    shutil.move(root / "tinyface" / "Testing_Set", root / "Testing_Set")
    assert len(read_tinyface(root, "mine").probes) == 6
    for mat in (root / "Testing_Set").glob("*.mat"):
        shutil.move(mat, root / "mine" / mat.name)
    assert len(read_tinyface(root / "mine").probes) == 6
    with pytest.raises(DataError, match="probe_img_ID_pairs.mat and gallery_match_img_ID_pairs.mat"):
        read_tinyface(root, "mine")


def test_nothing_of_the_list(root):
    for path in (root / "aligned_pad_0.1_pad_high" / "Probe").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="Probe: none of the 6 images of probe_img_ID_pairs.mat is in it"):
        read_tinyface(root)


def test_one_image_in_two_files(root):
    folder = root / "aligned_pad_0.1_pad_high" / "Gallery_Distractor"
    shutil.copy(folder / "d_0.jpg", folder / "d_0.jpeg")
    with pytest.raises(DataError, match="are one image in two files"):
        read_tinyface(root)


def test_aligned_copies_in_sub_folders(root):
    flat = read_tinyface(root)
    folder = root / "aligned_pad_0.1_pad_high" / "Gallery_Distractor"
    for number, path in enumerate(sorted(folder.iterdir())):
        (folder / f"part{number % 2}" / "deeper").mkdir(parents=True, exist_ok=True)
        path.rename(folder / f"part{number % 2}" / "deeper" / path.name)
    found = read_tinyface(root)
    assert [path.name for path in found.distractors] == [path.name for path in flat.distractors]
    shutil.copy(folder / "part0" / "deeper" / "d_0.jpg", folder / "part1" / "d_0.jpg")
    with pytest.raises(DataError, match="part0/deeper/d_0.jpg and .*part1/d_0.jpg are one image in two files"):
        read_tinyface(root)


# --- TinyFace's .mat files in the forms that MATLAB and SciPy write, and damaged ones ---------------------------------


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
        ({"probe_set": {"x": 1}, "probe_ids": np.array([1])}, "x.mat: .*probe_set: a struct; .* text and cells"),
        ({"probe_set": cells(["a"]), "probe_ids": np.array([1e300])}, r"an identity of 1e\+300 in probe_ids"),
        ({"probe_set": cells(["a"]), "probe_ids": np.array([2**64 - 1], dtype=np.uint64)}, "at most 9007199254740991"),
        ({"probe_set": cells(["a"]), "probe_ids": np.array([np.inf])}, "an identity of inf"),
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
    with pytest.raises(DataError, match="x.mat"):
        read_identities(tmp_path / "x.mat", "probe_set", "probe_ids", Inventory())
