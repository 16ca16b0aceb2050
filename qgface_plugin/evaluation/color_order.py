"""Order of channels: a check that a model is fed with the one it was trained on, by which of both tells faces apart."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..models.embeddings import Embeddings
from ..models.face_model import FaceModel
from ..utils.errors import DataError
from ..utils.sampling import evenly_spaced
from .embed_files import read_face
from .metrics.verification import auc, pair_distances

LOGGER = logging.getLogger(__name__)
OTHER = {"rgb": "bgr", "bgr": "rgb"}
SIGMAS = 3.0  # how sure the warning is: standard errors of the difference
FEWEST = 10  # people in a gallery, or templates: pairs of fewer tell little of a model


@dataclass(frozen=True)
class ColorOrder:
    """How well a sample of pairs is told apart with the channels as they are given, and in the other order.

    Attributes:
        color: the order that the model is given, "rgb" or "bgr".
        pairs: size of the sample.
        separation: difference of the mean distances of impostor and genuine pairs, in standard deviations (d').
        other_separation: the same in the other order.
        standard_error: of the difference of both.
        auc: area under the ROC curve, a fraction.
        other_auc: the same in the other order.
    """

    color: str
    pairs: int
    separation: float
    other_separation: float
    standard_error: float
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

    Mean distances are compared, not AUCs: a good model has an AUC of 1 in both orders.

    Args:
        model: the encoder.
        images: uint8 (2N, 112, 112, 3) RGB, 2i and 2i + 1 a pair.
        same: (N,) bool, True for a genuine pair.
        pairs: size of the sample, evenly spaced over the genuine and over the impostor pairs.
        batch_size: images per forward pass.
        embeddings: of `images`, when they are there already.

    Raises:
        DataError: there are not two pairs of each kind, or not two images per pair.
    """
    same = np.asarray(same, dtype=bool)
    if len(images) != 2 * len(same):
        raise DataError(f"{len(images)} images for {len(same)} pairs; a pair has exactly two images")
    kinds = np.flatnonzero(same), np.flatnonzero(~same)
    if min(map(len, kinds)) < 2:
        raise DataError(f"{len(kinds[0])} genuine and {len(kinds[1])} impostor pairs: the check needs two of each")
    chosen = np.sort(np.concatenate([kind[evenly_spaced(len(kind), max(pairs // 2, 2))] for kind in kinds]))
    rows = np.stack([2 * chosen, 2 * chosen + 1], axis=1).ravel()
    sample, labels = images[rows], same[chosen]
    features = model.embed(sample, batch_size).features if embeddings is None else embeddings.features[rows]
    given = pair_distances(features)
    other = pair_distances(model.embed(sample[..., ::-1], batch_size).features)
    order = ColorOrder(
        color=getattr(model, "color", "rgb"),
        pairs=len(chosen),
        separation=_separation(given, labels),
        other_separation=_separation(other, labels),
        standard_error=_standard_error(given, other, labels),
        auc=auc(-given, labels),
        other_auc=auc(-other, labels),
    )
    if order.warning:
        LOGGER.warning("%s: %s", model.name, order.warning)
    return order


def check_color_of_files(
    model: FaceModel,
    probes: Sequence[Path],
    probe_ids: np.ndarray,
    gallery: Sequence[Path],
    gallery_ids: np.ndarray,
    pairs: int = 128,
    batch_size: int = 64,
) -> ColorOrder | None:
    """`check_color_order` on probes sampled over the set, each with its mate and with somebody else's gallery image.

    Args:
        model: the encoder.
        probes: P files of aligned faces.
        probe_ids: (P,) int, identities.
        gallery: G files of aligned faces.
        gallery_ids: (G,) int, identities.
        pairs: size of the sample; 0: no check. Files that cannot be decoded are not taken.
        batch_size: images per forward pass.

    Returns:
        None when the gallery has fewer than FEWEST people, or nearly none of them a probe.
    """
    first_image = {int(identity): row for row, identity in reversed(list(enumerate(gallery_ids)))}
    mated = [row for row, identity in enumerate(probe_ids) if int(identity) in first_image]
    if pairs < 1 or len(first_image) < FEWEST or not mated:
        return None
    people = list(first_image)
    stranger = dict(zip(people, people[1:] + people[:1], strict=True))
    images: list[np.ndarray] = []
    same: list[bool] = []
    for chosen in evenly_spaced(len(mated), max(pairs // 2, 2)):
        probe = mated[chosen]
        identity = int(probe_ids[probe])
        mate, other = first_image[identity], first_image[stranger[identity]]
        read = [read_face(path)[0] for path in (probes[probe], gallery[mate], gallery[other])]
        faces = [face for face in read if not isinstance(face, DataError)]
        if len(faces) == len(read):
            images += [faces[0], faces[1], faces[0], faces[2]]
            same += [True, False]
    if len(same) < 4:
        return None
    return check_color_order(model, np.stack(images), np.array(same), pairs, batch_size)


def _separation(distances: np.ndarray, same: np.ndarray) -> float:
    genuine, impostor = distances[same], distances[~same]
    deviation = np.sqrt((genuine.var() + impostor.var()) / 2)
    return float((impostor.mean() - genuine.mean()) / max(deviation, 1e-12))


def _standard_error(given: np.ndarray, other: np.ndarray, same: np.ndarray) -> float:
    """Of the difference of separations: both are of the same pairs, so whole pairs are left out (jackknife)."""
    count = len(same)
    differences = np.empty(count)
    for left_out in range(count):
        kept = np.arange(count) != left_out
        differences[left_out] = _separation(other[kept], same[kept]) - _separation(given[kept], same[kept])
    return float(np.sqrt((count - 1) * differences.var()))
