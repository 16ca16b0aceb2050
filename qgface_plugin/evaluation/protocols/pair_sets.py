"""Pair sets in InsightFace's `.bin` files: LFW, CFP-FP, AgeDB-30, CALFW, CPLFW, or one's own.

`verify` is the 10-fold verification that arcface_torch reports, for a backbone during training; `evaluate_pair_set` is
everything about a model on one file: verification, norms, and the order of channels. N pairs; fractions, never percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ...data.bin_files import PairSet, read_bin
from ...models import FaceModel
from ...models.embeddings import Embeddings, embed
from ...utils.errors import DataError
from ...utils.listing import files_in, unpacked
from ...utils.sampling import evenly_spaced
from ..color_order import ColorOrder, check_color_order
from ..metrics.intervals import PairPeople
from ..metrics.saved_curves import saved_curves
from ..metrics.sorted_scores import SortedScores
from ..metrics.thresholds import Thresholds, find_thresholds
from ..metrics.verification import TarAtFar, kfold_accuracy, pair_cosines, pair_distances, roc, tar_at_far
from ..norm_order import NormOrder, NormStatistics, compare_norms, degraded_copies, norm_statistics

if TYPE_CHECKING:
    import torch
    from torch import nn

FARS = (1e-3, 1e-2, 1e-1)


class Pairs(Protocol):
    """What `verify` needs of a pair set: `bin_files.PairSet` has it, and so has `DecodedPairs`."""

    @property
    def name(self) -> str:
        """Of the set, for tables."""

    @property
    def same(self) -> np.ndarray:
        """(N,) bool, True for a genuine pair."""

    def decode(self) -> np.ndarray:
        """The images, uint8 (2N, 112, 112, 3) RGB; 2i and 2i + 1 are a pair."""


@dataclass(frozen=True)
class DecodedPairs:
    """A pair set held in memory as pixels, so that verifying it every epoch decodes it once (75 kB per pair).

    Attributes:
        name: for tables.
        same: (N,) bool, True for a genuine pair.
        images: uint8 (2N, 112, 112, 3) RGB; 2i and 2i + 1 are a pair.
    """

    name: str
    same: np.ndarray
    images: np.ndarray

    @classmethod
    def of(cls, pairs: Pairs) -> DecodedPairs:
        """Decode `pairs` now."""
        return cls(pairs.name, pairs.same, pairs.decode())

    def decode(self) -> np.ndarray:
        """The images that are there already."""
        return self.images


@dataclass(frozen=True)
class VerificationResult:
    """Verification of one pair set.

    Attributes:
        name: of the set.
        pairs: N.
        accuracy: fraction judged rightly, mean over the folds.
        std: its standard deviation over the folds.
        threshold: squared euclidean distance of the fused, normalised features, mean over the folds.
        auc: area under the ROC curve, a fraction.
        xnorm: mean norm of the raw features of images and mirror images.
        tar_at_far: at each FAR that was asked for.
    """

    name: str
    pairs: int
    accuracy: float
    std: float
    threshold: float
    auc: float
    xnorm: float
    tar_at_far: tuple[TarAtFar, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, ready for JSON."""
        return {**asdict(self), "tar_at_far": [asdict(point) for point in self.tar_at_far]}


def check_flags(same: np.ndarray, folds: int = 10, fars: Sequence[float] = FARS) -> None:
    """Do with blank distances what verification does with a pair set's, so that what it would refuse is known before.

    Args:
        same: (N,) bool, True for a genuine pair.
        folds: of the accuracy, 2 to N.
        fars: where TAR is read off, fractions.

    Raises:
        DataError: pairs of one kind only, fewer pairs than folds, a FAR that is no fraction.

    Example:
        >>> check_flags(np.array([True, False] * 10))
    """
    blank = np.zeros(len(same))
    kfold_accuracy(blank, same, folds)
    tar_at_far(blank, same, fars)


def verify(
    backbone: nn.Module,
    pair_set: Pairs,
    batch_size: int = 64,
    device: str | torch.device = "cpu",
    progress: str | None = None,
    folds: int = 10,
) -> VerificationResult:
    """Verify the pairs of `pair_set` with flip-fused features.

    Args:
        backbone, batch_size, device, progress: as `models.embeddings.embed` takes them.
        pair_set: the pairs; to verify them again and again, `DecodedPairs.of(pair_set)`.
        folds: of the accuracy, 2 to N.

    Raises:
        DataError: features that are not finite, pairs of one kind only, fewer pairs than folds.
    """
    embeddings = embed(backbone, pair_set.decode(), batch_size, device, progress)
    return verify_embeddings(embeddings, pair_set.same, pair_set.name, folds)


def verify_embeddings(
    embeddings: Embeddings, same: np.ndarray, name: str, folds: int = 10, fars: Sequence[float] = FARS
) -> VerificationResult:
    """Verify pairs whose embeddings are there.

    Args:
        embeddings: of 2N images, rows 2i and 2i + 1 a pair.
        same: (N,) bool, True for a genuine pair.
        name: of the set.
        folds: of the accuracy, 2 to N.
        fars: where TAR is read off, fractions.

    Raises:
        DataError: as `verify`, and for a FAR that is no fraction.
    """
    # Both views are added in float64, as arcface_torch adds them: a pair on a threshold is judged as it judges it.
    distances = pair_distances(embeddings.original.astype(np.float64) + embeddings.mirrored)
    accuracy = kfold_accuracy(distances, same, folds)
    curve = roc(-distances, same)
    return VerificationResult(
        name=name,
        pairs=len(distances),
        accuracy=accuracy.mean,
        std=accuracy.std,
        threshold=accuracy.threshold,
        auc=curve.auc,
        xnorm=embeddings.mean_norm,
        tar_at_far=tuple(tar_at_far(curve, None, fars)),
    )


@dataclass(frozen=True)
class PairSetResult:
    """One model on one pair set.

    Attributes:
        verification: with flip fusion, as arcface_torch reports it.
        genuine: number of pairs of one identity.
        single_accuracy: fraction judged rightly by the images as they are, without their mirror images.
        single_std: its standard deviation over the folds.
        thresholds: cosines to decide with, for features with flip fusion.
        single_thresholds: the same for the images as they are.
        curves: ROC and histograms of the cosines with flip fusion, for figures (`metrics.saved_curves`).
        norms: of the images as they are.
        norm_order: None where it was not measured.
        color_order: None where it was not checked.
    """

    verification: VerificationResult
    genuine: int
    single_accuracy: float
    single_std: float
    thresholds: Thresholds
    single_thresholds: Thresholds
    curves: dict[str, Any] = field(repr=False)
    norms: NormStatistics
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
            "thresholds": self.thresholds.as_dict(),
            "single_thresholds": self.single_thresholds.as_dict(),
            "curves": self.curves,
            "norms": asdict(self.norms),
            "norm_order": None if order is None else {**asdict(order), "verdict": order.verdict},
            "color_order": None if color is None else {**asdict(color), "warning": color.warning},
        }


def find_pair_sets(data: str | Path, names: Sequence[str] = ()) -> list[Path]:
    """The `.bin` files that are meant, in the order of their names, or of `names`.

    Args:
        data: a folder, or one `.bin` file.
        names: of sets in the folder, such as "lfw"; none: all of them.

    Raises:
        DataError: what is not there, naming what is.
    """
    data = Path(data)
    if data.is_file() and not names:
        return [data]
    if not data.is_dir():
        raise DataError(f"{data}: no such folder" if not data.exists() else f"{data} is no folder: leave the names out")
    data = unpacked(data, ".bin")
    there = files_in(data, ".bin")
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

    Args:
        model: the encoder.
        path: the `.bin` file.
        batch_size: images per forward pass.
        fars: where TAR is read off, fractions.
        folds: of the accuracy, 2 to N.
        sample: images that are degraded for the norm order, and pairs that the order of channels is checked on; 0
            leaves both out.
        check_color: False leaves the order of channels out.
        progress: show bars.

    Raises:
        DataError: a file or pairs that cannot be evaluated; names the file.
    """
    pairs = read_bin(path)
    try:  # what does not fit is said before the images are embedded
        check_flags(pairs.same, folds, fars)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    images = pairs.decode(progress=f"{pairs.name}: decoding" if progress else None)
    embeddings = model.embed(images, batch_size, f"{pairs.name}: embedding" if progress else None)
    verification = verify_embeddings(embeddings, pairs.same, pairs.name, folds, fars)
    single = kfold_accuracy(pair_distances(embeddings.original), pairs.same, folds)
    people = people_of(pairs)
    fused = pair_cosines(embeddings.original.astype(np.float64) + embeddings.mirrored)
    curve = SortedScores(fused, pairs.same)
    thresholds = find_thresholds(fused, pairs.same, fars, True, people, curve)
    alone = find_thresholds(pair_cosines(embeddings.original), pairs.same, fars, False, people)
    order = color = None
    if sample:
        rows = evenly_spaced(len(images), sample)
        copies = model.embed(degraded_copies(images[rows]), batch_size)
        order = compare_norms(embeddings.norms[rows], copies.norms)
        if check_color and min(pairs.same.sum(), (~pairs.same).sum()) > 1:
            color = check_color_order(model, images, pairs.same, sample, batch_size, embeddings)
    return PairSetResult(
        verification=verification,
        genuine=int(pairs.same.sum()),
        single_accuracy=single.mean,
        single_std=single.std,
        thresholds=thresholds,
        single_thresholds=alone,
        curves=saved_curves(curve),
        norms=norm_statistics(embeddings.norms),
        norm_order=order,
        color_order=color,
    )


def people_of(pairs: PairSet) -> PairPeople:
    """Whom the pairs show, as far as a pair set tells: images of equal bytes, and the two of a genuine pair, are of one
    person. Pairs of different images of somebody are not known to be.

    Example:
        >>> people_of(PairSet([b"a", b"b", b"a", b"c"], np.array([True, False]), "two")).first.tolist()
        [0, 0]
    """
    seen: dict[bytes, int] = {}
    number = np.array([seen.setdefault(image, len(seen)) for image in pairs.images])
    return PairPeople.joined(number[0::2], number[1::2], pairs.same, "as far as pairs share an image")
