"""The layout and the counts of a data set."""

from __future__ import annotations

from pathlib import Path

from ..data.bins import read_bin
from ..data.folders import FaceFolder
from ..data.recordio import RecordReader, unpack
from ..data.records import FaceRecords
from ..utils.errors import DataError


def data_found(folder: Path) -> dict[str, str]:
    """Facts about a folder that `config.rec` may name: its layout, images, identities, `property`, pair sets.

    Every label is read and the first image looked at. Raises DataError for what training would refuse.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    records = sorted(path.name for path in folder.glob("*.rec"))
    source = FaceRecords(folder) if records else FaceFolder(folder)
    source.check(every=True) if records else source.check()
    source.read(0)
    facts = {
        "folder": str(folder.resolve()),
        "layout": _records_layout(folder, records) if records else "image folders, one an identity",
        "images": str(len(source)),
        "identities": str(source.num_classes),
    }
    if (folder / "property").is_file():
        facts["property"] = (folder / "property").read_text(encoding="ascii", errors="replace").strip()
    for path in sorted(folder.glob("*.bin")):
        pairs = read_bin(path)
        facts[path.name] = f"{len(pairs.same)} pairs, {int(pairs.same.sum())} of one identity"
    return facts


def _records_layout(folder: Path, records: list[str]) -> str:
    """Which files train, and whether they begin with InsightFace's header record."""
    used = ["train.rec"] if "train.rec" in records else records
    kinds = []
    for name in used:
        reader = RecordReader(folder / name)
        header = int(reader.keys[0]) == 0 and unpack(reader.read(0))[0].flag == 2
        kinds.append(f"{name} ({'InsightFace, with header record' if header else 'im2rec, without header record'})")
    return ", ".join(kinds)
