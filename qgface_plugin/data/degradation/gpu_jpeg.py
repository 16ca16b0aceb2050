"""JPEG artefacts of a batch of small images of different sizes, without making a JPEG: baseline, 4:2:0 chroma.

Follows libjpeg in what changes pixels (ITU-T T.81; JFIF): rounded YCbCr, chroma averaged over 2 x 2 pixels, the DCT of
blocks of 8 x 8 rounded to multiples of the tables of Annex K, smooth ("fancy") chroma on the way back. Entropy coding
loses nothing and is left out. B images in (M, M) pixels, M a multiple of 16, image i in the first n_i rows and columns.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LUMINANCE = """16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
    18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"""
CHROMINANCE = """17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
    99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99"""
TO_YCC = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))
TO_RGB = ((0.0, 1.402), (-0.344136286, -0.714136286), (1.772, 0.0))  # of Cb, Cr; each has the whole of Y


class JpegBatch:
    """The artefacts at one quality on one device.

    Args:
        quality: 1 to 100.
        size: M in pixels, a multiple of 16: images lie within (M, M).
        device: of the images.

    Example:
        >>> jpeg = JpegBatch(75, 16, torch.device("cpu"))
        >>> grey = torch.full((2, 3, 16, 16), 128.0)
        >>> torch.equal(jpeg(grey, torch.tensor([16, 9])), grey)
        True
    """

    def __init__(self, quality: int, size: int, device: torch.device) -> None:
        assert size % 16 == 0, size
        self.size = size
        tables = [quantisation(text, quality) for text in (LUMINANCE, CHROMINANCE)]
        self.luminance, self.chrominance = (table.to(device) for table in tables)
        self.dct, self.to_ycc, self.to_rgb = (
            torch.tensor(rows, dtype=torch.float32, device=device) for rows in (_dct(), TO_YCC, TO_RGB)
        )
        self.smooth = torch.stack([_smooth(n, size) for n in range(size + 1)]).to(device)  # (M + 1, M, M / 2)
        column = torch.arange(size, device=device)
        self.down_bias = 1.0 + column[: size // 2] % 2  # 1, 2, 1, 2, ...: libjpeg's way not to darken
        self.up_bias = 8.0 - column % 2

    def __call__(self, images: Tensor, sides: Tensor) -> Tensor:
        """The images after compression.

        Args:
            images: whole numbers 0 to 255 in float32, (B, 3, M, M), that repeat row n_i - 1 below and column n_i - 1
                to the right.
            sides: int64 (B,), the n_i.

        Returns:
            as `images`; of use in the first n_i rows and columns.
        """
        half = self.size // 2
        ycc = torch.einsum("dc,bchw->bdhw", self.to_ycc, images).round()  # Cb, Cr without their 128
        luma = self._quantised(ycc[:, :1] - 128, self.luminance) + 128
        sums = ycc[:, 1:].unflatten(3, (half, 2)).unflatten(2, (half, 2)).sum(dim=(3, 5))  # (B, 2, M / 2, M / 2)
        chroma = ((sums + self.down_bias) / 4).floor()
        # Below the image libjpeg repeats the last averaged row, to the right the last column before averaging.
        last = (sides + 1) // 2 - 1
        rows = torch.minimum(torch.arange(half, device=sides.device), last[:, None])  # (B, M / 2)
        chroma = chroma.take_along_dim(rows[:, None, :, None], dim=2)
        chroma = self._quantised(chroma, self.chrominance).round().clamp(-128, 127)
        smooth = self.smooth[sides][:, None]  # (B, 1, M, M / 2)
        chroma = ((smooth @ chroma @ smooth.mT + self.up_bias) / 16).floor()
        rgb = luma.round().clamp(0, 255) + torch.einsum("cd,bdhw->bchw", self.to_rgb, chroma).round()
        return rgb.clamp(0, 255)

    def _quantised(self, plane: Tensor, table: Tensor) -> Tensor:
        """(B, C, m, m) through DCT, rounding to multiples of `table`, and inverse DCT; not yet rounded."""
        blocks = plane.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)  # (B, C, m / 8, m / 8, 8, 8)
        eighths = (self.dct @ blocks @ self.dct.mT * 8).round()  # libjpeg's precision, so halves are frequent
        kept = eighths.sign() * (eighths.abs() / (8 * table) + 0.5).floor() * table  # and leave zero
        return (self.dct.mT @ kept @ self.dct).transpose(3, 4).flatten(4, 5).flatten(2, 3)


def quantisation(base: str, quality: int) -> Tensor:
    """libjpeg's scaling of a table of Annex K, float32 (8, 8)."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    values = [min(max((int(number) * scale + 50) // 100, 1), 255) for number in base.split()]
    return torch.tensor(values, dtype=torch.float32).view(8, 8)


def _dct() -> list[list[float]]:
    """The orthonormal DCT-II of 8 samples."""
    rows = [[math.cos((2 * x + 1) * u * math.pi / 16) / 2 for x in range(8)] for u in range(8)]
    return [[value / math.sqrt(2) for value in rows[0]], *rows[1:]]


def _smooth(side: int, size: int) -> Tensor:
    """4 times the way from the ceil(side / 2) chroma samples to `size` pixels: 3/4 the nearer and 1/4 the farther."""
    matrix, count = torch.zeros(size, size // 2), (side + 1) // 2
    for row in range(size if count else 0):
        near = min(row // 2, count - 1)
        far = min(max(near + (1 if row % 2 else -1), 0), count - 1)
        matrix[row, near] += 3
        matrix[row, far if count > 2 else near] += 1  # libjpeg repeats two samples or fewer
    return matrix
