"""SCface: rank-1 of the surveillance cameras against frontal photos, and how alike both are (the paper's Fig. 5)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...models import FaceModel
from ...utils.errors import DataError
from ..embed_files import FileFeatures
from ..metrics.identification import Ranking, rank_features, rank_rate, similarity_blocks
from .aligned_files import evaluate_files
from .scface_files import CAMERAS, DISTANCES, ScfaceSet

EDGES = np.linspace(-1, 1, 81)  # of the histograms of similarities
EDGES.setflags(write=False)


def evaluate_scface(
    model: FaceModel, images: ScfaceSet, gallery_model: FaceModel | None = None, **options: Any
) -> tuple[dict[str, Any], list[str]]:
    """Embed the set and score it.

    Args:
        model: the encoder.
        images: gallery and probes.
        gallery_model: the model that the gallery was enrolled with; None: `model`.
        options: as for `evaluate_files`.

    Returns:
        Results as `score_scface` has them, with the inventory, and warnings.

    Raises:
        DataError: as `evaluate_files`.
    """
    paths = [*images.gallery, *images.probes]
    gallery = None if gallery_model is None else (gallery_model, np.arange(len(paths)) < len(images.gallery))
    return evaluate_files(model, paths, partial(score_scface, images), images.inventory, gallery, **options)


def near_probes(images: ScfaceSet) -> tuple[list[Path], np.ndarray, list[Path], np.ndarray]:
    """Probes at the nearest distance that there is and their identities, then the gallery and its identities.

    They are images that even a weak model tells apart, for `check_color_of_files`.
    """
    near = images.distances == images.distances.max()
    probes = [path for path, is_near in zip(images.probes, near, strict=True) if is_near]
    return probes, images.probe_ids[near], images.gallery, images.gallery_ids


def score_scface(images: ScfaceSet, embedded: FileFeatures) -> dict[str, Any]:
    """The numbers of SCface, fractions and cosines. A distance or camera without a mated probe has None.

    Args:
        images: gallery and probes.
        embedded: features of the gallery files followed by those of the probe files.

    Returns:
        `rank1` of each distance, {"d1", "d2", "d3"}; `rank1_camera`, the same of each camera alone, and "all" of its
        distances; `mated_probes`, how many probes each rate of rank1 is over: those whose subject has a frontal image;
        `similarity` of each distance, cosine similarity of the probes with the frontal image of the same person and
        with those of the others: {"same", "other": {"mean", "std", "count", "histogram"}, "gap": difference of the
        means, "nearest": as "other", of the most similar other alone, for each mated probe, "lead": mean similarity to
        the own image minus that to the most similar other, the quantity of Fig. 5's titles}; `histogram_edges` of
        these histograms.

    Raises:
        DataError: nobody can be identified, or features that are not finite.
    """
    g = len(images.gallery)
    in_gallery, in_probes = embedded.readable[:g], embedded.readable[g:]
    gallery, gallery_ids = embedded.features[:g][in_gallery], images.gallery_ids[in_gallery]
    probes, probe_ids = embedded.features[g:][in_probes], images.probe_ids[in_probes]
    cameras, distances = images.cameras[in_probes], images.distances[in_probes]
    ranking = rank_features(probes, probe_ids, gallery, gallery_ids)
    if not ranking.mated.any():
        raise DataError(f"none of {len(ranking)} probes has a frontal image of its subject: nobody can be identified")
    similarity = np.concatenate(list(similarity_blocks(probes, gallery)))  # (P, G); 1,950 x 130 in SCface
    same = probe_ids[:, None] == gallery_ids
    rows = {f"d{d}": distances == d for d in DISTANCES}
    return {
        "rank1": {name: _rank1(ranking, mask) for name, mask in rows.items()},
        "rank1_camera": {
            f"cam{c}": {name: _rank1(ranking, mask & (cameras == c)) for name, mask in rows.items()}
            | {"all": _rank1(ranking, cameras == c)}
            for c in CAMERAS
        },
        "mated_probes": {name: int(ranking.mated[mask].sum()) for name, mask in rows.items()},
        "similarity": {
            name: _similarity(similarity[mask], same[mask]) | _lead(ranking, mask) for name, mask in rows.items()
        },
        "histogram_edges": EDGES.tolist(),
    }


def improvement(results: dict[str, Any], against: dict[str, Any]) -> dict[str, Any]:
    """Differences of two results of `score_scface`, the first minus the second, at each distance.

    Returns:
        {"d1": {"rank1", "same", "other", "gap", "nearest", "lead", "lead_ratio"}, ...}: of rank-1, and of the mean
        similarities; `lead_ratio` is the relative one, the rise of `lead` as a share of what it was (0.5: half as much
        again), which Fig. 5 prints in percent. None where one of both has no number, `lead_ratio` also where `against`
        is not ahead at all.
    """

    def rise(key: str, pick: Callable[[dict[str, Any], str], float | None]) -> float | None:
        ours, theirs = (pick(scores, key) for scores in (results, against))
        return None if ours is None or theirs is None else ours - theirs

    picks = {
        "rank1": lambda scores, key: scores["rank1"][key],
        "same": lambda scores, key: scores["similarity"][key]["same"]["mean"],
        "other": lambda scores, key: scores["similarity"][key]["other"]["mean"],
        "gap": lambda scores, key: scores["similarity"][key]["gap"],
        "nearest": lambda scores, key: scores["similarity"][key]["nearest"]["mean"],
        "lead": lambda scores, key: scores["similarity"][key]["lead"],
    }
    return {
        key: {name: rise(key, pick) for name, pick in picks.items()}
        | {"lead_ratio": relative_rise(*(scores["similarity"][key]["lead"] for scores in (results, against)))}
        for key in results["rank1"]
    }


def relative_rise(lead: float | None, before: float | None) -> float | None:
    """The rise from `before` to `lead` as a share of `before`; None where one is missing or `before` is not positive.

    Example:
        >>> relative_rise(0.35, 0.05), relative_rise(0.35, -0.05)
        (6.0, None)
    """
    return None if lead is None or before is None or before <= 0 else round((lead - before) / before, 12)


def _rank1(ranking: Ranking, mask: np.ndarray) -> float | None:
    chosen = ranking.select(mask)
    return rank_rate(chosen, 1) if chosen.mated.any() else None


def _similarity(similarity: np.ndarray, same: np.ndarray) -> dict[str, Any]:
    both = {"same": _distribution(similarity[same]), "other": _distribution(similarity[~same])}
    means = both["same"]["mean"], both["other"]["mean"]
    return {**both, "gap": None if None in means else means[0] - means[1]}


def _lead(ranking: Ranking, mask: np.ndarray) -> dict[str, Any]:
    """Of the probes with a mate: the most similar other, and how far the own image is ahead of it in the mean."""
    chosen = ranking.select(mask & ranking.mated & np.isfinite(ranking.other))
    nearest, own = _distribution(chosen.other), _distribution(chosen.mate)
    return {"nearest": nearest, "lead": own["mean"] - nearest["mean"] if nearest["count"] else None}


def _distribution(values: np.ndarray) -> dict[str, Any]:
    values = values.astype(np.float64).clip(-1, 1)  # a cosine in float32 may be a rounding beyond
    histogram = np.histogram(values, EDGES)[0].tolist()
    if not len(values):
        return {"mean": None, "std": None, "count": 0, "histogram": histogram}
    return {"mean": float(values.mean()), "std": float(values.std()), "count": len(values), "histogram": histogram}
