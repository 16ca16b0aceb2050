"""`pack` on what others have packed, as a user runs it."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from foreign_sets import faces, samples, write_lmdb, write_parquet, write_tar

from qgface_plugin.commands.pack import main
from qgface_plugin.data.sources.records import FaceRecords

NEEDS = {"lmdb": ("lmdb", "msgpack"), "parquet": ("pyarrow",), "webdataset": ()}


def write(kind: str, folder: Path, items: list) -> list[str]:
    """A set of a kind, and how the command line names it."""
    if kind == "lmdb":
        return [str(write_lmdb(folder / "set.lmdb", items))]
    if kind == "parquet":
        return [str(write_parquet(folder / "set.parquet", items))]
    write_tar(folder / "a-0.tar", samples(items[:2]))
    write_tar(folder / "a-1.tar", samples(items[2:], first=2))
    return [str(folder / "a-{0..1}.tar")]


@pytest.mark.parametrize("kind", NEEDS)
def test_a_set_becomes_a_record_set(tmp_path, kind, capsys):
    for package in NEEDS[kind]:
        pytest.importorskip(package, reason=f"the package {package} is not installed (extra `foreign`)")
    items = faces([4, 1, 4, 9])
    named = write(kind, tmp_path, items)
    arguments = [f"--from-{kind}", *named, "-o", str(tmp_path / "out"), "--json", str(tmp_path / "report.json")]
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert "identities               3" in shown.out and "reading" in shown.err
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["images"], report["as_they_were"], report["single_image_identities"]) == (4, 4, 2)
    packed = FaceRecords(tmp_path / "out")
    assert bytes(packed.read(0)[0]) == items[1][0] and packed.names() == {0: "1", 1: "4", 2: "9"}
    assert main(arguments) == 2  # before the set is read again
    shown = capsys.readouterr()
    assert "is there already: choose another folder, or --overwrite" in shown.err and "reading" not in shown.err
    assert main([*arguments, "--overwrite", "--size", "64", "--min-images", "2"]) == 0
    assert FaceRecords(tmp_path / "out").labels().tolist() == [0, 0]


@pytest.mark.parametrize("kind", ["lmdb", "parquet"])
def test_a_package_that_is_missing_is_named(tmp_path, kind, capsys, monkeypatch):
    package = NEEDS[kind][-1]
    if find_spec(package) is None:
        pytest.skip(f"{package} is needed to write the set")
    named = write(kind, tmp_path, faces([0]))
    monkeypatch.setitem(sys.modules, package, None)
    assert main([f"--from-{kind}", *named, "-o", str(tmp_path / "out")]) == 2
    assert f"--from-{kind} needs the package {package}: pip install {package}" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_no_such_set(tmp_path, capsys):
    (tmp_path / "wrong").write_bytes(b"neither" * 2000)
    for kind in NEEDS:
        if kind != "parquet" or find_spec("pyarrow"):
            assert main([f"--from-{kind}", str(tmp_path / "wrong"), "-o", str(tmp_path / "out")]) == 2
            assert str(tmp_path / "wrong") in capsys.readouterr().err
