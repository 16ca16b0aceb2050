"""Listing of folders: what systems leave is nobody's data, wherever a folder is listed."""

from __future__ import annotations

from pathlib import Path

import pytest
from photographs import jpeg, save

from qgface_plugin.data.bin_files import write_bin
from qgface_plugin.data.image_files import list_photos
from qgface_plugin.data.packing.detector import _model_files
from qgface_plugin.data.packing.faces import list_faces
from qgface_plugin.data.packing.inspection import data_found
from qgface_plugin.data.recordio import RecordWriter
from qgface_plugin.data.recordio.identities import write_faces
from qgface_plugin.data.sources.folder import FaceFolder
from qgface_plugin.data.sources.records import FaceRecords, record_files
from qgface_plugin.evaluation.protocols.aligned_files import images_by_name
from qgface_plugin.evaluation.protocols.pair_sets import find_pair_sets
from qgface_plugin.evaluation.report.results import read_results, write_result
from qgface_plugin.experiments.evaluations import find_evaluations
from qgface_plugin.utils.errors import DataError
from qgface_plugin.utils.listing import entries_in, files_in, is_left_behind, unpacked, walk

APPLE_DOUBLE = b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(50)
LEFT = (
    "._a.jpg",
    ".DS_Store",
    "Thumbs.db",
    "desktop.ini",
    "Desktop.ini",
    "__MACOSX",
    "@eaDir",
    "$RECYCLE.BIN",
    "#recycle",
)


@pytest.mark.parametrize("name", LEFT)
def test_what_systems_leave(name: str) -> None:
    assert is_left_behind(name)


@pytest.mark.parametrize("name", ["a.jpg", "_a.jpg", "MACOSX", "eaDir", "thumbs.db.jpg", "desktop", "recycle"])
def test_what_people_have(name: str) -> None:
    assert not is_left_behind(name)


def test_entries_files_and_walk(tmp_path: Path) -> None:
    for name in (
        "b.JPG",
        "a.jpg",
        "a.txt",
        "sub/c.jpg",
        "__MACOSX/._d.jpg",
        "sub/@eaDir/e.jpg",
        "._a.jpg",
        "Thumbs.db",
    ):
        save(tmp_path / name, b"x")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "z.jpg").symlink_to("nowhere")
    assert [entry.name for entry in entries_in(tmp_path)] == ["a.jpg", "a.txt", "b.JPG", "folder.jpg", "sub", "z.jpg"]
    assert [path.name for path in files_in(tmp_path, ".jpg")] == ["a.jpg", "b.JPG", "z.jpg"]
    assert files_in(tmp_path / "none", ".jpg") == []
    assert sorted(map(str, walk(tmp_path))) == ["a.jpg", "a.txt", "b.JPG", "sub/c.jpg", "z.jpg"]
    with pytest.raises(DataError, match="none: the folder cannot be read .No such file"):
        entries_in(tmp_path / "none")


def test_a_folder_of_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "pack" / "pack" / "a.onnx", b"x")
    save(tmp_path / "pack" / "__MACOSX" / "pack" / "._a.onnx", b"x")
    assert unpacked(tmp_path / "pack", ".onnx") == tmp_path / "pack" / "pack"
    assert unpacked(tmp_path / "pack", ".rec") == tmp_path / "pack"
    monkeypatch.chdir(tmp_path / "pack")
    assert unpacked(".", ".onnx") == Path("pack")
    save(tmp_path / "pack" / "b.onnx", b"x")
    assert unpacked(tmp_path / "pack", ".onnx") == tmp_path / "pack"


# --- Every listing of the project ------------------------------------------------------------------------------------


def littered(folder: Path) -> Path:
    """`folder`, with what systems leave in it and in each folder below it, beside every file."""
    for place in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        for file in [path for path in place.iterdir() if path.is_file()]:
            save(place / f"._{file.name}", APPLE_DOUBLE)
            save(place / "@eaDir" / file.name, APPLE_DOUBLE)
        save(place / "__MACOSX" / "anna" / "._1.jpg", APPLE_DOUBLE)
        save(place / ".DS_Store", b"Bud1")
        save(place / "Thumbs.db", b"x")
        save(place / "desktop.ini", b"[.ShellClassInfo]")
    return folder


def records(folder: Path, name: str = "faces") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with RecordWriter(folder / f"{name}.rec") as writer:
        write_faces(writer, labels=[0, 1], images=enumerate([jpeg(0, 112), jpeg(1, 112)]))
    return folder


def test_image_folders(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("anna/1.jpg", "bert/1.jpg", "bert/2.JPG"):
        save(tmp_path / "faces" / name, jpeg(len(name), 112))
    faces = littered(tmp_path / "faces")
    source, found = FaceFolder(faces), list_faces([faces])
    assert (source.identities, len(source), caplog.text) == (["anna", "bert"], 3, "")
    assert ([face.name for face in found.faces], found.problems, found.passed_over) == (
        ["anna/1.jpg", "bert/1.jpg", "bert/2.JPG"],
        [],
        0,
    )
    assert list_photos(faces) == ["anna/1.jpg", "bert/1.jpg", "bert/2.JPG"]
    assert list(images_by_name(faces / "bert")) == ["1", "2"]


def test_records_and_pair_sets(tmp_path: Path) -> None:
    data = records(tmp_path / "data", "part")
    write_bin(data / "dev.bin", [jpeg(0, 112)] * 2, [True])
    littered(data)
    assert [path.name for path in record_files([data])] == ["part.rec"] and len(FaceRecords(data)) == 2
    assert [path.name for path in find_pair_sets(data)] == ["dev.bin"]
    assert set(data_found(data)) == {"folder", "layout", "images", "identities", "dev.bin"}
    assert [(found.protocol, found.data) for found in find_evaluations([data])] == [("pairs", data)]


def test_data_in_a_folder_of_its_own_name(tmp_path: Path) -> None:
    data = records(tmp_path / "data" / "data")
    write_bin(data / "dev.bin", [jpeg(0, 112)] * 2, [True])
    assert len(FaceRecords(tmp_path / "data")) == 2 and find_pair_sets(tmp_path / "data") == [data / "dev.bin"]
    assert data_found(tmp_path / "data")["images"] == "2"


def test_detectors_of_a_pack(tmp_path: Path) -> None:
    for name in ("w600k.onnx", "det_10g.onnx"):
        save(tmp_path / "pack" / "pack" / name, b"x")
    littered(tmp_path / "pack")
    assert [path.name for path in _model_files(str(tmp_path / "pack"))] == ["det_10g.onnx", "w600k.onnx"]


def test_saved_results(tmp_path: Path) -> None:
    write_result("pairs", data="d", model=tmp_path / "run" / "model.pt", settings={}, results={})
    assert list(read_results(littered(tmp_path / "run"))) == ["pairs"]
