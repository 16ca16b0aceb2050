"""TinyFace (Cheng, Zhu, Gong 2018) as aligned files: 3,728 probes, 4,443 gallery images of their people, 153,428
distractors, all of native low resolution.

tinyface/Testing_Set/           probe_img_ID_pairs.mat, gallery_match_img_ID_pairs.mat: which image shows whom, as a
                                cell array of file names and an array of identities
aligned_pad_0.1_pad_high/       Probe/, Gallery_Match/, Gallery_Distractor/: aligned faces by the same names

That is the layout in which AdaFace's authors distribute it. Names are compared without their suffixes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...data.sources.folder import SUFFIXES
from ...utils.errors import DataError
from .aligned_files import images_by_name
from .inventory import Inventory, listed
from .mat_files import read_mat

PROBES, MATCHES, DISTRACTORS = 3_728, 4_443, 153_428
ALIGNED = "aligned_pad_0.1_pad_high"
PARTS = ("Probe", "Gallery_Match", "Gallery_Distractor")
LARGEST_ID = 2**53 - 1  # larger ones are not told apart where a file holds them as floats
MAT_FILES = {"Probe": "probe_img_ID_pairs.mat", "Gallery_Match": "gallery_match_img_ID_pairs.mat"}


@dataclass(frozen=True)
class TinyfaceSet:
    """The files of TinyFace.

    Attributes:
        probes: P images.
        probe_ids: (P,) int, identities.
        matches: M gallery images of the probes' people.
        match_ids: (M,) int, identities.
        distractors: gallery images of nobody among the probes.
        inventory: how the files differ from the protocol.
    """

    probes: list[Path]
    probe_ids: np.ndarray
    matches: list[Path]
    match_ids: np.ndarray
    distractors: list[Path]
    inventory: Inventory


def read_tinyface(root: str | Path, aligned: str | Path | None = None) -> TinyfaceSet:
    """The aligned test images of `root`, and who they show by the two .mat files.

    Images that are in only one of both are counted and named, and left out.

    Args:
        root: folder of the set; the .mat files are looked for in its tinyface/Testing_Set, Testing_Set and itself.
        aligned: folder with Probe/, Gallery_Match/ and Gallery_Distractor/, also relative to `root`; None:
            aligned_pad_0.1_pad_high, else `root`.

    Raises:
        DataError: a folder or .mat file is absent or damaged, no probe or no gallery image, one image in two files.
    """
    root = Path(root)
    testing, folder = _testing_set(root), _aligned(root, aligned)
    inventory = Inventory()
    images, ids = {}, {}
    for part, key in zip(MAT_FILES, ("probe", "gallery"), strict=True):
        identities = read_identities(testing / MAT_FILES[part], f"{key}_set", f"{key}_ids", inventory)
        files = images_by_name(folder / part, inventory)
        _note_differences(inventory, part, files, identities, MAT_FILES[part])
        chosen = [name for name in identities if name in files]
        images[part] = [files[name] for name in chosen]
        ids[part] = np.array([identities[name] for name in chosen], dtype=np.int64)
        if not chosen:
            raise DataError(f"{folder / part}: none of the {len(identities):,} images of {MAT_FILES[part]} is in it")
    distractors = images_by_name(folder / "Gallery_Distractor", inventory)
    original = testing / "Gallery_Distractor"
    if original.is_dir() and original != folder / "Gallery_Distractor":
        _note_differences(inventory, "Gallery_Distractor", distractors, images_by_name(original), str(original))
    inventory.count("probes", PROBES, len(images["Probe"]))
    inventory.count("gallery matches", MATCHES, len(images["Gallery_Match"]))
    inventory.count("distractors", DISTRACTORS, len(distractors))
    alone = ~np.isin(ids["Probe"], ids["Gallery_Match"])
    names = [path.name for path, is_alone in zip(images["Probe"], alone, strict=True) if is_alone]
    inventory.name(
        "probes without a mate", names, "{} probes show nobody of the gallery, so the rates are without them"
    )
    return TinyfaceSet(
        images["Probe"], ids["Probe"], images["Gallery_Match"], ids["Gallery_Match"], list(distractors.values()),
        inventory,
    )  # fmt: skip


def _note_differences(
    inventory: Inventory, part: str, files: Mapping[str, Path], expected: Mapping[str, object], source: str
) -> None:
    missing = [name for name in expected if name not in files]
    inventory.name(f"{part} missing", missing, f"{{}} images of {source} have no aligned image in {part}/")
    surplus = [name for name in files if name not in expected]
    then = "are left out" if part in MAT_FILES else "are searched all the same"  # nobody needs to know a distractor
    inventory.name(f"{part} surplus", surplus, f"{{}} images of {part}/ are not in {source} and {then}")


def _testing_set(root: Path) -> Path:
    candidates = [root / "tinyface" / "Testing_Set", root / "Testing_Set", root]
    for folder in candidates:
        if all((folder / name).is_file() for name in MAT_FILES.values()):
            return folder
    raise DataError(
        f"{root}: {' and '.join(MAT_FILES.values())} are not in it; they were looked for in "
        f"{', '.join(map(str, candidates))}"
    )


def _aligned(root: Path, given: str | Path | None) -> Path:
    candidates = [root / given] if given is not None else [root / ALIGNED, root]
    for folder in candidates:
        if all((folder / part).is_dir() for part in PARTS):
            return folder
    raise DataError(
        f"no folder with {', '.join(PARTS)} of aligned faces; looked for in {', '.join(map(str, candidates))}. "
        "Name it by --aligned (TinyFace's own images are not aligned)"
    )


def read_identities(path: Path, names_key: str, ids_key: str, inventory: Inventory) -> dict[str, int]:
    """File name without suffix -> identity, in the order of a .mat file.

    Args:
        path: the .mat file.
        names_key: variable that holds the names.
        ids_key: variable that holds the identities.
        inventory: where a name is noted that is there twice with one identity, or begins with another identity.

    Raises:
        DataError: damaged, other variables, or a name with two identities.
    """
    names, ids = _load(path, names_key, ids_key)
    identities: dict[str, int] = {}
    repeated = []
    for name, identity in zip(names, ids, strict=True):
        if name in identities:
            repeated.append(name)
        if identities.setdefault(name, identity) != identity:
            raise DataError(f"{path}: {name} has two identities, {identities[name]} and {identity}")
    inventory.name(f"{path.name} repeated", repeated, f"{{}} names are repeated in {path.name} and count once")
    contrary = [name for name, who in identities.items() if name.split("_")[0] != str(who)]
    inventory.name(
        f"{path.name} contrary",
        contrary,
        f"{{}} names begin with another identity than {path.name} gives, which counts",
    )
    return identities


def _load(path: Path, names_key: str, ids_key: str) -> tuple[list[str], list[int]]:
    content = read_mat(path, (names_key, ids_key))
    absent = [key for key in (names_key, ids_key) if key not in content]
    if absent:
        raise DataError(f"{path}: no variable {listed(absent)} in it; TinyFace's file holds {names_key} and {ids_key}")
    names = [_stem(name.strip()) for name in _strings(content[names_key], path)]
    ids = np.asarray(content[ids_key]).ravel()
    if ids.dtype.kind not in "iuf" or not np.array_equal(ids, np.floor(ids)) or np.any(ids < 0):
        raise DataError(f"{path}: {ids_key} ({ids.dtype}) are not all identities, which are numbers from 0")
    if len(ids) and ids.max() > LARGEST_ID:
        raise DataError(f"{path}: an identity of {ids.max()} in {ids_key}; identities are at most {LARGEST_ID}")
    if not names or len(names) != len(ids):
        raise DataError(f"{path}: {len(names)} names for {len(ids)} identities; there is one identity per name")
    return names, [int(identity) for identity in ids]


def _strings(cells: object, path: Path) -> Iterator[str]:
    """The strings of a text, or of a cell array however deeply its cells are nested."""
    if isinstance(cells, str):
        yield cells
    elif isinstance(cells, np.ndarray) and cells.dtype.kind in "UO":
        for cell in cells.ravel().tolist():
            if isinstance(cell, str):
                yield cell
            else:
                yield from _strings(cell, path)
    else:
        raise DataError(f"{path}: its names are {getattr(cells, 'dtype', type(cells).__name__)}, not text")


def _stem(name: str) -> str:
    path = Path(name.replace("\\", "/"))
    return path.stem if path.suffix.lower() in SUFFIXES else path.name
