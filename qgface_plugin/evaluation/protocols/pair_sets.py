"""A model on InsightFace's `.bin` pair sets: LFW, CFP-FP, AgeDB-30, CALFW, CPLFW, or one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...data.bin_files import read_bin
from ...utils.errors import DataError
from ...utils.sampling import evenly_spread
from ..metrics import kfold_accuracy, pair_distances, tar_at_far
from ..models import ColorOrder, FaceModel, check_color_order
from ..norm_order import NormOrder, NormStatistics, compare_norms, degraded_copies, norm_statistics
from .lfw import FARS, VerificationResult, verify_embeddings


@dataclass(frozen=True)
class PairSetResult:
    """One model on one pair set; fractions, never percent."""

    verification: VerificationResult  # with flip fusion, as arcface_torch reports it
    genuine: int  # pairs of one identity
    single_accuracy: float  # of the images as they are, without their mirror images
    single_std: float
    norms: NormStatistics  # of the images as they are
    norm_order: NormOrder | None
    color_order: ColorOrder | None

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts; the verification's own entries at the top."""
        order, color = self.norm_order, self.color_order
        return {
            **self.verification.as_dict(),
            "genuine": self.genuine,
            "single_accuracy": self.single_accuracy,
            "single_std": self.single_std,
            "norms": asdict(self.norms),
            "norm_order": None if order is None else {**asdict(order), "verdict": order.verdict},
            "color_order": None if color is None else {**asdict(color), "warning": color.warning},
        }


def find_pair_sets(data: str | Path, names: Sequence[str] = ()) -> list[Path]:
    """The `.bin` files that are meant, in the order of their names, or of `names`.

    data: a folder, or one `.bin` file. names: of sets in the folder, such as "lfw"; none: all of them.
    Raises DataError for what is not there, naming what is.
    """
    data = Path(data)
    if data.is_file() and not names:
        return [data]
    if not data.is_dir():
        raise DataError(f"{data}: no such folder" if not data.exists() else f"{data} is no folder: leave the names out")
    there = sorted(data.glob("*.bin"))
    if not there:
        raise DataError(f"{data}: no .bin file is in it; name the folder that holds lfw.bin, cfp_fp.bin, ...")
    wanted = [data / (name if name.endswith(".bin") else f"{name}.bin") for name in names]
    if absent := [path.name for path in wanted if path not in there]:
        raise DataError(f"{data}: no {', '.join(absent)}; it holds {', '.join(path.name for path in there)}")
    return wanted or there


def evaluate_pair_set(
    model: FaceModel,
    path: Path,
    batch_size: int = 64,
    fars: Sequence[float] = FARS,
    folds: int = 10,
    sample: int = 128,
    check_color: bool = True,
    progress: bool = False,
) -> PairSetResult:
    """Everything about a model on the pair set in `path`; its images are embedded once.

    fars: where TAR is read off, fractions. sample: images that are degraded for the norm order, and pairs that the
    order of channels is checked on; 0 leaves both out. progress: show bars.
    Raises DataError for a file or pairs that cannot be evaluated, naming the file.
    """
    pairs = read_bin(path)
    try:  # what does not fit is said before the images are embedded
        blank = np.zeros(len(pairs.same))
        kfold_accuracy(blank, pairs.same, folds)
        tar_at_far(blank, pairs.same, fars)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    images = pairs.decode(progress=f"{pairs.name}: decoding" if progress else None)
    embeddings = model.embed(images, batch_size, f"{pairs.name}: embedding" if progress else None)
    verification = verify_embeddings(embeddings, pairs.same, pairs.name, folds, fars)
    single = kfold_accuracy(pair_distances(embeddings.original), pairs.same, folds)
    order = color = None
    if sample:
        rows = evenly_spread(len(images), sample)
        copies = model.embed(degraded_copies(images[rows]), batch_size)
        order = compare_norms(embeddings.norms[rows], copies.norms)
        if check_color and min(pairs.same.sum(), (~pairs.same).sum()) > 1:
            color = check_color_order(model, images, pairs.same, sample, batch_size, embeddings)
    return PairSetResult(
        verification, int(pairs.same.sum()), single.mean, single.std, norm_statistics(embeddings.norms), order, color
    )
