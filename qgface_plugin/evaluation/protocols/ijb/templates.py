"""Templates of IJB: one unit feature of all images of each. N images, T templates, d = size of a feature.

A template is the sum over its medias (a photograph, or all frames of a video) of the mean over their images. It is made
a block of templates at a time, so that no second array of the features' size is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from ....models.embeddings import Embeddings
from ....models.pooling import segment_sums, unit_rows_
from ....utils.errors import ConfigError, DataError
from .metadata import IjbImages

ROWS = 4096  # images at a time: 8 MB of their features


@dataclass(frozen=True)
class Mode:
    """What of an image goes into its template, in the letters and the meaning of insightface's `ijb_evals.py`.

    Its N1 normalises every image's feature before they are averaged; N0 keeps the norm, as a weight. In
    `eval_ijbc.py` it is the other way round: what that calls TestMode(N1) is N0 here.

    Attributes:
        normalise: N, l2-normalise the image's feature.
        detector: D, weigh it with the face detector's score.
        flip: F, add the feature of the mirror image.

    Example:
        >>> Mode.named("N1D0F1").meaning
        'features normalised, no detector score, mirror image added'
        >>> Mode().name
        'N0D1F1'
    """

    normalise: bool = False
    detector: bool = True
    flip: bool = True

    @property
    def name(self) -> str:
        """Such as N0D1F1."""
        return f"N{self.normalise:d}D{self.detector:d}F{self.flip:d}"

    @property
    def meaning(self) -> str:
        """The three switches in words."""
        return ", ".join(
            (
                "features normalised" if self.normalise else "norm used",
                "detector score used" if self.detector else "no detector score",
                "mirror image added" if self.flip else "no mirror image",
            )
        )

    @classmethod
    def named(cls, name: str) -> Mode:
        """The mode with a name such as N0D1F1.

        Raises:
            ConfigError: there is none of that name.
        """
        for mode in ALL_MODES:
            if mode.name == name:
                return mode
        raise ConfigError(f"mode is {name!r}: it must be one of {', '.join(mode.name for mode in ALL_MODES)}")


DEFAULT_MODE = Mode()  # N0D1F1, the default of ijb_evals.py
ALL_MODES = tuple(Mode(*flags) for flags in product((True, False), repeat=3))  # in its order


@dataclass(frozen=True)
class Templates:
    """Unit features of T templates. A template whose features sum up to zero stays zero.

    Attributes:
        ids: (T,) int64, ascending.
        features: (T, d) float64.

    Example:
        >>> Templates(np.array([3, 7]), np.eye(2)).rows(np.array([7, 3, 7]), "pairs").tolist()
        [1, 0, 1]
    """

    ids: np.ndarray
    features: np.ndarray

    def rows(self, wanted: np.ndarray, what: str) -> np.ndarray:
        """The rows of templates.

        Args:
            wanted: ids, int of any shape.
            what: asks for them, for the message.

        Returns:
            int32 of that shape.

        Raises:
            DataError: an id without images.
        """
        lowest, highest = int(self.ids[0]), int(self.ids[-1])
        absent = np.zeros(0, np.int64)
        if int(wanted.min()) < lowest or int(wanted.max()) > highest:
            absent = np.unique(wanted[(wanted < lowest) | (wanted > highest)])
        elif highest - lowest < 1 << 24:  # a table: ten times as fast as searching
            table = np.full(highest - lowest + 1, -1, dtype=np.int32)
            table[self.ids - lowest] = np.arange(len(self.ids), dtype=np.int32)
            rows = table[wanted - lowest]
            if rows.min() < 0:
                absent = np.unique(wanted[rows < 0])
        else:
            rows = np.searchsorted(self.ids, wanted).astype(np.int32)
            absent = np.unique(wanted[self.ids[rows] != wanted])
        if len(absent):
            shown = ", ".join(map(str, absent[:5])) + (", ..." if len(absent) > 5 else "")
            raise DataError(f"{what}: {len(absent)} templates have no images: {shown}")
        return rows


class TemplatePlan:
    """Plan of which images make which media and template; the same for all modes.

    Args:
        images: of the set, N of them.
        usable: (N,) bool, images that take part; None: all.

    Raises:
        DataError: no image takes part.
    """

    def __init__(self, images: IjbImages, usable: np.ndarray | None = None) -> None:
        taking_part = np.arange(len(images)) if usable is None else np.flatnonzero(usable)
        if len(taking_part) == 0:
            raise DataError(f"{images.folder}: none of its {len(images)} images takes part: there is no template")
        order = taking_part[np.argsort(images.templates[taking_part], kind="stable")]
        self.order = order  # by template, then as in the files
        self.in_a_row = bool((np.diff(order) == 1).all())
        by_media = np.lexsort((images.medias[order], images.templates[order]))  # indices into `order`
        templates, medias = images.templates[order][by_media], images.medias[order][by_media]
        new_template = np.append(True, templates[1:] != templates[:-1])
        media_starts = np.flatnonzero(new_template | np.append(True, medias[1:] != medias[:-1]))
        self.by_media = by_media
        self.ids = templates[new_template]
        self.media_starts = np.append(media_starts, len(order))  # (medias + 1,) indices into `by_media`
        self.template_starts = np.append(np.flatnonzero(new_template[media_starts]), len(media_starts))  # of medias
        self.detector = images.detector[order]
        self.names = images.names

    def templates(self, embeddings: Embeddings, mode: Mode = DEFAULT_MODE) -> Templates:
        """The templates in one mode.

        Every step is rounded to float32, in the order of insightface's tool: two scores that differ by less than that
        rounding are in the same order here and there.

        Args:
            embeddings: raw features of the N images, float32 (N, d).
            mode: what of an image goes into its template.

        Raises:
            DataError: features that are not finite, or not one per image.
        """
        parts = [embeddings.original, embeddings.mirrored] if mode.flip else [embeddings.original]
        for part in parts:
            if part.ndim != 2 or len(part) != len(self.names) or part.dtype != np.float32:
                raise DataError(f"features are {part.dtype} {part.shape}: give float32 ({len(self.names)}, d)")
        sums = np.empty((len(self.ids), parts[0].shape[1]))
        with np.errstate(over="ignore", invalid="ignore"):  # reported below, with the images' names
            for begin, end in self._blocks():
                sums[begin:end] = self._sums(parts, mode, begin, end)
        if not np.isfinite(sums).all():
            raise DataError(_not_finite(parts, self.order, self.names))
        return Templates(self.ids, unit_rows_(sums))

    def _blocks(self) -> Iterator[tuple[int, int]]:
        """Ranges of templates of about `ROWS` images each, one template at least."""
        images_before = self.media_starts[self.template_starts]
        begin = 0
        while begin < len(self.ids):
            limit = images_before[begin] + ROWS
            end = max(begin + 1, int(np.searchsorted(images_before, limit, side="right")) - 1)
            yield begin, end
            begin = end

    def _sums(self, parts: list[np.ndarray], mode: Mode, begin: int, end: int) -> np.ndarray:
        """The sums of the templates begin to end over the means of their medias, float32."""
        starts = self.media_starts[self.template_starts[begin] : self.template_starts[end] + 1]
        rows = slice(int(starts[0]), int(starts[-1]))
        features = self._gather(parts, rows)  # (images, d)
        if mode.normalise:
            unit_rows_(features)
        if mode.detector:
            features *= self.detector[rows, None]
        medias = segment_sums(features, self.by_media[rows] - rows.start, starts[:-1] - rows.start)
        medias /= np.diff(starts).astype(np.float32)[:, None]
        offsets = self.template_starts[begin:end]
        return segment_sums(medias, np.arange(len(medias)), offsets - offsets[0])

    def _gather(self, parts: list[np.ndarray], rows: slice) -> np.ndarray:
        """The sum of the parts at some rows of `order`, as a new array."""
        if self.in_a_row:
            first = int(self.order[0])
            taken = [part[first + rows.start : first + rows.stop] for part in parts]
        else:
            taken = [part[self.order[rows]] for part in parts]
        return np.add(*taken) if len(taken) == 2 else taken[0].copy()


def _not_finite(parts: list[np.ndarray], order: np.ndarray, names: list[str]) -> str:
    finite = np.ones(len(names), dtype=bool)
    for start in range(0, len(names), ROWS):
        for part in parts:
            finite[start : start + ROWS] &= np.isfinite(part[start : start + ROWS]).all(axis=1)
    bad = order[~finite[order]]
    if len(bad) == 0:
        return "features are finite and their sums are not: they are too large for float32"
    bad.sort()
    shown = ", ".join(names[image] for image in bad[:5]) + (", ..." if len(bad) > 5 else "")
    return f"features of {len(bad)} of {len(names)} images are not finite: {shown}"
