"""Identification metrics: where a gallery ranks the right person. P probes, G gallery entries, d features.

A mate is a gallery entry of the probe's identity. An identity is an integer; a negative one is nobody's: a gallery
entry with it is a distractor, which matches no probe, and a probe with it has no mate in any gallery. Similarity is the
cosine. Rates are fractions in [0, 1], never percent.

Ties are decided against the network: a gallery entry of another identity that is exactly as similar as a mate ranks
before it, so an encoder that gives everybody the same feature identifies nobody. Similarities are compared as they are:
computed in float32, those of two equal features may differ by a rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from tqdm import tqdm

from ...utils.errors import DataError

BLOCK_BYTES = 128 * 2**20  # of similarities in memory at a time


@dataclass(frozen=True)
class Ranking:
    """What the gallery answers to each probe.

    Attributes:
        mates: (P,) int64, number of gallery entries of the probe's identity.
        rank: (P,) int64, rank of the best mate, 1 is the first; 0 without a mate.
        mate: (P,) float64, similarity of the best mate; nan without one.
        other: (P,) float64, similarity of the best entry of anybody else; -inf where there is none.
        average_precision: (P,) float64 in [0, 1]; nan without a mate.

    Example:
        >>> ranking = rank_features(np.eye(2), np.array([4, 7]), np.array([[1.0, 0.1], [1.0, 0.0]]), np.array([4, 7]))
        >>> ranking.rank.tolist()
        [2, 2]
        >>> rank_rate(ranking, 1), rank_rate(ranking, 2)
        (0.0, 1.0)
    """

    mates: np.ndarray
    rank: np.ndarray
    mate: np.ndarray
    other: np.ndarray
    average_precision: np.ndarray

    def __len__(self) -> int:
        return len(self.rank)

    @property
    def mated(self) -> np.ndarray:
        """Bool (P,): whether the gallery has the probe's identity. The closed-set rates are over these probes."""
        return self.mates > 0

    def select(self, probes: np.ndarray) -> Ranking:
        """The ranking of some probes only: a bool mask (P,) or positions."""
        return Ranking(*(getattr(self, field.name)[probes] for field in fields(self)))


@dataclass(frozen=True)
class TpirAtFpir:
    """TPIR (share of mated probes found) at one FPIR (share of probes without a mate that raise an alarm).

    Attributes:
        fpir: the FPIR that was asked for.
        tpir: the largest TPIR with FPIR <= fpir.
        insightface: TPIR as insightface's `ijb_evals.py` reads it: one false alarm fewer is allowed, if any.
        threshold: of `tpir`: a gallery entry that is at least as similar is an alarm. It is the lowest similarity among
            the alarms and the found mates, as in 1:1 (see `thresholds`); None where the probes do not tell.
        false_alarms: probes without a mate that raise an alarm, at most fpir * unmated.
        unmated: number of probes without a mate.
        found: mated probes that are found.
        mated: number of mated probes.
        reason: why there is no threshold; empty where there is one.
    """

    fpir: float
    tpir: float
    insightface: float
    threshold: float | None
    false_alarms: int
    unmated: int
    found: int
    mated: int
    reason: str = ""


def rank_features(
    probes: np.ndarray,
    probe_ids: np.ndarray,
    gallery: np.ndarray,
    gallery_ids: np.ndarray,
    progress: str | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Ranking:
    """Search every probe in the gallery by cosine similarity.

    Memory beyond the arguments: `block_bytes` of similarities (one row at least), and a few times one row.

    Args:
        probes: (P, d) features of any norm; a row of zeros has similarity 0 with everything.
        probe_ids: (P,) int.
        gallery: (G, d) features of any norm.
        gallery_ids: (G,) int.
        progress: label of a progress bar; None shows none.
        block_bytes: size of a block of similarities.

    Raises:
        DataError: shapes that do not fit, no probe, an empty gallery, features that are not finite.

    Example:
        >>> people = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> ranking = rank_features(np.array([[5.0, 0.1]]), np.array([7]), people, np.array([7, 8, -1]))
        >>> ranking.rank.tolist(), ranking.mates.tolist()
        ([1], [1])
    """
    return rank_blocks(similarity_blocks(probes, gallery, progress, block_bytes), probe_ids, gallery_ids)


def similarity_blocks(
    probes: np.ndarray, gallery: np.ndarray, progress: str | None = None, block_bytes: int = BLOCK_BYTES
) -> Iterator[np.ndarray]:
    """Cosine similarities of probes and gallery, a few probes at a time.

    Args and Raises: as for `rank_features`.

    Yields:
        (p, G) float32 of consecutive probes, P rows in all.

    Example:
        >>> [block.tolist() for block in similarity_blocks(np.eye(2), np.eye(2), block_bytes=8)]
        [[[1.0, 0.0]], [[0.0, 1.0]]]
    """
    probes, gallery = np.asarray(probes), np.asarray(gallery)
    if probes.ndim != 2 or gallery.ndim != 2 or probes.shape[1] != gallery.shape[1]:
        raise DataError(f"probes are {probes.shape} and the gallery is {gallery.shape}: give (P, d) and (G, d)")
    if not len(probes) or not len(gallery):
        raise DataError(f"{len(probes)} probes and {len(gallery)} gallery entries: at least one of each is needed")
    probe_scale, gallery_scale = _inverse_norms(probes, "probes"), _inverse_norms(gallery, "gallery")
    columns = gallery.T.astype(np.float32, copy=False)
    rows = max(1, block_bytes // (4 * len(gallery)))
    for start in tqdm(range(0, len(probes), rows), desc=progress, unit="block", disable=progress is None):
        block = slice(start, start + rows)
        unit = (probes[block] * probe_scale[block, None]).astype(np.float32)
        # The gallery is scaled after the product: a normalised copy of it may be hundreds of megabytes.
        similarities = unit @ columns
        similarities *= gallery_scale
        yield similarities


def rank_blocks(blocks: Iterable[np.ndarray], probe_ids: np.ndarray, gallery_ids: np.ndarray) -> Ranking:
    """The ranking of probes whose similarities are there already.

    Args:
        blocks: (p, G) similarities of consecutive probes, P rows in all.
        probe_ids: (P,) int.
        gallery_ids: (G,) int.

    Raises:
        DataError: shapes that do not fit, no probe, an empty gallery, a similarity that is not finite.

    Example:
        >>> rank_blocks([np.array([[0.9, 0.2, 0.5]])], np.array([3]), np.array([1, 2, 3])).rank.tolist()
        [2]
    """
    probe_ids, gallery_ids = _ids(probe_ids, "probe_ids"), _ids(gallery_ids, "gallery_ids")
    by_id = np.argsort(gallery_ids, kind="stable")
    sorted_ids = gallery_ids[by_id]
    first = np.searchsorted(sorted_ids, probe_ids, side="left")
    last = np.where(probe_ids < 0, first, np.searchsorted(sorted_ids, probe_ids, side="right"))
    count = len(probe_ids)
    rank, mate = np.zeros(count, dtype=np.int64), np.full(count, np.nan)
    other, precision = np.empty(count), np.full(count, np.nan)
    probe = 0
    for block in blocks:
        if block.ndim != 2 or block.shape[1] != len(gallery_ids) or probe + len(block) > count:
            raise DataError(
                f"a block of similarities is {block.shape} after {probe} probes: there are {count} probe_ids and "
                f"{len(gallery_ids)} gallery_ids"
            )
        if not np.isfinite(block).all():
            bad = probe + np.flatnonzero(~np.isfinite(block).all(axis=1))
            raise DataError(f"similarities of {len(bad)} probes are not finite, first of probe {bad[0]}")
        for row in block:
            mates = by_id[first[probe] : last[probe]]
            others = row.copy()
            others[mates] = -np.inf
            other[probe] = others.max()
            if len(mates):
                rank[probe], precision[probe] = _rank(row[mates], others)
                mate[probe] = row[mates].max()
            probe += 1
    if probe != count:
        raise DataError(f"similarities of {probe} probes for {count} probe_ids")
    return Ranking(last - first, rank, mate, other, precision)


def rank_rate(ranking: Ranking, k: int) -> float:
    """Rank-k: share of the mated probes whose best mate is among the k most similar gallery entries, in [0, 1].

    Raises:
        DataError: no probe has a mate, or k is below 1.

    Example:
        >>> ranking = rank_blocks([np.array([[0.9, 0.2], [0.8, 0.1]])], np.array([0, 1]), np.array([0, 1]))
        >>> rank_rate(ranking, 1)
        0.5
    """
    return float(np.mean(_mated(ranking).rank <= _positive(k)))


def cmc(ranking: Ranking, ranks: int) -> np.ndarray:
    """Cumulative match characteristic: rank-1 ... rank-`ranks`, (ranks,) float64 in [0, 1].

    Raises:
        DataError: no probe has a mate, or `ranks` is below 1.

    Example:
        >>> ranking = rank_blocks([np.array([[0.9, 0.2], [0.8, 0.1]])], np.array([0, 1]), np.array([0, 1]))
        >>> cmc(ranking, 2).tolist()
        [0.5, 1.0]
    """
    best = _mated(ranking).rank
    hits = np.bincount(best[best <= _positive(ranks)], minlength=ranks + 1)[1:]
    return np.cumsum(hits) / len(best)


def mean_average_precision(ranking: Ranking) -> float:
    """mAP: mean over the mated probes of the mean over a probe's mates of the precision at each mate's rank, in [0, 1].

    Raises:
        DataError: no probe has a mate.

    Example:
        >>> ranking = rank_blocks([np.array([[0.9, 0.2], [0.8, 0.1]])], np.array([0, 1]), np.array([0, 1]))
        >>> mean_average_precision(ranking)
        0.75
    """
    return float(_mated(ranking).average_precision.mean())


def tpir_at_fpir(ranking: Ranking, fpirs: Sequence[float], k: int = 1) -> list[TpirAtFpir]:
    """Open-set identification: a mated probe is found when its best mate is above the threshold and of rank <= k.

    At most the share `fpir` of the probes without a mate may have a gallery entry that is as similar as the threshold
    (ISO/IEC 19795-1). An FPIR below 1 / (number of those probes) is not extrapolated: it gets no threshold, and its
    TPIR is the one without any false alarm.

    Args:
        ranking: of probes with and without a mate.
        fpirs: fractions in [0, 1].
        k: largest rank that counts as found.

    Raises:
        DataError: no probe with a mate or none without, an FPIR outside [0, 1], k below 1.

    Example:
        >>> similarities = np.array([[0.9], [0.4], [0.6]])
        >>> ranking = rank_blocks([similarities], np.array([1, 2, 3]), np.array([1]))
        >>> [(point.tpir, point.threshold) for point in tpir_at_fpir(ranking, [0.5])]
        [(1.0, 0.6)]
    """
    mated = _mated(ranking)
    alarms = np.sort(ranking.other[~ranking.mated])[::-1]
    if not len(alarms):
        raise DataError(f"all {len(ranking)} probes have a mate in the gallery: FPIR needs probes that have none")
    found = mated.mate[mated.rank <= _positive(k)]
    points = []
    for fpir in fpirs:
        if not 0 <= fpir <= 1:
            raise DataError(f"FPIR {fpir!r} is not a fraction: it must be in [0, 1]")
        allowed = int(np.searchsorted(np.arange(len(alarms) + 1) / len(alarms), fpir, side="right")) - 1
        threshold = alarms[allowed] if allowed < len(alarms) else -np.inf
        nearby = alarms[max(int(len(alarms) * fpir) - 1, 0)]
        tpir, theirs = (np.count_nonzero(found > limit) / len(mated) for limit in (threshold, nearby))
        raised, hits = alarms[alarms > threshold], found[found > threshold]
        reason = ""
        if allowed == 0:
            reason = f"{len(alarms):,} probes without a mate show no FPIR below {1 / len(alarms):.1e}"
        elif not len(raised) and not len(hits):
            reason = (
                f"the most alike {allowed + 1:,} or more false alarms have one score: no threshold tells them apart"
            )
        at = None if reason else float(min([*raised[-1:], *np.sort(hits)[:1]]))
        points.append(
            TpirAtFpir(
                float(fpir), float(tpir), float(theirs), at, len(raised), len(alarms), len(hits), len(mated), reason
            )
        )
    return points


def _rank(mates: np.ndarray, others: np.ndarray) -> tuple[int, float]:
    """Rank of the best mate and average precision, from the similarities of the mates and of all others."""
    mates = np.sort(mates)
    reached = np.searchsorted(mates, others[others >= mates[0]], side="right")  # mates that each rival ranks before
    ahead = np.cumsum(np.bincount(reached, minlength=len(mates) + 1)[::-1])[:-1]  # rivals before the 1st, 2nd, ... mate
    hits = np.arange(1, len(mates) + 1)
    return int(ahead[0]) + 1, float(np.mean(hits / (hits + ahead)))


def _mated(ranking: Ranking) -> Ranking:
    if not ranking.mated.any():
        raise DataError(f"none of {len(ranking)} probes has a mate in the gallery: nobody can be identified")
    return ranking.select(ranking.mated)


def _positive(k: int) -> int:
    if k < 1:
        raise DataError(f"rank {k!r}: the first place is rank 1")
    return k


def _ids(ids: np.ndarray, what: str) -> np.ndarray:
    ids = np.asarray(ids)
    if ids.ndim != 1 or not len(ids) or ids.dtype.kind not in "iu":
        raise DataError(f"{what} are {ids.dtype} {ids.shape}: give at least one integer, in one dimension")
    return ids.astype(np.int64)


def _inverse_norms(features: np.ndarray, what: str) -> np.ndarray:
    """1 / norm of every row, float32, 0 for a row of zeros. DataError for rows that are not finite."""
    norms = np.sqrt(np.einsum("nd,nd->n", features, features, dtype=np.float64))
    bad = np.flatnonzero(~np.isfinite(norms))
    if len(bad):
        raise DataError(f"{what}: features are not finite in {len(bad)} of {len(features)} rows, first row {bad[0]}")
    norms[norms == 0] = np.inf
    return (1 / norms).astype(np.float32)
