"""Evaluation of IJB-B and IJB-C from features to numbers: 1:1 and 1:N, in one mode or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ....models.embeddings import Embeddings
from ....utils.errors import ConfigError, DataError
from .identification import IjbIdentification, identify, read_protocol
from .metadata import IjbImages, read_pairs
from .templates import DEFAULT_MODE, Mode, TemplatePlan
from .verification import IjbVerification, PairRows, verify


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
) -> IjbResult:
    """Results of 1:1, and of 1:N when asked for. Beyond the features this takes a few hundred MB.

    Args:
        images: of the set, N of them.
        embeddings: their raw features, float32 (N, d).
        modes: what of an image goes into its template.
        one_to_n: 1:N too.
        usable: (N,) bool, images that take part; None: all.
        progress: show a bar.

    Raises:
        DataError: features that do not fit or are not finite, a template without images, pairs of one kind only.
    """
    plan = TemplatePlan(images, usable)
    pairs = read_pairs(images.folder, images.subset)
    protocol = read_protocol(images.folder, images.subset) if one_to_n else None
    rows, verification, identification = None, [], []
    for mode in tqdm(modes, desc=f"{images.subset} modes", unit="mode", disable=not progress):
        templates = plan.templates(embeddings, mode)
        if rows is None:
            rows = PairRows.of(pairs, templates)
            del pairs
        verification.append(verify(templates, rows, mode))
        if protocol is not None:
            identification.append(identify(templates, *protocol, mode))
    return IjbResult(images.subset, len(images), len(plan.ids), tuple(verification), tuple(identification))


def read_embeddings(path: Path, images: IjbImages) -> Embeddings:
    """Features from an .npz with `embs` and `embs_f`, as `ijb_evals.py --save_embeddings` writes it, in its order.

    Raises:
        DataError: no such file, or arrays that do not fit the images.
    """
    try:
        with np.load(path) as arrays:
            if not isinstance(arrays, np.lib.npyio.NpzFile) or not {"embs", "embs_f"} <= set(arrays.files):
                raise DataError(f"{path}: not an .npz with arrays embs and embs_f")
            sides = [np.ascontiguousarray(arrays[name], dtype=np.float32) for name in ("embs", "embs_f")]
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not an .npz with arrays embs and embs_f ({error})") from error
    if any(side.ndim != 2 or len(side) != len(images) or side.shape != sides[0].shape for side in sides):
        shapes = " and ".join(str(side.shape) for side in sides)
        raise DataError(f"{path}: embs and embs_f are {shapes}: {images.subset} here has {len(images)} images")
    return Embeddings(*sides)


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
