"""Pen: fills and strokes in a face's coordinates, seen under a pose.

Coordinates: pixels of a 112 x 112 crop, x to the right of the face's middle (column 55.75), y down from the top.
Colours: float RGB, 0 to 255.
"""

from __future__ import annotations

import cv2
import numpy as np

SIDE = 112
ZOOM = 2  # drawn at twice the size, to be shrunk
MIDDLE, CENTRE = 55.75, 60.0  # the column of x = 0, and the row that the head rolls about
TURN = np.linspace(0.0, 2.0 * np.pi, 28, endpoint=False)
COSINE, SINE = np.cos(TURN), np.sin(TURN)
BINARY_PLACES = 4  # of OpenCV's fixed-point coordinates


class Pen:
    """Collects shapes and draws them, in their order, with `draw`: one transformation for all their points.

    Args:
        yaw: turn of the head, -1 to 1; moves what stands out sideways and narrows the face.
        roll: radians, counter-clockwise.
        scale: 1 for the template's size.
        shift: (x, y) in pixels.

    Example:
        >>> pen = Pen(yaw=0.0, roll=0.0, scale=1.0, shift=(0.0, 0.0))
        >>> canvas = np.zeros((ZOOM * SIDE, ZOOM * SIDE, 3), np.uint8)
        >>> pen.oval(0.0, CENTRE, 20.0, 30.0, np.array([200.0, 150.0, 120.0]))
        >>> pen.draw(canvas)
        >>> canvas[round(ZOOM * CENTRE), round(ZOOM * MIDDLE)].tolist()
        [200, 150, 120]
    """

    def __init__(self, yaw: float, roll: float, scale: float, shift: tuple[float, float]) -> None:
        self.yaw, self.roll, self.scale, self.shift = yaw, roll, scale, shift
        self._shapes: list[tuple[list[float], int]] = []  # colour, line width (0 filled)
        self._x: list[np.ndarray] = []
        self._y: list[np.ndarray] = []
        self._depth: list[float] = []

    def fill(self, x: np.ndarray, y: np.ndarray, colour: np.ndarray, depth: float = 0.0) -> None:
        """A polygon; `depth` in pixels is how far it stands out of the head's axis."""
        self._add(x, y, colour, depth, 0)

    def stroke(self, x: np.ndarray, y: np.ndarray, colour: np.ndarray, weight: float, depth: float = 0.0) -> None:
        """An open line, `weight` pixels wide."""
        self._add(x, y, colour, depth, max(1, round(ZOOM * weight)))

    def oval(self, x: float, y: float, rx: float, ry: float, colour: np.ndarray, depth: float = 0.0) -> None:
        """A filled ellipse with the radii rx, ry."""
        self._add(x + rx * COSINE, y + ry * SINE, colour, depth, 0)

    def draw(self, canvas: np.ndarray) -> None:
        """Draw all shapes onto `canvas`, uint8 (ZOOM * SIDE, ZOOM * SIDE, 3)."""
        counts = [len(x) for x in self._x]
        x, y, depth = np.concatenate(self._x), np.concatenate(self._y), np.repeat(self._depth, counts)
        x = x * (1.0 - 0.06 * abs(self.yaw)) + self.yaw * (depth - 0.002 * x * x)
        y = y - CENTRE
        cosine, sine = self.scale * np.cos(self.roll), self.scale * np.sin(self.roll)
        points = np.empty((len(x), 1, 2))
        points[:, 0, 0] = MIDDLE + self.shift[0] + cosine * x + sine * y
        points[:, 0, 1] = CENTRE + self.shift[1] - sine * x + cosine * y
        points = np.rint(ZOOM * (1 << BINARY_PLACES) * points).astype(np.int32)
        start = 0
        for count, (colour, weight) in zip(counts, self._shapes, strict=True):
            shape = [points[start : start + count]]
            start += count
            if weight:
                cv2.polylines(canvas, shape, False, colour, weight, cv2.LINE_AA, BINARY_PLACES)
            else:
                cv2.fillPoly(canvas, shape, colour, cv2.LINE_AA, BINARY_PLACES)

    def _add(self, x: np.ndarray, y: np.ndarray, colour: np.ndarray, depth: float, weight: int) -> None:
        self._shapes.append((colour.tolist(), weight))
        self._x.append(x)
        self._y.append(y)
        self._depth.append(depth)
