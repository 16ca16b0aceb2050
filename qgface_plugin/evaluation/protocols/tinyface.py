"""TinyFace: closed-set identification of low-resolution faces among 153,428 distractors."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...models import FaceModel
from ..embed_files import FileFeatures, embed_files
from ..metrics.identification import Ranking, cmc, mean_average_precision, rank_features, rank_rate
from .inventory import with_unreadable
from .tinyface_files import TinyfaceSet

RANKS = (1, 5, 20)


def evaluate_tinyface(
    model: FaceModel,
    images: TinyfaceSet,
    flip: bool = True,
    batch_size: int = 64,
    workers: int = 2,
    on_corrupt: str = "error",
    progress: str | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Embed the set and score it: (results, warnings), as `score_tinyface` has them. Arguments as for `embed_files`.

    With on_corrupt="skip", files that cannot be decoded are left out, counted and named in both.
    Memory: the features (2 kB an image at d = 512), a few batches of pixels, and a block of similarities.
    Raises DataError.
    """
    paths = [*images.probes, *images.matches, *images.distractors]
    embedded = embed_files(model, paths, flip, batch_size, workers, on_corrupt, progress)
    results = score_tinyface(images, embedded, progress and f"{progress} search")
    results["inventory"], warnings = with_unreadable(images.inventory, embedded.problems)
    return results, warnings


def score_tinyface(images: TinyfaceSet, embedded: FileFeatures, progress: str | None = None) -> dict[str, Any]:
    """The numbers of TinyFace, from the features of its probe files, match files and distractor files in this order.

    rank: {"1", "5", "20"}; map: mean average precision; cmc: rank-1 to rank-20; without_distractors: the same rank and
    map in the gallery matches alone; counts: probes, mated_probes (the rates are over these), matches, distractors.
    Raises DataError: nobody can be identified, or features that are not finite.
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
