"""Reading TinyFace: the two .mat files decide, and every difference is counted and named."""

from __future__ import annotations

import shutil

import pytest
from identification_sets import write_face, write_tinyface

from qgface_plugin.evaluation.protocols.tinyface_files import read_tinyface
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
    with pytest.raises(DataError, match="no folder with Probe, Gallery_Match, Gallery_Distractor .* --aligned"):
        read_tinyface(root)
    assert len(read_tinyface(root, "mine").probes) == len(read_tinyface(root, root / "mine").probes) == 6
    shutil.move(root / "tinyface" / "Testing_Set", root / "Testing_Set")
    assert len(read_tinyface(root, "mine").probes) == 6
    for mat in (root / "Testing_Set").glob("*.mat"):
        shutil.move(mat, root / "mine" / mat.name)
    assert len(read_tinyface(root / "mine").probes) == 6
    with pytest.raises(DataError, match="probe_img_ID_pairs.mat and gallery_match_img_ID_pairs.mat are not in it"):
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
