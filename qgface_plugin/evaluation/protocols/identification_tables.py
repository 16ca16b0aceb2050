"""Tables of SCface and TinyFace for people: rates in percent, similarities as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...utils.command_line import text_table


def scface_table(results: Mapping[str, Any], improvement: Mapping[str, Any] | None = None) -> str:
    """Rank-1 of all cameras and of each, and mean similarities, one column per distance.

    Args:
        results: of `score_scface`.
        improvement: the gain over another model, of `scface.improvement`; None: without it.
    """
    distances = list(results["rank1"])
    rows = [["rank-1 (%)", *(_percent(results["rank1"][d]) for d in distances)]]
    for camera, rates in results["rank1_camera"].items():
        rows.append([f"  {camera}", *(_percent(rates[d]) for d in distances)])
    rows.append(["probes", *(f"{results['mated_probes'][d]:,}" for d in distances)])
    similarity = results["similarity"]
    for kind, label in (("same", "similarity, same person"), ("other", "similarity, others")):
        rows.append([label, *(_mean_and_std(similarity[d][kind]) for d in distances)])
    rows.append(["difference", *(_number(similarity[d]["gap"]) for d in distances)])
    rows.append(["most similar other", *(_mean_and_std(similarity[d]["nearest"]) for d in distances)])
    rows.append(["lead over it", *(_number(similarity[d]["lead"]) for d in distances)])
    if improvement is not None:
        rows.append(["gain in rank-1 (%)", *(_percent(improvement[d]["rank1"], sign="+") for d in distances)])
        for kind, label in (("same", "same person"), ("other", "others"), ("gap", "difference"), ("lead", "lead")):
            rows.append([f"gain, {label}", *(_number(improvement[d][kind], sign="+") for d in distances)])
        rows.append(["gain in lead (%)", *(_percent(improvement[d]["lead_ratio"], sign="+") for d in distances)])
    return text_table(["", *distances], rows)


def tinyface_table(results: Mapping[str, Any]) -> str:
    """Rank-k and mAP in the whole gallery and without distractors, with the sizes of both galleries."""
    counts, alone = results["counts"], results["without_distractors"]
    ranks = list(results["rank"])
    rows = [
        [label, f"{counts['mated_probes']:,}", f"{gallery:,}", *(_percent(rates["rank"][k]) for k in ranks)]
        + [_percent(rates["map"])]
        for label, gallery, rates in (
            ("with distractors", counts["matches"] + counts["distractors"], results),
            ("without", counts["matches"], alone),
        )
    ]
    return text_table(["percent", "probes", "gallery", *(f"rank-{k}" for k in ranks), "mAP"], rows)


def _percent(rate: float | None, sign: str = "") -> str:
    return "-" if rate is None else f"{100 * rate:{sign}.2f}"


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.3f}"


def _mean_and_std(part: Mapping[str, Any]) -> str:
    return "-" if part["mean"] is None else f"{part['mean']:.3f} +- {part['std']:.3f}"
