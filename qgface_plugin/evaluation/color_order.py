"""Is the model fed with the channels in the order it was trained on? The better of the two orders tells."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..models.embeddings import Embeddings
from ..models.face_model import FaceModel
from ..utils.errors import DataError
from ..utils.sampling import evenly_spread
from .embed_files import read_face
from .metrics.verification import auc, pair_distances

LOGGER = logging.getLogger(__name__)
OTHER = {"rgb": "bgr", "bgr": "rgb"}
SIGMAS = 3.0  # how sure the warning is: standard errors of the difference


@dataclass(frozen=True)
class ColorOrder:
    """How well a sample of pairs is told apart with the channels as they are given, and in the other order.

    separation: difference of the mean distances of impostor and genuine pairs, in standard deviations (d').
    """

    color: str  # the order that the model is given
    pairs: int
    separation: float
    other_separation: float
    standard_error: float  # of the difference of both
    auc: float
    other_auc: float

    @property
    def warning(self) -> str | None:
        """What to do, when the other order is better by more than SIGMAS standard errors."""
        if self.other_separation - self.separation <= SIGMAS * self.standard_error:
            return None
        other = OTHER[self.color]
        return (
            f"the model tells faces apart better with its channels as {other.upper()} than as {self.color.upper()} "
            f"(d' {self.other_separation:.2f} against {self.separation:.2f}, AUC {self.other_auc:.4f} against "
            f"{self.auc:.4f}, on {self.pairs} pairs): it was probably trained on {other.upper()} images, so use "
            f"--color {other}"
        )


def check_color_order(
    model: FaceModel,
    images: np.ndarray,
    same: np.ndarray,
    pairs: int = 128,
    batch_size: int = 64,
    embeddings: Embeddings | None = None,
) -> ColorOrder:
    """Verify a sample of pairs in both orders of channels, and warn in the log when the other one is clearly better.

    images: uint8 (2N, 112, 112, 3) RGB, 2i and 2i + 1 a pair; same: bool (N,). At most `pairs` of them are taken,
    evenly spread over the genuine and over the impostor ones. embeddings: of `images`, when they are there already.
    Mean distances are compared, not AUCs: a good model has an AUC of 1 in both orders.
    Raises DataError when there are not two pairs of each kind.
    """
    same = np.asarray(same, dtype=bool)
    if len(images) != 2 * len(same):
        raise DataError(f"{len(images)} images for {len(same)} pairs; a pair has exactly two images")
    kinds = np.flatnonzero(same), np.flatnonzero(~same)
    if min(map(len, kinds)) < 2:
        raise DataError(f"{len(kinds[0])} genuine and {len(kinds[1])} impostor pairs: the check needs two of each")
    chosen = np.sort(np.concatenate([_spread(kind, pairs // 2) for kind in kinds]))
    rows = np.stack([2 * chosen, 2 * chosen + 1], axis=1).ravel()
    sample, labels = images[rows], same[chosen]
    features = model.embed(sample, batch_size).features if embeddings is None else embeddings.features[rows]
    given = pair_distances(features)
    other = pair_distances(model.embed(sample[..., ::-1], batch_size).features)
    found = ColorOrder(
        color=getattr(model, "color", "rgb"),
        pairs=len(chosen),
        separation=_separation(given, labels),
        other_separation=_separation(other, labels),
        standard_error=_standard_error(given, other, labels),
        auc=auc(-given, labels),
        other_auc=auc(-other, labels),
    )
    if found.warning:
        LOGGER.warning("%s: %s", model.name, found.warning)
    return found


def _spread(numbers: np.ndarray, count: int) -> np.ndarray:
    """At most `count` (at least two) of them, evenly spread."""
    return numbers[evenly_spread(len(numbers), max(count, 2))]


def _separation(distances: np.ndarray, same: np.ndarray) -> float:
    genuine, impostor = distances[same], distances[~same]
    spread = np.sqrt((genuine.var() + impostor.var()) / 2)
    return float((impostor.mean() - genuine.mean()) / max(spread, 1e-12))


def _standard_error(given: np.ndarray, other: np.ndarray, same: np.ndarray) -> float:
    """Of the difference of separations: both are of the same pairs, so whole pairs are left out (jackknife)."""
    count = len(same)
    differences = np.empty(count)
    for left_out in range(count):
        kept = np.arange(count) != left_out
        differences[left_out] = _separation(other[kept], same[kept]) - _separation(given[kept], same[kept])
    return float(np.sqrt((count - 1) * differences.var()))


# --- The check of the order of channels for sets of probe and gallery files -------------------------------------------


FEWEST = 10


def check_color_of_files(
    model: FaceModel,
    probes: Sequence[Path],
    probe_ids: np.ndarray,
    gallery: Sequence[Path],
    gallery_ids: np.ndarray,
    pairs: int = 128,
    batch_size: int = 64,
) -> ColorOrder | None:
    """`check_color_order` on probes spread over the set, each with its mate and with somebody else's gallery image.

    Files that cannot be decoded are not taken. None when the gallery has fewer than FEWEST people, or nearly none of
    them a probe: pairs of few people tell little of a model.
    """
    owner = {int(identity): place for place, identity in reversed(list(enumerate(gallery_ids)))}  # its first image
    mated = [place for place, identity in enumerate(probe_ids) if int(identity) in owner]
    if pairs < 1 or len(owner) < FEWEST or not mated:
        return None
    people = list(owner)
    stranger = dict(zip(people, people[1:] + people[:1], strict=True))
    images, same = [], []
    for place in evenly_spread(len(mated), max(pairs // 2, 2)):
        probe = mated[place]
        identity = int(probe_ids[probe])
        places = owner[identity], owner[stranger[identity]]
        face, mate, other = map(read_face, (probes[probe], *(gallery[place] for place in places)))
        if not any(isinstance(read, DataError) for read in (face, mate, other)):
            images += [face, mate, face, other]
            same += [True, False]
    if len(same) < 4:
        return None
    return check_color_order(model, np.stack(images), np.array(same), pairs, batch_size)
