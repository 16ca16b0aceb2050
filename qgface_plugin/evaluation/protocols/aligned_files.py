"""Aligned image files of an identification protocol: found by name, embedded, checked and scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...data.images import surplus_line
from ...data.sources.folder import SUFFIXES
from ...models import FaceModel
from ...utils.errors import DataError
from ...utils.listing import entries_in, walk
from ..embed_files import FileFeatures, embed_files, embed_with_gallery
from .inventory import Inventory


def images_by_name(
    folder: Path, inventory: Inventory | None = None, ours: Callable[[str], object] = lambda name: True
) -> dict[str, Path]:
    """Image files under a folder by their names without suffix, in the order of the names.

    Sub-folders of any depth are searched: sets are distributed in some, and alignment keeps them.

    Args:
        folder: to be searched; one that is not there has no image.
        inventory: gets a warning when images lie in the folder itself and in sub-folders of it.
        ours: whether a name, without suffix, matters; of others any one is taken.

    Raises:
        DataError: two files have one name that matters; the folder cannot be read.
    """
    found: dict[str, Path] = {}
    if not folder.is_dir():
        return found
    entries_in(folder)
    images = sorted((path.name, path) for path in walk(folder) if path.suffix.lower() in SUFFIXES)
    for _, path in images:
        if path.stem not in found:
            found[path.stem] = folder / path
        elif ours(path.stem):
            raise DataError(f"{found[path.stem]} and {folder / path} are one image in two files; keep one of them")
    below = [path.as_posix() for _, path in images if len(path.parts) > 1 and ours(path.stem)]
    if inventory is not None and below and any(len(path.parts) == 1 and ours(path.stem) for _, path in images):
        here = f"{{}} images lie in sub-folders of {folder.name}/, others in it itself; all are taken"
        inventory.name(f"{folder.name} in sub-folders", below, here)
    return found


def evaluate_files(
    model: FaceModel,
    paths: Sequence[Path],
    score: Callable[[FileFeatures], dict[str, Any]],
    inventory: Inventory,
    gallery: tuple[FaceModel, np.ndarray] | None = None,
    **options: Any,
) -> tuple[dict[str, Any], list[str]]:
    """Embed the files of a set and score them.

    Args:
        model: the encoder.
        paths: the files, in the order in which `score` takes their features.
        score: the protocol's numbers from the features.
        inventory: what the set has against its protocol.
        gallery: the model that the gallery was enrolled with, and which of the files are the gallery, bool (N,); None:
            `model` embeds all of them.
        options: `flip`, `batch_size`, `workers`, `on_corrupt` and `progress` of `embed_files`. With
            on_corrupt="skip", files that cannot be decoded are left out, counted and named in results and warnings.

    Returns:
        The results, with the inventory as `inventory`, and the warnings about unreadable files and surplus bytes.

    Raises:
        DataError: as `embed_files` and `score`.
    """
    if gallery is None:
        embedded = embed_files(model, paths, **options)
    else:
        embedded = embed_with_gallery(model, gallery[0], paths, gallery[1], **options)
    results = score(embedded)
    unreadable = Inventory()
    unreadable.name("unreadable", embedded.problems, "{} images cannot be decoded and are left out")
    known = inventory.as_dict()
    results["inventory"] = {**known, "names": {**known["names"], **unreadable.names}}
    surplus = [surplus_line(embedded.surplus)] if embedded.surplus else []
    return results, unreadable.warnings + surplus
