"""Reading SCface: what is taken, and every difference from the protocol counted and named."""

from __future__ import annotations

import pytest
from identification_sets import write_face, write_scface

from qgface_plugin.evaluation.protocols.scface_files import read_scface
from qgface_plugin.utils.errors import DataError


def test_a_small_set(tmp_path):
    found = read_scface(write_scface(tmp_path, subjects=2))
    assert [path.name for path in found.gallery] == ["001_frontal.jpg", "002_frontal.jpg"]
    assert found.gallery_ids.tolist() == [1, 2] and len(found.probes) == 30
    for path, who, camera, distance in zip(
        found.probes, found.probe_ids, found.cameras, found.distances, strict=True
    ):  # fmt: skip
        assert path.name == f"{who:03d}_cam{camera}_{distance}.jpg"
    assert found.inventory.counts["subjects"] == {"protocol": 130, "here": 2}
    assert found.inventory.warnings == [
        "subjects: 130 in the protocol, 2 here",
        "gallery images: 130 in the protocol, 2 here",
        "probes at d1: 650 in the protocol, 10 here",
        "probes at d2: 650 in the protocol, 10 here",
        "probes at d3: 650 in the protocol, 10 here",
    ]


def test_the_whole_protocol_has_nothing_to_say(tmp_path):
    (tmp_path / "aligned").mkdir()
    for subject in range(1, 131):
        for kind in ["frontal", *(f"cam{c}_{d}" for c in range(1, 6) for d in range(1, 4))]:
            (tmp_path / "aligned" / f"{subject:03d}_{kind}.jpg").touch()
    found = read_scface(tmp_path)
    assert found.inventory.warnings == [] and len(found.probes) == 1950 and len(found.gallery) == 130


def test_without_a_list_and_in_the_folder_itself(tmp_path):
    write_scface(tmp_path, subjects=1, listing=False)
    assert len(read_scface(tmp_path).probes) == len(read_scface(tmp_path / "aligned").probes) == 15


def test_every_difference_is_named(tmp_path):
    root = write_scface(tmp_path, subjects=3)
    (root / "aligned" / "001_cam2_3.jpg").unlink()  # in the list, not there
    (root / "aligned" / "003_frontal.jpg").unlink()
    write_face(root / "aligned" / "004_frontal.jpg", 4, 0)  # there, not in the list
    write_face(root / "aligned" / "001_cam6_1.jpg", 1, 0)  # infrared
    write_face(root / "aligned" / "001_L1.jpg", 1, 0)  # a rotated mugshot
    found = read_scface(root)
    assert found.inventory.names == {
        "surplus": ["004_frontal"],
        "missing": ["001_cam2_3", "003_frontal"],
        "unknown": ["001_L1"],
        "missing probes": ["001_cam2_3"],
        "no frontal image": ["003"],
    }
    for sentence in (
        "1 images that are not in all.txt are left out: 004_frontal",
        "2 images of all.txt are not in aligned/: 001_cam2_3, 003_frontal",
        "1 names are none of the protocol's and are left out: 001_L1",
        "1 subjects have no frontal image, so the rates are without them: 003",
        "probes at d3: 650 in the protocol, 14 here",
    ):
        assert sentence in found.inventory.warnings
    assert found.inventory.counts["infrared, left out"] == {"protocol": 0, "here": 1}
    assert len(found.gallery) == 2 and len(found.probes) == 44


def test_many_names_are_shortened_in_the_warning_only(tmp_path):
    root = write_scface(tmp_path, subjects=2)
    for path in (root / "aligned").glob("002_cam?_1.jpg"):
        path.unlink()
    for path in (root / "aligned").glob("002_cam?_2.jpg"):
        path.unlink()
    found = read_scface(root)
    sentence = next(w for w in found.inventory.warnings if w.startswith("10 camera images"))
    assert sentence.endswith("002_cam4_2 and 2 more") and len(found.inventory.names["missing probes"]) == 10


def test_chosen_subjects(tmp_path):
    root = write_scface(tmp_path / "set", subjects=3)
    (tmp_path / "test.txt").write_text("# to test on\n001\n3\n\n7  # not in the set\n")
    found = read_scface(root, tmp_path / "test.txt")
    assert found.gallery_ids.tolist() == [1, 3] and set(found.probe_ids.tolist()) == {1, 3}
    assert found.inventory.counts["subjects"] == {"protocol": 3, "here": 2}
    assert "1 subjects of the subjects file have no image: 007" in found.inventory.warnings
    assert found.inventory.names["surplus"] == []


@pytest.mark.parametrize("write", ["{}\t0\r\n", "{}.JPG   1\n", "aligned\\{}.jpg\r\n", '"{}.jpg"\t"1"\n'])
def test_lists_as_other_programs_write_them(tmp_path, write):
    root = write_scface(tmp_path / "set", subjects=2)
    names = sorted(path.stem for path in (root / "aligned").iterdir())
    text = "\ufeff" + "".join(write.format(name) for name in names)
    (root / "all.txt").write_bytes(text.encode())
    (tmp_path / "test.txt").write_bytes("\ufeff001\r\n2.0  # the second\r\n".encode())
    found = read_scface(root, tmp_path / "test.txt")
    assert found.gallery_ids.tolist() == [1, 2] and len(found.probes) == 30
    assert found.inventory.names["missing"] == [] == found.inventory.names["surplus"]


def test_a_number_that_no_subject_has(tmp_path):
    root = write_scface(tmp_path / "set", subjects=1)
    names = [*sorted(path.stem for path in (root / "aligned").iterdir()), "9" * 5000 + "_frontal"]
    (root / "all.txt").write_text("\n".join(names))
    assert read_scface(root).inventory.names["unknown"] == [names[-1]]


@pytest.mark.parametrize("text", ["", "one\n", "1 2\n", "-4\n", "1\n" + "9" * 5000, "nan\n", "1e300\n", "1\0\n"])
def test_a_subjects_file_of_something_else(tmp_path, text):
    root = write_scface(tmp_path / "set", subjects=1)
    (tmp_path / "test.txt").write_text(text)
    with pytest.raises(DataError, match="test.txt(: one subject| line 1: a NUL byte)"):
        read_scface(root, tmp_path / "test.txt")


def test_what_cannot_be_evaluated(tmp_path):
    with pytest.raises(DataError, match="absent: no such folder"):
        read_scface(tmp_path / "absent")
    with pytest.raises(DataError, match="0 frontal images and 0 of the cameras"):
        read_scface(tmp_path)
    root = write_scface(tmp_path / "set", subjects=1)
    with pytest.raises(DataError, match="the list cannot be read"):
        read_scface(root, tmp_path / "absent.txt")
    (root / "all.txt").write_text("001_frontal\n001_cam1_1.jpg\n001_frontal\n")
    with pytest.raises(DataError, match="all.txt line 3: 001_frontal is listed twice"):
        read_scface(root)


@pytest.mark.parametrize("twin", ["001_frontal.png", "1_frontal.jpg"])
def test_one_image_in_two_files(tmp_path, twin):
    root = write_scface(tmp_path, subjects=1, listing=False)
    (root / "aligned" / twin).write_bytes((root / "aligned" / "001_frontal.jpg").read_bytes())
    with pytest.raises(DataError, match="are one image in two files"):
        read_scface(root)


def as_distributed(folder):
    """Move aligned images into the sub-folders in which SCface is distributed."""
    for path in list(folder.glob("*.jpg")):
        subject, _, kind = path.stem.partition("_")
        camera, _, distance = kind.partition("_")
        place = "mugshot_frontal_cropped_all"
        if distance:
            place = f"surveillance_cameras_distance_{distance}/cam_{camera.removeprefix('cam')}"
        (folder / place).mkdir(parents=True, exist_ok=True)
        path.rename(folder / place / path.name)


@pytest.mark.parametrize("place", ["", "aligned"])
def test_the_folders_in_which_scface_is_distributed(tmp_path, place):
    root = write_scface(tmp_path / "set", subjects=2)
    flat = read_scface(root)
    as_distributed(root / "aligned")
    found = read_scface(root / place)
    assert [path.name for path in found.gallery] == [path.name for path in flat.gallery]
    assert [path.name for path in found.probes] == [path.name for path in flat.probes]
    assert found.gallery[0].parent.name == "mugshot_frontal_cropped_all" and found.gallery[0].is_file()
    assert (found.cameras == flat.cameras).all() and (found.distances == flat.distances).all()
    assert found.inventory.warnings == flat.inventory.warnings


def test_one_image_in_two_sub_folders(tmp_path):
    root = write_scface(tmp_path, subjects=1, listing=False)
    as_distributed(root / "aligned")
    first = root / "aligned" / "surveillance_cameras_distance_2" / "cam_3" / "001_cam3_2.jpg"
    second = root / "aligned" / "surveillance_cameras_all" / "001_cam3_2.jpg"
    second.parent.mkdir()
    for twin in (second, second.with_name("1_cam3_2.png")):
        twin.write_bytes(first.read_bytes())
        with pytest.raises(DataError, match="are one image in two files") as error:
            read_scface(root)
        assert str(first) in str(error.value) and str(twin) in str(error.value)
        twin.unlink()
    for place in (first, second):  # no image of the protocol
        (place.parent / "contact.jpg").write_bytes(first.read_bytes())
    assert read_scface(root).inventory.names["unknown"] == ["contact"]


def test_images_beside_sub_folders_are_taken_and_said(tmp_path):
    root = write_scface(tmp_path, subjects=1, listing=False)
    (root / "aligned" / "bad").mkdir()
    (root / "aligned" / "001_cam1_1.jpg").rename(root / "aligned" / "bad" / "001_cam1_1.jpg")
    found = read_scface(root)
    assert len(found.probes) == 15
    assert "1 images lie in sub-folders of aligned/, others in it itself; all are taken: bad/001_cam1_1.jpg" in (
        found.inventory.warnings
    )
