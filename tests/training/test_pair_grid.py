"""The picture of pairs: which frame has which colour, what is drawn where."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from qgface_plugin.training.pair_grid import FRAME, GAP, HIGH, LOW, MARGIN, STRIP, pair_grid

SIDE = 112
CELL_WIDTH = SIDE + 4 * FRAME + 2 * GAP
VIEW_HEIGHT = SIDE + 2 * FRAME + STRIP
CELL_HEIGHT = 2 * FRAME + STRIP + GAP + 2 * VIEW_HEIGHT


def views(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    return tuple(torch.randint(0, 256, (n, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator) for _ in range(2))


def cell(grid: np.ndarray, index: int, columns: int, pairs: int) -> np.ndarray:
    rows = -(-pairs // columns)
    top = len(grid) - (rows - index // columns) * (CELL_HEIGHT + MARGIN)
    left = MARGIN + index % columns * (CELL_WIDTH + MARGIN)
    return grid[top : top + CELL_HEIGHT, left : left + CELL_WIDTH]


def view(found: np.ndarray, which: int) -> np.ndarray:
    """A framed view of a cell: 0 the original, 1 the degraded one."""
    top, left = FRAME + STRIP + GAP + which * VIEW_HEIGHT, FRAME + GAP
    return found[top : top + SIDE + 2 * FRAME, left : left + SIDE + 2 * FRAME]


def test_every_view_and_its_frames():
    b = 0.2
    u_high = torch.tensor([0.9, 0.9, 0.1, 0.1, 0.2, 0.3])
    u_low = torch.tensor([0.5, 0.2, 0.5, 0.0, 0.9, 0.21])
    high, low = views(6)
    grid = pair_grid(high, low, u_high, u_low, b, columns=4)
    assert grid.dtype == np.uint8 and grid.shape[2] == 3 and grid.shape[1] == MARGIN + 4 * (CELL_WIDTH + MARGIN)
    for i in range(6):
        found = cell(grid, i, 4, 6)
        pair_colour = LOW if min(u_high[i], u_low[i]) <= torch.tensor(b) else HIGH
        for edge in (found[:, :FRAME], found[:, -FRAME:], found[-FRAME:], found[:FRAME]):
            assert (edge == pair_colour).all(), i
        for which, images, u in ((0, high, u_high), (1, low, u_low)):
            framed = view(found, which)
            assert np.array_equal(framed[FRAME:-FRAME, FRAME:-FRAME], images[i].permute(1, 2, 0).numpy()), (i, which)
            colour = HIGH if u[i] > torch.tensor(b) else LOW
            for edge in (framed[:FRAME], framed[-FRAME:], framed[:, :FRAME], framed[:, -FRAME:]):
                assert (edge == colour).all(), (i, which)


def test_the_number_under_a_view_changes_with_u():
    high, low = views(1)
    one = cell(pair_grid(high, low, [0.91], [0.52], 0.2), 0, 1, 1)
    two = cell(pair_grid(high, low, [0.91], [0.57], 0.2), 0, 1, 1)
    rows = np.flatnonzero((one != two).any(axis=(1, 2)))
    title, label = rows[rows < FRAME + STRIP], rows[rows >= FRAME + STRIP]
    assert len(title) and label.min() >= CELL_HEIGHT - FRAME - STRIP  # the pair's minimum, and the lower view's own


@pytest.mark.parametrize("n", [1, 3, 8, 9, 40])
def test_any_number_of_pairs(n):
    high, low = views(n)
    u = np.linspace(0, 1, n)
    grid = pair_grid(high.numpy(), low.numpy(), u, u, 0.2, columns=8, rows=2)
    shown = min(n, 16)
    last = cell(grid, shown - 1, min(8, n), shown)
    assert np.array_equal(view(last, 1)[FRAME:-FRAME, FRAME:-FRAME], low[shown - 1].permute(1, 2, 0).numpy())


def test_no_text_leaves_its_cell():
    high, low = views(1)
    found = cell(pair_grid(high, low, [0.0], [0.0], 0.2), 0, 1, 1)
    assert (found[:, -FRAME:] == LOW).all() and (found[FRAME + STRIP : -FRAME, -FRAME - GAP : -FRAME] == 255).all()
    title = found[FRAME : FRAME + STRIP]
    assert (title != LOW).any() and (title[:, -FRAME - 2 :] == LOW).all()


def test_the_arguments_stay_as_they_are():
    high, low = views(2)
    before = (high.clone(), low.clone())
    pair_grid(high, low, torch.tensor([0.1, 0.9]), torch.tensor([0.1, 0.9]), 0.2)
    assert torch.equal(high, before[0]) and torch.equal(low, before[1])


@pytest.mark.parametrize("shapes", [(0, 0, 0, 0), (2, 1, 2, 2), (2, 2, 1, 2), (2, 2, 2, 3)])
def test_shapes_that_do_not_belong_together(shapes):
    a, b, c, d = shapes
    with pytest.raises(ValueError, match="N at least 1"):
        pair_grid(np.zeros((a, 3, 8, 8), np.uint8), np.zeros((b, 3, 8, 8), np.uint8), np.zeros(c), np.zeros(d), 0.2)


def test_real_faces_make_a_png(lfw, tmp_path):
    from qgface_plugin.data.images import decode
    from qgface_plugin.data.sources.records import FaceRecords

    source = FaceRecords(lfw / "train")
    high = np.stack([decode(source.read(i)[0], source.where(i)) for i in range(0, 40, 8)])
    low = np.stack(
        [cv2.resize(cv2.resize(face, (16, 16), interpolation=cv2.INTER_AREA), (SIDE, SIDE)) for face in high]
    )
    u = np.linspace(0, 1, len(high))
    grid = pair_grid(high.transpose(0, 3, 1, 2), low.transpose(0, 3, 1, 2), u, u / 2, 0.2)
    assert cv2.imwrite(str(tmp_path / "grid.png"), grid[..., ::-1])
    assert len(np.unique(grid)) > 200


def test_a_run_without_a_queue_has_no_pair_in_the_contrast():
    """Frames as they are; the word in the title, and in the legend, is gone."""
    high, low = views(2)
    with_queue, without = (pair_grid(high, low, [0.9, 0.1], [0.5, 0.1], 0.2, contrasted=yes) for yes in (True, False))
    grids = [(cell(grid, i, 2, 2)) for i in range(2) for grid in (with_queue, without)]
    assert np.array_equal(grids[0], grids[1]) and not np.array_equal(grids[2], grids[3])
    title = slice(FRAME, FRAME + STRIP)
    assert np.array_equal(np.delete(grids[2], np.r_[title], 0), np.delete(grids[3], np.r_[title], 0))
    assert (grids[2][title] != LOW).any(-1).sum() > (grids[3][title] != LOW).any(-1).sum() > 0
