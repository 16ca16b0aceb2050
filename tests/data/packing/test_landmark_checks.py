"""Landmarks in other orders and units are told from faces, however these are turned."""

from __future__ import annotations

import re

import numpy as np
import pytest

from qgface_plugin.data.packing.alignment import TEMPLATE, similarity
from qgface_plugin.data.packing.landmark_checks import (
    GOOD,
    ORDERS,
    WORST,
    check_landmarks,
    complaint,
    fit,
    read_in_order,
)
from qgface_plugin.utils.errors import DataError

SOLID = np.array([[-31, 0, 0], [31, 0, 0], [0, 36, 35], [-26, 72, 8], [26, 72, 8.0]])  # a head's five points, mm


def seen(yaw: float = 0, pitch: float = 0, roll: float = 0, seed: int = 0) -> np.ndarray:
    """The head turned by degrees, in pixels of a photograph, with the noise of a detector."""
    rng = np.random.default_rng(seed)
    y, x, z = np.radians([yaw, pitch, roll])
    turn_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    turn_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    turn_z = np.array([[np.cos(z), -np.sin(z)], [np.sin(z), np.cos(z)]])
    flat = (SOLID @ turn_y.T @ turn_x.T)[:, :2] @ turn_z.T
    return (flat + rng.normal(0, 1.5, (5, 2))) * rng.uniform(0.3, 4) + rng.uniform(50, 400, 2)


def written(points: np.ndarray, order: str) -> np.ndarray:
    """Landmarks as a file in that order would be read by one who expects the usual order."""
    row = np.empty(10)
    row[list(ORDERS[order])] = points.ravel()
    return row.reshape(5, 2)


FACES = [seen(yaw, pitch, roll, seed) for seed, (yaw, pitch, roll) in enumerate(
    (yaw, pitch, roll) for yaw in (-40, -20, 0, 20, 40) for pitch in (-20, 0, 20) for roll in (-30, 0, 30)
)]  # fmt: skip


def test_the_fit_is_that_of_the_alignment() -> None:
    pytest.importorskip("skimage")
    for points in FACES[::7]:
        matrix = similarity(points)
        distances = np.linalg.norm(points @ matrix[:, :2].T + matrix[:, 2] - TEMPLATE, axis=1)
        found = fit(points[None])
        assert found.residual[0] == pytest.approx(np.sqrt((distances**2).mean()), rel=1e-5)
        assert found.scale[0] == pytest.approx(np.hypot(*matrix[:, 0]), rel=1e-5)
        assert found.angle[0] == pytest.approx(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])), abs=1e-3)


def test_faces_pass_however_they_are_turned() -> None:
    assert all(complaint(points) is None for points in FACES)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        profile = seen(rng.choice([-1, 1]) * rng.uniform(60, 90), rng.uniform(-20, 20), rng.uniform(-30, 30), seed)
        assert fit(profile[None]).residual[0] < WORST and complaint(profile) is None
    check_landmarks(np.stack(FACES), [""] * len(FACES), "a.csv")


@pytest.mark.parametrize("order", [order for order in ORDERS if order not in ("xy", "yx-sides")])
def test_other_orders_are_recognised(order: str) -> None:
    rows = np.stack([written(points, order) for points in FACES])
    assert fit(rows).residual.min() > GOOD
    found = [complaint(row) or "" for row in rows]
    told = [bool(re.search(r"fit the template badly \(\d\d px\): they fit \(\d.\d px\)", words)) for words in found]
    assert sum(told) > 0.95 * len(rows)  # the most turned faces fit badly in any order
    with pytest.raises(DataError, match=rf"a.csv: \d+ % of its 45 landmarks .*if so, --order {order}$"):
        check_landmarks(rows, [f"{row}.jpg" for row in range(len(rows))], "a.csv", "--order")
    for row, points in zip(rows, FACES, strict=True):
        assert np.allclose(read_in_order(row.ravel().tolist(), order), points, atol=1e-3)


def test_mirrored_and_upside_down() -> None:
    for points in FACES[1::3]:  # heads held upright: else it may as well be y before x
        assert "left and right exchanged" in complaint(points * [-1, 1] + [900, 0])
        assert "is y counted from the lower edge?" in complaint(points * [1, -1] + [0, 900])
    turned = np.stack(FACES) @ np.array([[-1, 0], [0, -1]]) + 900.0
    assert (np.abs(fit(turned).angle) > 120).all() and all(complaint(points) is None for points in turned)


def test_points_in_an_order_of_its_own() -> None:
    assert "in the order of points 2, 3, 1, 4, 5" in complaint(FACES[20][[2, 0, 1, 3, 4]])


@pytest.mark.parametrize("width", [1.0, 2.0])
def test_fractions(width: float) -> None:
    rows = np.stack(FACES)
    rows = width * (rows - rows.min() + 5) / np.ptp(rows) / 1.1
    assert all("fractions of the image's width and height?" in complaint(points) for points in rows)
    with pytest.raises(DataError, match="100 % of its 45 landmarks .*fractions of the image"):
        check_landmarks(rows, ["x"] * len(rows), "a.csv", "--order")


def test_nonsense() -> None:
    rng = np.random.default_rng(0)
    rows = rng.uniform(0, 200, (200, 5, 2))
    worst = rows[fit(rows).residual > WORST]
    assert len(worst) > 50 and all("fit the template badly" in complaint(points) for points in worst)
    for points in (np.ones((5, 2)), np.full((5, 2), np.nan), np.zeros((4, 2))):  # the alignment's own messages
        assert complaint(points) is None


def test_a_file_is_refused_when_most_of_it_is_wrong() -> None:
    rows = [written(points, "x-then-y-sides") if row % 2 else points for row, points in enumerate(FACES)]
    check_landmarks(np.stack(rows), [f"{row}.jpg" for row in range(45)], "a.csv")  # 22 of 45 are wrong
    with pytest.raises(DataError, match="51 % of its 43 landmarks are no face's in this order, such as those of 3.jpg"):
        check_landmarks(np.stack(rows[3:] + rows[1:2]), [f"{row}.jpg" for row in [*range(3, 45), 1]], "a.csv")


def test_a_large_file_takes_no_longer_than_its_fit() -> None:
    rows = np.tile(np.stack([written(points, "x-then-y") for points in FACES]), (500, 1, 1))
    with pytest.raises(DataError, match=r"\d+ % of its 22500 landmarks"):
        check_landmarks(rows, ["x"] * len(rows), "a.csv")
