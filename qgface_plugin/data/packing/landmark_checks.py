"""Checks of landmarks: whether five points can be a face's, by how a similarity transform fits them to the template.

The residual is the root of the mean squared distance in pixels of the 112 x 112 template. Of frontal faces it is about
3 and seldom above 8; turned away by 90 degrees a face has 17. In another order than the template's, landmarks have 13
and more, and warp to pictures of no face.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from ...utils.errors import DataError
from .alignment import TEMPLATE

GOOD = 10.0  # px; above it, other orders are tried
WORST = 19.0  # px; no face has it, however it is turned
LARGEST_SCALE = 20.0  # of a face whose eyes are two pixels apart
TURNED = 60.0  # degrees
_BETTER, _MUCH_BETTER = 0.6, 0.5  # of the residual: in one of ORDERS, in any order of the points
_SAMPLE = 1000  # rows of a file that are compared with other orders

_SIDES = (2, 3, 0, 1, 4, 5, 8, 9, 6, 7)
_BY_AXIS = (0, 5, 1, 6, 2, 7, 3, 8, 4, 9)


def _after(first: tuple[int, ...], then: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(first[place] for place in then)


_SWAPPED = tuple(place ^ 1 for place in range(10))
# name -> where in a row of ten numbers x1, y1, ..., x5, y5 stand
ORDERS: dict[str, tuple[int, ...]] = {
    "xy": tuple(range(10)),
    "sides": _SIDES,
    "x-then-y": _BY_AXIS,
    "x-then-y-sides": _after(_BY_AXIS, _SIDES),
    "yx": _SWAPPED,
    "yx-sides": _after(_SWAPPED, _SIDES),
    "y-then-x": _after(_BY_AXIS, _SWAPPED),
    "y-then-x-sides": _after(_after(_BY_AXIS, _SWAPPED), _SIDES),
}
_WORDS = {
    "sides": "with left and right exchanged (the person's left for the image's, or a mirrored photograph's landmarks)",
    "x-then-y": "as five x before five y",
    "x-then-y-sides": "as five x before five y, with left and right exchanged",
    "yx": "as y before x",
    "yx-sides": "as y before x, with left and right exchanged",
    "y-then-x": "as five y before five x",
    "y-then-x-sides": "as five y before five x, with left and right exchanged",
}


class Fit(NamedTuple):
    """How landmarks fit the template.

    Attributes:
        residual: (N,), see the module.
        scale: (N,), pixels of the template for one of the landmarks' units; inf for points that are one.
        angle: (N,), degrees by which the face is turned back, -180 to 180.
    """

    residual: np.ndarray
    scale: np.ndarray
    angle: np.ndarray


def fit(points: np.ndarray) -> Fit:
    """Fit landmarks, (N, 5, 2) and finite, to the template of 112 x 112."""
    places = points[..., 0].astype(np.float64) + 1j * points[..., 1]
    places = places - places.mean(axis=-1, keepdims=True)
    target = TEMPLATE[:, 0].astype(np.float64) + 1j * TEMPLATE[:, 1]
    target = target - target.mean()
    spread = (np.abs(places) ** 2).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        turn = (places.conj() * target).sum(axis=-1) / spread
        residual = np.sqrt((np.abs(turn[..., None] * places - target) ** 2).mean(axis=-1))
    one = spread == 0
    return Fit(np.where(one, 0, residual), np.where(one, np.inf, np.abs(turn)), np.degrees(np.angle(turn)))


def complaint(points: np.ndarray) -> str | None:
    """What speaks against five points being a face's landmarks, for messages; None for nothing, or for one place five
    times, which no transform fits.

    Args:
        points: (5, 2), x and y in pixels.
    """
    reason = _reason(np.asarray(points))
    return None if reason is None else reason.text


def check_landmarks(landmarks: np.ndarray, names: list[str], where: str, option: str = "") -> None:
    """Refuse landmarks of a whole file when most of its rows cannot be landmarks, as in a file of another order.

    Args:
        landmarks: (N, 5, 2), finite.
        names: of the images.
        where: how the message names the file.
        option: of the command line that takes a name of ORDERS.

    Raises:
        DataError: says which order the file seems to have.
    """
    suspects = np.flatnonzero(~(_plain(fit(landmarks))))
    if 2 * len(suspects) <= len(landmarks):
        return
    looked_at = suspects[np.linspace(0, len(suspects) - 1, min(_SAMPLE, len(suspects)), dtype=np.int64)]
    found = [(row, reason) for row in looked_at.tolist() if (reason := _reason(landmarks[row])) is not None]
    share = len(found) / len(looked_at) * len(suspects) / len(landmarks)
    if share <= 0.5:
        return
    kinds = [reason.kind for _, reason in found]
    kind = max(dict.fromkeys(kinds), key=kinds.count)
    row, reason = next(pair for pair in found if pair[1].kind == kind)
    remedy = f"; if so, {option} {kind}" if option and kind in ORDERS else ""
    raise DataError(
        f"{where}: {100 * share:.0f} % of its {len(landmarks)} landmarks are no face's in this order, such as those of "
        f"{names[row]}: {reason.text}{remedy}"
    )


class _Reason(NamedTuple):
    kind: str  # a name of ORDERS, or other words
    text: str


def _plain(found: Fit) -> np.ndarray:
    """Whether there is nothing to look into."""
    return np.isinf(found.scale) | ((found.residual <= GOOD) & (found.scale <= LARGEST_SCALE))


def _reason(points: np.ndarray) -> _Reason | None:
    if points.shape != (5, 2) or points.dtype.kind not in "fiu" or not np.isfinite(points).all():
        return None  # `similarity` has its own words for these
    found = fit(points[None])
    if _plain(found)[0]:
        return None
    if found.scale[0] > LARGEST_SCALE:
        height = np.ptp(points[:, 1])
        return _Reason(
            "fractions",
            f"landmarks are {height:.2g} pixels high from the eyes to the mouth: fractions of the image's width and "
            "height? Pixels are expected",
        )
    residual = float(found.residual[0])
    badly = f"landmarks fit the template badly ({residual:.0f} px)"
    other = _better_order(points, residual)
    if other is not None:
        return _Reason(other[0], f"{badly}: they fit ({other[2]:.1f} px) {other[1]}")
    if residual > WORST:
        return _Reason("none", f"{badly}: eyes, nose tip and corners of the mouth are expected, x and y in pixels")
    return None


def _better_order(points: np.ndarray, residual: float) -> tuple[str, str, float] | None:
    """Kind, words and residual of the order in which the points are a face's; None when there is none."""
    row = points.reshape(10)
    known = [name for name in ORDERS if name != "xy"]
    permutations = list(itertools.permutations(range(5)))
    candidates = np.concatenate(
        [np.stack([row[list(ORDERS[name])] for name in known]).reshape(-1, 5, 2), points[np.array(permutations)]]
    )
    found = fit(candidates)
    bound = np.where(np.arange(len(candidates)) < len(known), _BETTER, _MUCH_BETTER) * residual
    fitting = np.flatnonzero(found.residual <= np.minimum(bound, GOOD))
    if not len(fitting):
        return None

    def rank(i: int) -> tuple[bool, int, float, float]:  # known orders first, upright faces before turned ones
        angle = abs(found.angle[i])
        quarter = 0 if angle <= TURNED else 1 if angle >= 180 - TURNED else 2
        return i >= len(known), quarter, round(found.residual[i]), angle

    best = min(fitting.tolist(), key=rank)
    better = float(found.residual[best])
    if best < len(known):
        if abs(found.angle[best]) > 180 - TURNED:
            return "upside down", "upside down and mirrored: is y counted from the lower edge?", better
        return known[best], _WORDS[known[best]], better
    order = ", ".join(str(1 + place) for place in permutations[best - len(known)])
    return f"points {order}", f"in the order of points {order}", better


def read_in_order(values: list[float], order: str) -> np.ndarray:
    """A row of ten numbers as float32 (5, 2), x and y in the template's order.

    Args:
        values: the row.
        order: a name of ORDERS, which the row has.
    """
    return np.array([values[place] for place in ORDERS[order]], dtype=np.float32).reshape(5, 2)
