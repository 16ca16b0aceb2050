"""How faces are packed: the options of `packing`, checked."""

from __future__ import annotations

from dataclasses import dataclass

from ..utils.errors import ConfigError
from .face_files import QUALITY
from .record_labels import LABEL_LIMIT

STYLES = ("insightface", "im2rec")
ON_BAD = ("error", "skip")


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
        on_bad: "error" refuses to pack when an image cannot be packed, "skip" leaves such images out.
        workers: threads.
        overwrite: replace a `train.rec` that is there.
    """

    style: str = "insightface"
    size: int = 112
    quality: int = QUALITY
    shuffle: int | None = None
    min_images: int = 1
    on_bad: str = "error"
    workers: int = 2
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name, value, known in (("style", self.style, STYLES), ("on_bad", self.on_bad, ON_BAD)):
            if value not in known:
                raise ConfigError(f"{name} is {value!r}; it is one of {known}")
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
