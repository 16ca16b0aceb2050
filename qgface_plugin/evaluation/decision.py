"""Decision on two faces: same, different, or cannot tell, by a threshold that an evaluation has measured.

A threshold is read from saved results (`qgface eval-pairs --json`), which say how many impostor pairs are behind it. It
is not interpolated between FARs, and a FAR that the impostors did not support has none: then nobody can tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..utils.errors import DataError
from .report.results import Result, read_result

SAME, DIFFERENT, UNKNOWN = "same", "different", "cannot tell"


@dataclass(frozen=True)
class Origin:
    """A threshold, and where it is from.

    Attributes:
        threshold: cosine from which on a pair is accepted; None where the impostors did not support the FAR.
        far: the FAR that was asked for.
        set: the set that it was measured on.
        impostors: number of impostor pairs behind it.
        false_accepts: of these, how many it accepts.
        reason: why there is none; empty where there is one.
        file: the results.
    """

    threshold: float | None
    far: float
    set: str
    impostors: int
    false_accepts: int
    reason: str
    file: str

    @property
    def words(self) -> str:
        """In one line."""
        if self.threshold is None:
            return f"none for FAR {self.far:g}: {self.reason} ({self.set}, {self.file})"
        return (
            f"{self.threshold:.4f}, FAR {self.far:g} on {self.set}: it accepts {self.false_accepts:,} of "
            f"{self.impostors:,} impostor pairs ({self.file})"
        )


@dataclass(frozen=True)
class Decision:
    """What is said of two faces.

    Attributes:
        verdict: "same", "different" or "cannot tell".
        reasons: why it cannot be told; else none.
    """

    verdict: str
    reasons: tuple[str, ...] = ()


def decide(
    cosine: float,
    origin: Origin | None,
    qualities: Mapping[str, float],
    limit: float | None = None,
    unit: str = "",
) -> Decision:
    """Same, different, or cannot tell.

    Args:
        cosine: of the two embeddings.
        origin: the threshold; None: there is none.
        qualities: of each photograph by its name.
        limit: lowest quality with which anything can be told; None: any.
        unit: of the qualities, for the reasons.

    Example:
        >>> origin = Origin(0.4, 1e-3, "lfw", 3000, 3, "", "pairs.json")
        >>> decide(0.4, origin, {"a": 30.0, "b": 4.0}).verdict
        'same'
        >>> decide(0.4, origin, {"a": 30.0, "b": 4.0}, 5, " %")
        Decision(verdict='cannot tell', reasons=('the quality of b is 4.0 %, below 5 %',))
    """
    reasons = [
        f"the quality of {name} is {quality:.1f}{unit}, below {limit:g}{unit}"
        for name, quality in qualities.items()
        if limit is not None and not quality >= limit
    ]
    if origin is None:
        reasons.append("there is no threshold: measure one by qgface eval-pairs, and name its results by --thresholds")
    elif origin.threshold is None:
        reasons.append(f"there is no threshold for FAR {origin.far:g}: {origin.reason}")
    if reasons:
        return Decision(UNKNOWN, tuple(reasons))
    assert origin is not None and origin.threshold is not None
    return Decision(SAME if cosine >= origin.threshold else DIFFERENT)


def threshold_in(path: str | Path, far: float, flip: bool, name: str | None = None) -> tuple[Origin, Result]:
    """The threshold of a FAR in saved results.

    Args:
        path: results of eval-pairs.
        far: a FAR that was evaluated.
        flip: whether the embeddings have those of the mirror images added.
        name: of the set; None: the one with the most impostor pairs.

    Returns:
        The threshold and the results.

    Raises:
        DataError: no results, none with thresholds, no such set, or another FAR; says which there are.
    """
    result = read_result(path)
    sets = result.results.get("sets")
    key = "thresholds" if flip else "single_thresholds"
    found = {
        set_name: points
        for set_name, entry in (sets.items() if isinstance(sets, dict) else ())
        if (points := _points(entry, key))
    }
    if not found:
        raise DataError(f"{path}: no thresholds in it: name what qgface eval-pairs has saved")
    if name is not None and name not in found:
        raise DataError(f"{path}: no set {name} in it but {', '.join(found)}")
    chosen = max(found, key=lambda one: found[one][0]["impostors"]) if name is None else name
    for point in found[chosen]:
        if abs(point["far"] - far) <= 1e-9 * max(far, 1e-12):
            return _origin(point, far, chosen, str(path)), result
    there = ", ".join(f"{point['far']:g}" for point in found[chosen])
    raise DataError(
        f"{path}: {chosen} was not evaluated at FAR {far:g} but at {there}: qgface eval-pairs --far {far:g} measures it"
    )


def _points(entry: Any, key: str) -> Sequence[Mapping[str, Any]]:
    kept = entry.get(key) if isinstance(entry, dict) else None
    points = kept.get("points") if isinstance(kept, dict) else None
    wanted: dict[str, Any] = {
        "far": (int, float),
        "threshold": (int, float, type(None)),
        "impostors": int,
        "false_accepts": int,
    }
    fits = isinstance(points, list) and all(
        isinstance(point, dict)
        and isinstance(point.get("reason"), str)
        and all(isinstance(point.get(name, ""), kinds) for name, kinds in wanted.items())
        for point in points
    )
    return points if fits and points else ()


def _origin(point: Mapping[str, Any], far: float, name: str, path: str) -> Origin:
    return Origin(point["threshold"], far, name, point["impostors"], point["false_accepts"], point["reason"], path)
