"""Record files as a source of faces: one file or several shards, with InsightFace's header record or without.

Several folders have one label space, in which a label is the same person everywhere, or separate ones, in which the
identities of a folder follow those of the folder before it.
"""

from __future__ import annotations

import bisect
import contextlib
import logging
import re
from collections.abc import Collection, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from ...utils.errors import ConfigError, DataError
from ...utils.listing import files_in, unpacked
from ...utils.text import read_text
from ..identity_names import IDENTITIES, shared_identity_names
from ..recordio import RecordReader
from ..recordio.identities import holds_image, image_keys, ranges_hold, read_header
from ..recordio.labels import UNREADABLE, read_face, scan_labels
from ..recordio.reader import LARGE

LABEL_SPACES = ("shared", "separate")
WHOLE = re.compile(r"0*[1-9][0-9]{0,8}")  # 1 to 999,999,999

LOGGER = logging.getLogger(__name__)


class FaceRecords:
    """Encoded faces of one or several RecordIO files.

    In a file with InsightFace's header record (see `recordio.identities`) the images are the keys that it announces;
    in any other file, such as im2rec's, every key is an image. A file `property` beside it holds
    `num_classes,height,width`.

    Args:
        roots: a folder or a `.rec` file, or several of them. A folder stands for its `train.rec`, or, where there is
            none, for all its `.rec` files in the order of their names.
        on_missing_idx: "rebuild" scans a `.rec` without `.idx` and says so in the log; "error" refuses it.
        on_corrupt: what `labels` and `check` do about records that cannot be read: "error", or "skip" to count them
            in the log. `read` always raises.
        label_spaces: "shared": a label is one person in all of `roots`; "separate": each of `roots` has persons of its
            own, and its labels follow those of the one before it.

    Attributes:
        num_classes: of a label space: from `property`, else from the header record of a single file, else 1 + the
            largest label; the sum over separate ones.

    Raises:
        DataError: no file, an invalid index or header, or sources of one label space that disagree on the number of
            classes or on the name of one.

    Example:
        >>> import tempfile
        >>> from qgface_plugin.data.images import encode_png
        >>> from qgface_plugin.data.recordio import RecordWriter
        >>> from qgface_plugin.data.recordio.identities import write_faces
        >>> face, folder = encode_png(np.zeros((112, 112, 3), np.uint8)), tempfile.mkdtemp()
        >>> with RecordWriter(Path(folder) / "train.rec") as writer:
        ...     write_faces(writer, labels=[0, 0, 1], images=enumerate([face] * 3))
        >>> faces = FaceRecords(folder)
        >>> len(faces), faces.num_classes, faces.read(2)[1]
        (3, 2, 1)
    """

    def __init__(
        self,
        roots: str | Path | Sequence[str | Path],
        on_missing_idx: str = "rebuild",
        on_corrupt: str = "error",
        label_spaces: str = "shared",
    ) -> None:
        for name, value, known in (
            ("on_missing_idx", on_missing_idx, ("rebuild", "error")),
            ("on_corrupt", on_corrupt, ("error", "skip")),
            ("label_spaces", label_spaces, LABEL_SPACES),
        ):
            if value not in known:
                raise ConfigError(f"{name} is {value!r}; it is one of {known}")
        named = [roots] if isinstance(roots, (str, Path)) else list(roots)
        paths, separate = record_files(named), label_spaces == "separate"
        in_turn = enumerate(named) if separate else ()
        space_of = {file: space for space, root in in_turn for file in record_files([root])}
        self.on_corrupt = on_corrupt
        self._shards = [_Shard(path, on_missing_idx, space_of.get(path, 0)) for path in paths]
        self._spaces = range(self._shards[-1].space + 1)
        self._starts = np.cumsum([0] + [len(shard.keys) for shard in self._shards]).tolist()
        self._labels: np.ndarray | None = None
        self._unread = False  # labels that nobody has looked at yet, and that `read` has to
        self._sizes = [_announced_classes(self._of(space)) for space in self._spaces]
        for space in self._spaces:
            if len(folders := {shard.folder for shard in self._of(space)}) > 1:
                self._names_of(space)
                _say_what_is_shared(folders)

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def num_classes(self) -> int:
        """Number of identities."""
        return sum(self._classes())

    def names(self) -> dict[int, str]:
        """Label -> name of the identity, by the `identities.tsv` beside the records; empty where there is none.

        Raises:
            DataError: such a file cannot be read, or two of them name one label differently.
        """
        found: dict[int, str] = {}
        for space, first in zip(self._spaces, self._firsts(), strict=True):
            found |= {first + label: name for label, name in self._names_of(space).items()}
        return found

    def _names_of(self, space: int) -> dict[int, str]:
        return shared_identity_names(shard.folder for shard in self._of(space))

    def _of(self, space: int) -> list[_Shard]:
        return [shard for shard in self._shards if shard.space == space]

    def _classes(self) -> list[int]:
        """Number of identities of each label space."""
        if None in self._sizes:
            parts = [self._part(number, self._all_labels()) for number in range(len(self._shards))]
            for space in self._spaces:
                own = (part for shard, part in zip(self._shards, parts, strict=True) if shard.space == space)
                largest = max((int(part.max()) for part in own if len(part)), default=-1)
                self._sizes[space] = largest + 1 if self._sizes[space] is None else self._sizes[space]
        return [size for size in self._sizes if size is not None]

    def _firsts(self) -> list[int]:
        """What is added to the labels of each label space."""
        return [0] if len(self._spaces) == 1 else list(accumulate(self._classes()[:-1], initial=0))

    def _part(self, number: int, values: np.ndarray) -> np.ndarray:
        """Those values, of one for each image, that belong to the images of a file."""
        return values[self._starts[number] : self._starts[number + 1]]

    def labels(self) -> np.ndarray:
        """The label of every image, int64 (len,); reads only headers. With "skip", -1 where a record is unreadable.

        Raises:
            DataError: a label that is not a whole number >= 0, an unreadable record, or, with "skip", no readable one;
                names file, key and offset.
        """
        labels, firsts = self._all_labels().copy(), self._firsts()
        for number, shard in enumerate(self._shards):
            part = self._part(number, labels)
            part[part != UNREADABLE] += firsts[shard.space]
        return labels

    def check(self, every: bool = False) -> None:
        """Refuse, before training, labels outside [0, num_classes), or outside their own label space.

        A large file in InsightFace's layout whose identity records announce exactly these labels is believed: then
        `read` refuses a label outside.

        Args:
            every: read the label of every image all the same.

        Raises:
            DataError: such a label; names file, key and offset.
        """
        if not every and self._labels is None and self._announced():
            self._unread = True
            return
        labels, classes = self._all_labels(), self._classes()
        limits = np.repeat([classes[shard.space] for shard in self._shards], np.diff(self._starts))
        outside = np.flatnonzero(labels >= limits)
        if len(outside):
            first = int(outside[0])
            raise DataError(
                f"{self.where(first)}: label {labels[first]} is outside [0, {limits[first]}), as are "
                f"{len(outside) - 1} others; correct num_classes in `property` or the records"
            )

    def where(self, index: int) -> str:
        """How messages name an image: file, key and offset."""
        shard, key = self._locate(index)
        return shard.reader.where(key)

    def read(self, index: int) -> tuple[memoryview, int]:
        """Encoded image, without a copy, and label.

        Raises:
            DataError: a damaged record, a label that is not a whole number >= 0 or, after `check` and with separate
                label spaces, not below the number of classes, or no JPEG or PNG inside.
        """
        shard, key = self._locate(index)
        encoded, label = read_face(shard.reader, key)
        if self._unread or len(self._spaces) > 1:
            if label >= (limit := self._classes()[shard.space]):
                raise DataError(f"{self.where(index)}: label {label} is outside [0, {limit})")
            label += self._firsts()[shard.space]
        return encoded, label

    def check_size(self) -> None:
        """Refuse files that have become shorter since they were opened. Raises DataError, as `RecordReader` does."""
        for shard in self._shards:
            shard.reader.check_size()

    def fingerprint(self) -> dict[str, Any]:
        """What tells these faces from others, wherever they lie: sizes, counts, headers, first and last entries."""
        facts: dict[str, Any] = {"images": len(self), "identities": self.num_classes}
        if len(self._spaces) > 1:
            facts["identities of each label space"] = self._classes()
        names = [shard.reader.path.name for shard in self._shards]
        for number, shard in enumerate(self._shards):
            reader, name = shard.reader, names[number]
            if names.count(name) > 1:  # of several folders
                name = f"{name} ({number + 1})"
            facts[f"bytes of {name}"] = reader.size
            facts[f"index entries of {name}"] = len(reader)
            facts[f"header of {name}"] = shard.announced
            for what, row in (("first", 0), ("last", -1)):
                facts[f"{what} index entry of {name}"] = f"{reader.keys[row]} at {reader.offsets[row]}"
            with contextlib.suppress(OSError):
                text = shard.property_path.read_bytes()[:200].decode("ascii", "replace")
                facts[f"property beside {name}"] = text.strip()
        return facts

    def _announced(self) -> bool:
        """Whether this is one large file and its identity records announce the labels [0, num_classes)."""
        shard = self._shards[0]
        if len(self._shards) > 1 or shard.announced is None or shard.reader.size < LARGE:
            return False
        return ranges_hold(shard.reader, len(shard.keys), shard.announced.identities)

    def _locate(self, index: int) -> tuple[_Shard, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        number = bisect.bisect_right(self._starts, index) - 1
        shard = self._shards[number]
        return shard, int(shard.keys[index - self._starts[number]])

    def _all_labels(self) -> np.ndarray:
        if self._labels is None:
            skip = self.on_corrupt == "skip"
            labels = np.concatenate([scan_labels(shard.reader, shard.keys, skip) for shard in self._shards])
            unreadable = int(np.count_nonzero(labels == UNREADABLE))
            if unreadable:
                if unreadable == len(self):
                    raise DataError(f"{self.where(0)}: not one of the {unreadable} records can be read")
                LOGGER.warning("%d of %d records cannot be read and will be skipped", unreadable, len(self))
            self._labels = labels
        return self._labels


class _Shard:
    """One file: its reader, the keys of its images, and what its header record says, if it has one."""

    def __init__(self, path: Path, on_missing_idx: str, space: int = 0) -> None:
        self.space = space
        self.reader = RecordReader(path, path.with_suffix(".idx") if on_missing_idx == "error" else None)
        self.folder = path.parent
        self.property_path = path.parent / "property"
        self.announced = read_header(self.reader)
        self.keys = self.reader.keys
        if self.announced is not None:
            has_image = partial(holds_image, self.reader)
            self.keys = image_keys(self.keys, self.announced.first, has_image, self.reader.where(0))


def _say_what_is_shared(folders: Collection[Path]) -> None:
    """Several folders of which not all say who is who: a label may be another person in each, and nobody would know."""
    silent = sorted(str(folder) for folder in folders if not (folder / IDENTITIES).exists())
    if silent:
        LOGGER.warning(
            "%d folders share one label space, so label 0 is taken for one person in all of them, and %s has no %s "
            "that could contradict. If they are other people, set config.qgface.data.label_spaces = 'separate'",
            len(folders), silent[0], IDENTITIES,
        )  # fmt: skip


def record_files(roots: list[str | Path]) -> list[Path]:
    """The `.rec` files that folders and files stand for, as `FaceRecords` has it.

    Raises:
        DataError: a folder without a `.rec` file, a path that is not there, or a file named twice.
    """
    files = []
    for root in map(Path, roots):
        if root.is_dir():
            root = unpacked(root, ".rec")
            train = root / "train.rec"
            found = [train] if train.exists() else files_in(root, ".rec")
            if not found:
                raise DataError(
                    f"{root}: no .rec file in this folder; a recipe with config.qgface.data.source = 'folder' reads "
                    "plain images"
                )
            files += found
        elif root.exists():
            files.append(root)
        else:
            raise DataError(f"{root}: no such file or folder")
    if len(set(files)) != len(files) or not files:
        raise DataError(f"record files must be named, each once: {', '.join(map(str, files)) or 'none given'}")
    return files


def _announced_classes(shards: list[_Shard]) -> int | None:
    """What `property` files and, for a single file, its header record say; DataError where they disagree."""
    announced = {}
    for path in dict.fromkeys(shard.property_path for shard in shards):
        if path.exists():
            announced[str(path)] = _read_property(path)
    if len(shards) == 1 and shards[0].announced is not None:
        announced[f"{shards[0].reader.path} key 0 (header record)"] = shards[0].announced.identities
    if len(set(announced.values())) > 1:
        said = "; ".join(f"{source} says {count}" for source, count in announced.items())
        raise DataError(f"sources disagree on the number of classes: {said}")
    return next(iter(announced.values()), None)


def _read_property(path: Path) -> int:
    text = read_text(path, "number of classes").strip()
    fields = [field.strip() for field in text.split(",")]
    if len(fields) != 3 or not all(WHOLE.fullmatch(field) for field in fields):
        raise DataError(f"{path}: {text[:200]!r} is not `num_classes,height,width`")
    return int(fields[0])
