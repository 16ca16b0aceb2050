"""Aligned image files of an identification protocol: found by name, embedded, checked and scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...data.images import surplus_line
from ...data.sources.folder import SUFFIXES
from ...models import FaceModel
from ...utils.errors import DataError
from ...utils.listing import files_in
from ..embed_files import FileFeatures, embed_files
from .inventory import Inventory


def images_by_name(folder: Path) -> dict[str, Path]:
    """Image files of a folder by their names without suffix, in the order of the names.

    Raises:
        DataError: two files have one name.
    """
    found: dict[str, Path] = {}
    for path in files_in(folder, *SUFFIXES):
        if path.stem in found:
            raise DataError(f"{path} and {found[path.stem].name} are one image in two files; keep one of them")
        found[path.stem] = path
    return found


def evaluate_files(
    model: FaceModel,
    paths: Sequence[Path],
    score: Callable[[FileFeatures], dict[str, Any]],
    inventory: Inventory,
    **options: Any,
) -> tuple[dict[str, Any], list[str]]:
    """Embed the files of a set and score them.

    Args:
        model: the encoder.
        paths: the files, in the order in which `score` takes their features.
        score: the protocol's numbers from the features.
        inventory: what the set has against its protocol.
        options: `flip`, `batch_size`, `workers`, `on_corrupt` and `progress` of `embed_files`. With
            on_corrupt="skip", files that cannot be decoded are left out, counted and named in results and warnings.

    Returns:
        The results, with the inventory as `inventory`, and the warnings about unreadable files and surplus bytes.

    Raises:
        DataError: as `embed_files` and `score`.
    """
    embedded = embed_files(model, paths, **options)
    results = score(embedded)
    unreadable = Inventory()
    unreadable.name("unreadable", embedded.problems, "{} images cannot be decoded and are left out")
    known = inventory.as_dict()
    results["inventory"] = {**known, "names": {**known["names"], **unreadable.names}}
    surplus = [surplus_line(embedded.surplus)] if embedded.surplus else []
    return results, unreadable.warnings + surplus
