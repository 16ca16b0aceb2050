"""TinyFace: closed-set identification of low-resolution faces among 153,428 distractors."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ...models import FaceModel
from ..embed_files import FileFeatures
from ..metrics.identification import Ranking, cmc, mean_average_precision, rank_features, rank_rate
from .aligned_files import evaluate_files
from .tinyface_files import TinyfaceSet

RANKS = (1, 5, 20)


def evaluate_tinyface(
    model: FaceModel, images: TinyfaceSet, gallery_model: FaceModel | None = None, **options: Any
) -> tuple[dict[str, Any], list[str]]:
    """Embed the set and score it.

    Memory: the features (2 kB per image at d = 512), a few batches of pixels, and a block of similarities.

    Args:
        model: the encoder.
        images: probes, gallery and distractors.
        gallery_model: the model that the gallery, distractors included, was enrolled with; None: `model`.
        options: as for `evaluate_files`.

    Returns:
        Results as `score_tinyface` has them, with the inventory, and warnings.

    Raises:
        DataError: as `evaluate_files`.
    """
    paths = [*images.probes, *images.matches, *images.distractors]
    label = options.get("progress")
    score = partial(score_tinyface, images, progress=label and f"{label} search")
    gallery = None if gallery_model is None else (gallery_model, np.arange(len(paths)) >= len(images.probes))
    return evaluate_files(model, paths, score, images.inventory, gallery, **options)


def score_tinyface(images: TinyfaceSet, embedded: FileFeatures, progress: str | None = None) -> dict[str, Any]:
    """The numbers of TinyFace, fractions.

    Args:
        images: P probes, M gallery matches and their distractors.
        embedded: features of the probe files, match files and distractor files in this order.
        progress: label of a progress bar; None shows none.

    Returns:
        `rank` {"1", "5", "20"}; `map`, mean average precision; `cmc`, rank-1 to rank-20; `without_distractors`, the
        same rank and map with a gallery of the matches alone; `counts`: probes, mated_probes (the rates are over
        these), matches, distractors.

    Raises:
        DataError: nobody can be identified, or features that are not finite.
    """
    p, m = len(images.probes), len(images.matches)
    features, readable = embedded.features, embedded.readable
    ids = np.concatenate([images.probe_ids, images.match_ids, np.full(len(images.distractors), -1)])
    if not readable.all():
        features, ids = features[readable], ids[readable]
        p, m = int(readable[:p].sum()), int(readable[p : p + m].sum())
    probes, probe_ids = features[:p], ids[:p]
    whole = rank_features(probes, probe_ids, features[p:], ids[p:], progress)
    alone = rank_features(probes, probe_ids, features[p : p + m], ids[p : p + m])
    return {
        **_rates(whole),
        "cmc": cmc(whole, max(RANKS)).tolist(),
        "without_distractors": _rates(alone),
        "counts": {
            "probes": p,
            "mated_probes": int(whole.mated.sum()),
            "matches": m,
            "distractors": len(ids) - p - m,
        },
    }


def _rates(ranking: Ranking) -> dict[str, Any]:
    return {"rank": {str(k): rank_rate(ranking, k) for k in RANKS}, "map": mean_average_precision(ranking)}
