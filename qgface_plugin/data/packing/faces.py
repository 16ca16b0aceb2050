"""Faces to be packed: image folders and `.lst` files, read into one list."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...utils.errors import ConfigError, DataError
from ...utils.listing import entries_in
from ...utils.text import meant_path
from ..image_files import FaceFile, check_encoded, check_face, fitted, load_face
from ..recordio.lst import read_list
from ..sources.folder import SUFFIXES
from .stored import ImageStore

SAME_NAMES = ("error", "merge", "separate")


@dataclass(frozen=True, slots=True)
class Face:
    """One image to pack.

    Attributes:
        path: the file.
        name: how `train.lst` names it.
        identity: (number of the source, name of the identity); the number is 0 for all when names are merged.
        key: the key that an im2rec list gives it, else None.
        more: labels that follow the identity in an im2rec list.
        store: what has the image, where it is no file of its own; `path` is then how messages name it.
        at: where in `store`.
    """

    path: str
    name: str
    identity: tuple[int, str]
    key: int | None = None
    more: tuple[float, ...] = ()
    store: ImageStore | None = None
    at: tuple[int, int] = (0, 0)

    def check(self, size: int) -> FaceFile:
        """See `check_face`."""
        if self.store is None:
            return check_face(self.path, size)
        return check_encoded(self.store.read(self.at), self.path, size)

    def load(self, size: int, quality: int, fits: bool) -> bytes:
        """See `load_face`; `fits`: what a store has goes in as it is."""
        if self.store is None:
            return load_face(self.path, size, quality)
        encoded = self.store.read(self.at)
        return encoded if fits else fitted(encoded, self.path, size, quality)


@dataclass(frozen=True)
class FaceList:
    """Faces in the order in which they were found, and what could not be listed.

    Attributes:
        faces: the images.
        problems: (path, reason) of identities without an image and of images that a list says are not aligned.
        passed_over: files in the folders that are no JPEG or PNG by their names.
        lists: the `.lst` files that were read.
    """

    faces: list[Face]
    problems: list[tuple[str, str]] = field(default_factory=list)
    passed_over: int = 0
    lists: list[Path] = field(default_factory=list)


def list_faces(sources: Sequence[str | Path], root: str | Path | None = None, same_names: str = "error") -> FaceList:
    """The faces of folders (`folder/<identity>/<image>`) and of `.lst` files, as `read_list` reads them.

    Args:
        sources: folders and lists. Hidden files and what systems leave are passed over, links are followed.
        root: what the paths in lists are relative to; each list's own folder by default.
        same_names: what an identity's name in two sources means. "error" refuses it, "merge" makes one identity of
            both, "separate" two. In lists, the label is the name.

    Raises:
        ConfigError: an unknown value of `same_names`.
        DataError: a source that is missing, empty or given twice; a malformed list; a path listed twice; a name in two
            sources under "error".
    """
    if same_names not in SAME_NAMES:
        raise ConfigError(f"same_names is {same_names!r}; it is one of {SAME_NAMES}")
    if not sources:
        raise DataError("nothing to pack: name a folder with one sub-folder per identity, or a .lst file")
    found = FaceList([])
    passed_over = 0
    seen: set[Path] = set()
    for number, source in enumerate(map(Path, sources)):
        if source.resolve() in seen:
            raise DataError(f"{source} is named twice: name each source once")
        seen.add(source.resolve())
        part = 0 if same_names == "merge" else number
        if source.is_dir():
            passed_over += _add_folder(found, source, part, several=len(sources) > 1)
        elif source.is_file():
            found.lists.append(source)
            _add_list(found, source, part, Path(root) if root is not None else source.parent)
        else:
            raise DataError(f"{source}: no such folder or list; name a folder of identities or a .lst file")
    if same_names == "error":
        refuse_shared_names(found.faces, sources)
    _refuse_repeated_paths(found.faces)
    return FaceList(found.faces, found.problems, passed_over, found.lists)


def _add_folder(found: FaceList, folder: Path, number: int, several: bool) -> int:
    """Append the folder's faces; returns how many files were passed over."""
    there = entries_in(folder)
    identities = [entry.name for entry in there if entry.is_dir()]
    if not identities:
        loose = sum(entry.name.lower().endswith(SUFFIXES) for entry in there)
        hint = f"{loose} images lie in it directly; " if loose else ""
        raise DataError(f"{folder}: no sub-folder in it; {hint}images belong in one sub-folder per identity")
    passed_over = 0
    for identity in identities:
        inside = entries_in(folder / identity)
        images = [entry.name for entry in inside if entry.name.lower().endswith(SUFFIXES)]
        passed_over += len(inside) - len(images)
        if not images:
            found.problems.append((str(folder / identity), f"an identity without an image ({', '.join(SUFFIXES)})"))
        for image in images:
            path = os.path.join(folder, identity, image)
            name = path if several else f"{identity}/{image}"
            if "\t" in name or "\n" in name or "\r" in name:
                raise DataError(f"{path!r}: a tab or line break in a name cannot be written to train.lst; rename it")
            found.faces.append(Face(path, name, (number, identity)))
    return passed_over


def _add_list(found: FaceList, path: Path, number: int, root: Path) -> None:
    for line in read_list(path):
        name = meant_path(root, line.path)
        where = os.path.join(root, name)
        if line.aligned:
            found.faces.append(Face(where, name, (number, str(line.label)), line.key, line.more))
        else:
            found.problems.append((where, "not aligned, says the list: run `qgface align` first"))


def refuse_shared_names(faces: list[Face], sources: Sequence[str | Path]) -> None:
    """Refuse, with a DataError, identities whose name is in several sources; nobody has said what that means."""
    owners: dict[str, set[int]] = {}
    for face in faces:
        owners.setdefault(face.identity[1], set()).add(face.identity[0])
    shared = {name: numbers for name, numbers in owners.items() if len(numbers) > 1}
    if shared:
        name, numbers = next(iter(shared.items()))
        named = " and ".join(str(sources[number]) for number in sorted(numbers))
        raise DataError(
            f"{len(shared)} identities have a name that is in several sources, the first {name} in {named}: say "
            "whether that is one person (--same-names merge) or several (--same-names separate)"
        )


def _refuse_repeated_paths(faces: list[Face]) -> None:
    counts: dict[str, int] = {}
    for face in faces:
        counts[face.path] = counts.get(face.path, 0) + 1
    repeated = [path for path, count in counts.items() if count > 1]
    if repeated:
        raise DataError(
            f"{len(repeated)} paths are listed more than once, the first {repeated[0]} ({counts[repeated[0]]} times); "
            "list each image once"
        )
