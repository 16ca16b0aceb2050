"""Record sets on disk: the two layouts, the options of packing, and the files beside the records.

InsightFace's layout is that of `recordio.identities`, identity after identity. im2rec's holds nothing but images, under
the keys of a list or 0 to N - 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ...utils.errors import ON_CORRUPT, ConfigError
from ...utils.files import atomic_write
from ...utils.parallel import ordered_map
from ..image_files import QUALITY
from ..recordio import Header, RecordWriter, pack
from ..recordio.identities import EXACT_FLOAT32, write_faces
from ..recordio.labels import LABEL_LIMIT
from ..recordio.lst import im2rec_line, list_line
from .faces import Face

MAX_INSIGHTFACE = EXACT_FLOAT32 - 1  # images and identities together: the header's 1 + that must be exact in float32
STYLES = ("insightface", "im2rec")


@dataclass(frozen=True)
class PackOptions:
    """How faces are packed.

    Attributes:
        style: "insightface" writes the header record 0 and a record with the key range of every identity, images are
            keys 1 to N, identity after identity. "im2rec" writes images only, with the keys of an im2rec list or
            0 to N - 1.
        size: side of the packed images in pixels.
        quality: of the JPEGs that images of another side become, 1 to 100.
        shuffle: seed of a random order of the images within the file, for readers that read straight through; keys
            and labels stay what they are. None keeps the order of the keys.
        min_images: identities with fewer images are left out.
        on_corrupt: "error" refuses to pack when an image cannot be packed, "skip" leaves such images out.
        workers: threads.
        overwrite: replace a `train.rec` that is there.
        as_they_are: images of another side go in as they are too; `size` is then what `property` says.
    """

    style: str = "insightface"
    size: int = 112
    quality: int = QUALITY
    shuffle: int | None = None
    min_images: int = 1
    on_corrupt: str = "error"
    workers: int = 2
    overwrite: bool = False
    as_they_are: bool = False

    def __post_init__(self) -> None:
        for name, chosen, known in (("style", self.style, STYLES), ("on_corrupt", self.on_corrupt, ON_CORRUPT)):
            if chosen not in known:
                raise ConfigError(f"{name} is {chosen!r}; it is one of {known}")
        for name, value, low, high in (
            ("size", self.size, 1, 1024),
            ("quality", self.quality, 1, 100),
            ("min_images", self.min_images, 1, LABEL_LIMIT),
            ("workers", self.workers, 1, 256),
        ):
            if not low <= value <= high:
                raise ConfigError(f"{name} is {value}; it is a whole number from {low} to {high}")
        if self.shuffle is not None and self.shuffle < 0:
            raise ConfigError(f"shuffle is {self.shuffle}; the seed is a whole number >= 0")


@dataclass(frozen=True, slots=True)
class PackedFace:
    """A face with its label among 0 to identities - 1; `fits` tells whether its file's bytes go in as they are."""

    face: Face
    label: int
    fits: bool


def write_record_set(
    folder: Path, faces: list[PackedFace], options: PackOptions, beside: Mapping[str, str], progress: bool = False
) -> int:
    """Write `train.rec`, `train.idx`, `train.lst` and the files `beside` them; `train.rec` gets its name last.

    Args:
        folder: must be there.
        faces: with every label from 0 to identities - 1 at least once.
        options: how.
        beside: name of a further file -> its text.
        progress: show a progress bar.

    Returns:
        Size of `train.rec` in bytes.

    Raises:
        ConfigError: a list of other images, or another text, is there under one of the names.
        DataError: an image that was sound when checked and is not any more; then nothing is left behind but what was
            there before.
    """
    insightface = options.style == "insightface"
    keys: Sequence[int] = range(len(faces))  # of im2rec's layout
    given = [face.face.key for face in faces if face.face.key is not None]
    if insightface or len(given) < len(faces):
        faces = sorted(faces, key=lambda face: face.label)
    else:
        keys = given
    order: Sequence[int] = range(len(faces))
    if options.shuffle is not None:
        order = np.random.default_rng(options.shuffle).permutation(len(faces)).tolist()

    def listed() -> Iterator[str]:
        if insightface:
            return (list_line(face.face.name, face.label) for face in faces)
        rows = ((keys[row], faces[row]) for row in order)
        return (im2rec_line(key, (face.label, *face.face.more), face.face.name) for key, face in rows)

    texts: dict[str, Callable[[], Iterable[str]]] = {"train.lst": listed}
    texts |= {name: lambda text=text: [text] for name, text in beside.items()}  # type: ignore[misc]
    if not options.overwrite:
        _refuse_others(folder, texts)

    def load(row: int) -> bytes:
        return faces[row].face.load(options.size, options.quality, faces[row].fits)

    images = ordered_map(load, order, options.workers)
    bar = tqdm(images, total=len(faces), desc="writing", unit="image", disable=not progress)
    with RecordWriter(folder / "train.rec") as writer:
        if insightface:
            write_faces(writer, [face.label for face in faces], zip(order, bar, strict=True))
        else:
            for row, image in zip(order, bar, strict=True):
                label = [faces[row].label, *faces[row].face.more] if faces[row].face.more else float(faces[row].label)
                writer.write(keys[row], pack(Header(0, label, keys[row], 0), image))
        writer.flush()
        with ExitStack() as files:
            for name, text in texts.items():
                file = files.enter_context(atomic_write(folder / name, "w", errors="surrogateescape"))
                file.writelines(text())
                file.flush()
    return (folder / "train.rec").stat().st_size


def _refuse_others(folder: Path, texts: Mapping[str, Callable[[], Iterable[str]]]) -> None:
    """ConfigError for a file that is there with another text; the same is what an interrupted packing has left."""
    for name, text in texts.items():
        path = folder / name
        if path.is_file() and path.read_bytes() != "".join(text()).encode(errors="surrogateescape"):
            raise ConfigError(f"{path} is there already, of other data: choose another folder, or --overwrite")
