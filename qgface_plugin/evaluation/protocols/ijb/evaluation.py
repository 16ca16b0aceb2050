"""Evaluation of IJB-B and IJB-C from features to numbers: 1:1 and 1:N, in one mode or several."""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from tqdm import tqdm

from ....models.embeddings import Embeddings
from ....utils.errors import ConfigError, DataError
from .identification import IjbIdentification, identify, read_protocol
from .metadata import IjbImages, read_pairs
from .templates import DEFAULT_MODE, Mode, TemplatePlan
from .verification import IjbVerification, PairRows, verify

LONGEST = 1 << 14  # numbers in a feature; a file of longer ones is not what it says


@dataclass(frozen=True)
class IjbResult:
    """The results of the modes asked for, in their order.

    Attributes:
        subset: "IJBB" or "IJBC".
        images: number of images.
        templates: number of templates.
        verification: one per mode.
        identification: one per mode; empty when 1:N was not asked for.
    """

    subset: str
    images: int
    templates: int
    verification: tuple[IjbVerification, ...]
    identification: tuple[IjbIdentification, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, ready for JSON."""
        return {
            "images": self.images,
            "templates": self.templates,
            "one_to_one": [result.as_dict() for result in self.verification],
            "one_to_n": [result.as_dict() for result in self.identification],
        }


def evaluate(
    images: IjbImages,
    embeddings: Embeddings,
    modes: Sequence[Mode] = (DEFAULT_MODE,),
    one_to_n: bool = False,
    usable: np.ndarray | None = None,
    progress: bool = False,
    gallery: Embeddings | None = None,
) -> IjbResult:
    """Results of 1:1, and of 1:N when asked for. Beyond the features this takes a few hundred MB.

    Args:
        images: of the set, N of them.
        embeddings: their raw features, float32 (N, d).
        modes: what of an image goes into its template.
        one_to_n: 1:N too.
        usable: (N,) bool, images that take part; None: all.
        progress: show a bar.
        gallery: features of the same images by the model that the gallery was enrolled with, float32 (N, d): the first
            template of each pair of 1:1 and the galleries of 1:N are made of them. None: one model for both.

    Raises:
        DataError: features that do not fit or are not finite, a template without images, pairs of one kind only.
    """
    if gallery is not None and gallery.original.shape[1] != embeddings.original.shape[1]:
        raise DataError(
            f"features of the probes have {embeddings.original.shape[1]} numbers and those of the gallery "
            f"{gallery.original.shape[1]}: they cannot be compared"
        )
    plan = TemplatePlan(images, usable)
    pairs = read_pairs(images.folder, images.subset)
    protocol = read_protocol(images.folder, images.subset) if one_to_n else None
    rows, verification, identification = None, [], []
    for mode in tqdm(modes, desc=f"{images.subset} modes", unit="mode", disable=not progress):
        templates = plan.templates(embeddings, mode)
        enrolled = None if gallery is None else plan.templates(gallery, mode)
        if rows is None:
            rows = PairRows.of(pairs, templates)
            del pairs
        verification.append(verify(templates, rows, mode, enrolled))
        if protocol is not None:
            identification.append(identify(templates, *protocol, mode, enrolled))
    return IjbResult(images.subset, len(images), len(plan.ids), tuple(verification), tuple(identification))


def read_embeddings(path: Path, images: IjbImages) -> Embeddings:
    """Features from an .npz with `embs` and `embs_f`, as `ijb_evals.py --save_embeddings` writes it, in its order.

    Raises:
        DataError: no such file, arrays that do not fit the images, or numbers that are not finite.
    """
    try:
        with ZipFile(path) as archive:
            sides = [_array(archive, f"{name}.npy", len(images)) for name in ("embs", "embs_f")]
    except OSError as error:
        raise DataError(f"{path}: the features cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, EOFError, BadZipFile, RuntimeError, SyntaxError, MemoryError, zlib.error) as error:
        raise DataError(f"{path}: not an .npz with arrays embs and embs_f ({error})") from error
    if any(side.ndim != 2 or len(side) != len(images) or side.shape != sides[0].shape for side in sides):
        shapes = " and ".join(str(side.shape) for side in sides)
        raise DataError(f"{path}: embs and embs_f are {shapes}: {images.subset} here has {len(images)} images")
    for side in sides:
        rows = np.flatnonzero(~np.isfinite(side).all(axis=1))
        if len(rows):
            raise DataError(f"{path}: {len(rows)} features are not finite, the first that of image {rows[0] + 1}")
    return Embeddings(*sides)


def _array(archive: ZipFile, name: str, images: int) -> np.ndarray:
    """An array of an .npz as float32; ValueError where it has not what its header says, or more than features have."""
    info = archive.getinfo(name)
    if info.file_size > 8 * LONGEST * images + 4096:
        raise ValueError(f"{name} has {info.file_size} bytes, for {images} images")
    data = archive.read(info)
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = read(stream)
    if dtype.kind not in "fiu" or math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise ValueError(f"{name} has {len(data)} bytes, for {shape} numbers of {dtype}")
    array = np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape, order="F" if by_columns else "C")
    return np.ascontiguousarray(array, dtype=np.float32)


def modes_of(names: Sequence[str] | None, all_modes: bool, every: Sequence[Mode]) -> tuple[Mode, ...]:
    """The modes that a command line asks for; the default one when it does not say.

    Raises:
        ConfigError: names and all modes at once, or no mode of that name.
    """
    if all_modes and names:
        raise ConfigError("--mode and --all-modes exclude each other")
    if all_modes:
        return tuple(every)
    return tuple(Mode.named(name) for name in names) if names else (DEFAULT_MODE,)
