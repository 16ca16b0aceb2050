"""Faces of tars as WebDataset writes them: `key.jpg` and `key.cls`, `key.json` or `key.txt` beside each other.

A sample's members follow each other and share their name up to its first dot. Tars are read where they lie; the images
of compressed ones are put into a file without a name first.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from ....utils.errors import DataError
from ..faces import Face, FaceList
from ..stored import Spool, StoredImages
from .labels import identity_in, identity_of
from .patterns import named_files

IMAGES = ("jpg", "jpeg", "png")
LABELS = ("cls", "json", "txt")  # where several are there, the first
LONGEST = 1 << 20  # bytes of a label
BLOCK = 512
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")


def webdataset_faces(
    sources: Sequence[str | Path], spool: str | Path, label_key: str | None = None, progress: bool = False
) -> FaceList:
    """The faces of tars, which together are one set: one label is one identity in all of them.

    Args:
        sources: tars, patterns such as `faces-{000..012}.tar`, `.txt` lists of tars, folders.
        spool: folder with room for the images of compressed tars.
        label_key: of the label in a `.json`; None: the first of `labels.NAMES` that is there.
        progress: show a progress bar.

    Raises:
        DataError: a tar that is damaged or cut short; a sample without an image or without a label.
    """
    found, passed_over = FaceList([]), 0
    tars = named_files(sources, ".tar", ".tar.gz", ".tgz")
    sizes = [tar.stat().st_size for tar in tars]
    with tqdm(total=sum(sizes), desc="reading", unit="B", unit_scale=True, disable=not progress) as bar:
        for tar, size in zip(tars, sizes, strict=True):
            store = StoredImages(tar)
            if store.size >= 6 and store.read((0, 6)).startswith(COMPRESSED):
                store = Spool(tar, spool)
            for key, sample in _samples(tar, store):
                images = [at for kind, at in sample.items() if kind in IMAGES]
                if not images:
                    passed_over += len(sample)
                    continue
                label = _label(f"{tar} {key}", sample, label_key)
                name = f"{tar.stem}/{key}".replace("\n", " ").replace("\t", " ").replace("\r", " ")
                found.faces.append(Face(f"{tar} {key}", name, (0, label), store=store, at=images[0]))
            bar.update(size)
    if not found.faces:
        raise DataError(f"{tars[0]}: no sample with an image ({', '.join(IMAGES)}) in {len(tars)} tar(s)")
    return FaceList(found.faces, [], passed_over)


def _samples(tar: Path, store: StoredImages) -> Iterator[tuple[str, dict]]:
    """Key and members of each sample: where an image lies, the bytes of a label."""
    key, sample = "", dict[str, tuple[int, int] | bytes]()
    for name, kind, content in _members(tar, store):
        if name != key or kind in sample:
            if sample:
                yield key, sample
            key, sample = name, {}
        sample[kind] = content
    if sample:
        yield key, sample


def _members(tar: Path, store: StoredImages) -> Iterator[tuple[str, str, tuple[int, int] | bytes]]:
    try:
        with tarfile.open(tar, "r:*") as archive:
            for member in archive:
                folder, _, base = member.name.rpartition("/")
                name, _, kind = base.partition(".")
                kind = kind.lower()
                if not member.isreg() or not name:  # folders, links, and what systems leave
                    continue
                where = f"{tar} {member.name}"
                if member.issparse() or member.size < 0:
                    raise DataError(f"{where}: a sparse member, which no image is")
                if kind in LABELS:
                    if member.size > LONGEST:
                        raise DataError(f"{where}: {member.size} bytes are no label")
                    yield f"{folder}/{name}".lstrip("/"), kind, _content(archive, member, where)
                elif isinstance(store, Spool):
                    at = store.keep(_content(archive, member, where)) if kind in IMAGES else (0, 0)
                    yield f"{folder}/{name}".lstrip("/"), kind, at
                else:
                    if member.offset_data + member.size > store.size:
                        raise DataError(f"{where}: ends after the file's {store.size} bytes: the tar is cut short")
                    yield f"{folder}/{name}".lstrip("/"), kind, (member.offset_data, member.size)
            _check_end(tar, archive)
    except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError, MemoryError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{tar}: not a tar that can be read ({type(error).__name__}: {error})") from error


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, where: str) -> bytes:
    if member.size > LONGEST * 512:
        raise DataError(f"{where}: {member.size} bytes are no image")
    file = archive.extractfile(member)
    content = b"" if file is None else file.read()
    if len(content) < member.size:
        raise DataError(f"{where}: the tar is cut short")
    return content


def _check_end(tar: Path, archive: tarfile.TarFile) -> None:
    """`tarfile` takes any head that it cannot read for the end; the end of a tar is blocks of zeros."""
    stream = archive.fileobj
    assert stream is not None
    stream.seek(archive.offset)
    rest = stream.read(BLOCK)
    if len(rest) < BLOCK or rest.strip(b"\0"):
        raise DataError(
            f"{tar}: after {archive.offset} bytes neither a member nor the end of a tar follows: damaged or cut short"
        )


def _label(where: str, sample: dict, label_key: str | None) -> str:
    kind = next((kind for kind in LABELS if kind in sample), None)
    if kind is None:
        raise DataError(f"{where}: no label beside the image ({', '.join('.' + kind for kind in LABELS)})")
    where = f"{where}.{kind}"
    try:
        text = sample[kind].decode("utf-8").strip()
        if kind != "json":
            return identity_of(text, where)
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{where}: cannot be read ({error})") from error
    return identity_in(content, where, label_key)
