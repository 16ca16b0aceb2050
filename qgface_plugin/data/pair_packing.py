"""A pairs file and a folder of aligned faces into a `.bin` pair set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ..utils.errors import ConfigError, DataError
from ..utils.parallel import ordered_map
from .bins import write_bin
from .face_files import QUALITY, check_face, load_face
from .pairs_file import Pair, find_image


@dataclass(frozen=True)
class PairReport:
    """What was written.

    Attributes:
        file: the `.bin`.
        pairs, same: how many pairs, and how many of them show one person.
        images: different images in them.
        resized: of those, images of another side, resized and encoded anew.
        repeated: pairs that were there before, in either order; they count twice in every figure.
        left_out: pairs left out for an image that is missing or cannot be used.
        problems: (image, reason) of those images.
    """

    file: str
    pairs: int
    same: int
    images: int
    resized: int
    repeated: int
    left_out: int
    problems: list[tuple[str, str]]


def pack_pairs(
    pairs: Sequence[Pair],
    root: str | Path,
    output: str | Path,
    size: int = 112,
    quality: int = QUALITY,
    skip: bool = False,
    workers: int = 2,
    progress: bool = False,
) -> PairReport:
    """Write the pairs as arcface_torch's loader reads them; images of the right side keep their bytes.

    Args:
        root: folder that the pairs' names are relative to.
        skip: leave out pairs whose images are missing or bad, which moves the pairs after them to other folds.

    Raises:
        ConfigError: a quality out of range; `output` does not end in .bin.
        DataError: images that are missing or bad, counted, the first of them named; no pair left.
    """
    if not 1 <= quality <= 100:
        raise ConfigError(f"quality is {quality}; it is a whole number from 1 to 100")
    root, output = Path(root), Path(output)
    if output.suffix != ".bin":
        raise ConfigError(f"{output}: a pair set's name ends in .bin; what stands before it is the set's name")
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; name the folder that the pairs' images are in")
    names = list(dict.fromkeys(name for pair in pairs for name in (pair.first, pair.second)))

    def load(name: str) -> tuple[bytes, bool] | str:
        path = find_image(root, name)
        if path is None:
            return "no such image"
        try:
            fits = check_face(path, size)
            return load_face(path, size, quality), fits
        except DataError as error:
            return str(error).removeprefix(f"{path}: ")

    bar = tqdm(ordered_map(load, names, workers), total=len(names), desc="reading", unit="image", disable=not progress)
    loaded = dict(zip(names, bar, strict=True))
    problems = [(name, result) for name, result in loaded.items() if isinstance(result, str)]
    bad = {name for name, _ in problems}
    kept = [pair for pair in pairs if pair.first not in bad and pair.second not in bad]
    if problems and not (skip and kept):
        first = "".join(f"\n  {root / name}: {reason}" for name, reason in problems[:3])
        raise DataError(
            f"{len(problems)} of {len(names)} images are missing or bad, in {len(pairs) - len(kept)} of {len(pairs)} "
            f"pairs; correct them or the root, or leave those pairs out with --skip-bad. The first:{first}"
        )
    images = [loaded[name][0] for pair in kept for name in (pair.first, pair.second)]
    output.parent.mkdir(parents=True, exist_ok=True)
    write_bin(output, images, [pair.same for pair in kept])
    used = {name for pair in kept for name in (pair.first, pair.second)}
    return PairReport(
        file=str(output),
        pairs=len(kept),
        same=sum(pair.same for pair in kept),
        images=len(used),
        resized=sum(not loaded[name][1] for name in used),
        repeated=len(kept) - len({frozenset((pair.first, pair.second)) for pair in kept}),
        left_out=len(pairs) - len(kept),
        problems=problems,
    )
