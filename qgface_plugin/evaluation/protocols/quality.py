"""Quality evaluation: pairs with their cosines and the qualities of their images, and error-versus-discard curves of
each quality. Pair sets, XQLFW, SCface and IJB become the same: `ScoredPairs`.

XQLFW (Knoche, Hoermann, Rigoll 2021) is LFW with pairs of very different quality: `xqlfw_pairs.txt` in LFW's form, and
`xqlfw_aligned_112/<name>/<name>_0001.jpg`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ...data.bin_files import read_bin
from ...data.images import JPEG_SIGNATURE, surplus_line
from ...data.packing.pairs_to_bin import PairLine, find_image, read_pairs
from ...models import FaceModel
from ...models.embeddings import Embeddings
from ...utils.errors import DataError
from ...utils.files import write_bytes
from ...utils.parallel import ordered_map
from ..embed_files import Face, read_face
from ..metrics.discard import LIMIT, DiscardCurve, discard_curve, pair_quality
from ..metrics.identification import similarity_blocks
from ..metrics.sorted_scores import SortedScores
from ..metrics.verification import pair_cosines
from ..quality_scores import OF_EMBEDDINGS, quality_of_images, read_scores, split_column
from .ijb.images import load_faces
from .ijb.metadata import IjbImages
from .ijb.metadata import read_pairs as read_template_pairs
from .ijb.templates import Mode, TemplatePlan
from .ijb.verification import PairRows, pair_scores
from .inventory import listed
from .scface_files import ScfaceSet

FMRS = (1e-3, 1e-4)
SHARES = (0.1, 0.2, 0.3)  # discarded, at which tables show the FNMR
XQLFW_PAIRS, XQLFW_IMAGES = "xqlfw_pairs.txt", "xqlfw_aligned_112"
CHUNK = 512  # images of IJB whose pixels are in memory


@dataclass(frozen=True)
class ScoredPairs:
    """Pairs of one set. An item is an image, or a template of IJB.

    Attributes:
        name: of the set.
        scores: (N,) cosines.
        same: (N,) bool, True for a genuine pair.
        first, second: (N,) int, the items of each pair.
        qualities: source -> (items,) float64, higher meaning better, -inf where a file says that an image could not be
            scored.
        flip_fusion: whether mirror images went into the cosines.
    """

    name: str
    scores: np.ndarray
    same: np.ndarray
    first: np.ndarray
    second: np.ndarray
    qualities: Mapping[str, np.ndarray]
    flip_fusion: bool


@dataclass(frozen=True)
class QualityResult:
    """The curves of one set.

    Attributes:
        pairs: of the set.
        curves: source -> one curve per FMR.
        failed: source -> items without a score.
    """

    pairs: ScoredPairs
    curves: Mapping[str, tuple[DiscardCurve, ...]]
    failed: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, ready for JSON."""
        genuine = int(self.pairs.same.sum())
        return {
            "pairs": len(self.pairs.same),
            "genuine": genuine,
            "impostors": len(self.pairs.same) - genuine,
            "flip_fusion": self.pairs.flip_fusion,
            "sources": {
                source: {
                    "failed": self.failed[source],
                    "constant": len(np.unique(self.pairs.qualities[source])) == 1,
                    "curves": [curve.as_dict() for curve in curves],
                }
                for source, curves in self.curves.items()
            },
        }


def evaluate_quality(pairs: ScoredPairs, fmrs: Sequence[float] = FMRS, limit: float = LIMIT) -> QualityResult:
    """Error-versus-discard curves of every quality of a set.

    Args:
        pairs: scored pairs.
        fmrs: at which thresholds are fixed, before anything is discarded.
        limit: largest discarded share of the areas.

    Raises:
        DataError: pairs of one kind only, an FMR or a limit out of range.
    """
    ranked = SortedScores(pairs.scores, pairs.same)
    curves, failed = {}, {}
    for source, quality in pairs.qualities.items():
        of_pairs = pair_quality(quality[pairs.first], quality[pairs.second])
        curves[source] = tuple(discard_curve(pairs.scores, pairs.same, of_pairs, fmr, limit, ranked) for fmr in fmrs)
        failed[source] = int(np.isneginf(quality).sum())
    return QualityResult(pairs, curves, failed)


def pairs_of_bin(
    model: FaceModel,
    path: Path,
    sources: Sequence[str],
    flip: bool = True,
    batch_size: int = 64,
    progress: bool = False,
) -> ScoredPairs:
    """The pairs of a `.bin` set. Its images have no names; files of scores go by those of `write_images`.

    Args:
        model: the encoder.
        path: the `.bin`.
        sources: names of qualities (`quality_scores`).
        flip: flip fusion of the cosines.
        batch_size: images per forward pass.
        progress: show bars.

    Raises:
        DataError: a set or a file of scores that does not fit.
    """
    found = read_bin(path)
    images = found.decode(progress=f"{found.name}: decoding" if progress else None)
    names = image_names(found.name, found.images)
    embeddings = model.embed(images, batch_size, f"{found.name}: embedding" if progress else None)
    rows = np.arange(len(images))
    return _scored(found.name, embeddings, images, names, rows[0::2], rows[1::2], found.same, sources, flip)


def image_names(name: str, images: Sequence[bytes]) -> list[str]:
    """Names for the images of a pair set: `<set>_000000.jpg`, in their order.

    Example:
        >>> image_names("lfw", [JPEG_SIGNATURE, b"another"])
        ['lfw_000000.jpg', 'lfw_000001.png']
    """
    suffixes = ["jpg" if image.startswith(JPEG_SIGNATURE) else "png" for image in images]
    return [f"{name}_{number:06d}.{suffix}" for number, suffix in enumerate(suffixes)]


def write_images(path: Path, folder: Path) -> int:
    """Write the images of a `.bin` set as files, byte for byte, for tools that score files; returns how many.

    Raises:
        DataError: the set cannot be read.
    """
    found = read_bin(path)
    for name, image in zip(image_names(found.name, found.images), found.images, strict=True):
        write_bytes(folder / name, image)
    return len(found.images)


def pairs_of_xqlfw(
    model: FaceModel,
    root: Path,
    sources: Sequence[str],
    flip: bool = True,
    batch_size: int = 64,
    workers: int = 4,
    on_corrupt: str = "error",
    progress: bool = False,
) -> tuple[ScoredPairs, list[str]]:
    """The pairs of XQLFW, or of any set of its layout.

    Args:
        model, sources, flip, batch_size, progress: as for `pairs_of_bin`.
        root: folder with xqlfw_pairs.txt and xqlfw_aligned_112/, or with aligned images itself.
        workers: threads that decode.
        on_corrupt: "skip" leaves pairs out whose images are missing or cannot be decoded.

    Returns:
        The pairs, and warnings.

    Raises:
        DataError: a file that does not fit, or images that are missing or bad, counted and named.
    """
    lines = read_pairs(root / XQLFW_PAIRS)
    folder = root / XQLFW_IMAGES if (root / XQLFW_IMAGES).is_dir() else root
    names = list(dict.fromkeys(name for line in lines for name in (line.first, line.second)))
    loaded = dict(zip(names, _faces(names, partial(find_image, folder), workers, progress), strict=True))
    bad = {name: None for name, (face, _) in loaded.items() if isinstance(face, DataError)}
    warnings = []
    if bad:
        warnings.append(f"{len(bad):,} of {len(names):,} images are missing or cannot be decoded: {listed(list(bad))}")
        lines = [line for line in lines if line.first not in bad and line.second not in bad]
        if on_corrupt == "error" or not lines:
            raise DataError(f"{folder}: {warnings[0]}. --on-corrupt skip leaves their pairs out")
    if surplus := sum(noted for _, noted in loaded.values()):
        warnings.append(surplus_line(surplus))
    kept = [name for name in names if name not in bad]
    images = np.stack([face for name in kept if not isinstance(face := loaded.pop(name)[0], DataError)])
    embeddings = model.embed(images, batch_size, "embedding" if progress else None)
    first, second, same = _rows(lines, kept)
    name = "xqlfw" if root.name == "" else root.name
    return _scored(name, embeddings, images, kept, first, second, same, sources, flip), warnings


def pairs_of_scface(
    model: FaceModel,
    images: ScfaceSet,
    sources: Sequence[str],
    flip: bool = True,
    batch_size: int = 64,
    workers: int = 4,
    progress: bool = False,
) -> ScoredPairs:
    """Every probe of SCface with every frontal photograph: real surveillance cameras at three distances.

    Args:
        model, sources, flip, batch_size, workers, progress: as for `pairs_of_xqlfw`.
        images: gallery and probes.

    Raises:
        DataError: an image that cannot be decoded, or a file of scores that does not fit.
    """
    paths = [*images.gallery, *images.probes]
    faces = []
    for face, _ in _faces(paths, Path, workers, progress):
        if isinstance(face, DataError):
            raise face
        faces.append(face)
    pixels = np.stack(faces)
    embeddings = model.embed(pixels, batch_size, "embedding" if progress else None)
    features = embeddings.features if flip else embeddings.original
    g, p = len(images.gallery), len(images.probes)
    scores = np.concatenate(list(similarity_blocks(features[g:], features[:g]))).ravel().astype(np.float64)
    same = (images.probe_ids[:, None] == images.gallery_ids).ravel()
    qualities = _qualities([str(path) for path in paths], embeddings, pixels, sources)
    return ScoredPairs(
        "scface", scores, same, np.repeat(g + np.arange(p), g), np.tile(np.arange(g), p), qualities, flip
    )


def _faces(images: Sequence[Any], find: Callable[[Any], Path | None], workers: int, progress: bool) -> Iterable[Face]:
    """What `read_face` finds in the file of each image, in order, by threads; an error where `find` gives none."""

    def load(image: Any) -> Face:
        path = find(image)
        return (DataError("no such image"), False) if path is None else read_face(path)

    found = ordered_map(load, images, workers)
    return tqdm(found, total=len(images), desc="decoding", unit="image", disable=not progress)


def pairs_of_ijb(
    images: IjbImages,
    embeddings: Embeddings,
    sources: Sequence[str],
    mode: Mode,
    usable: np.ndarray | None = None,
    workers: int = 4,
    progress: bool = False,
) -> ScoredPairs:
    """The template pairs of IJB's 1:1. The quality of a template is the mean over its images.

    Args:
        images: of the set, M of them.
        embeddings: their raw features.
        sources: names of qualities.
        mode: what of an image goes into its template.
        usable: (M,) bool, images that take part; None: all.
        workers: threads that read and align, where a source looks at pixels.
        progress: show bars.

    Raises:
        DataError: features, pairs or a file of scores that do not fit.
    """
    templates = TemplatePlan(images, usable).templates(embeddings, mode)
    rows = PairRows.of(read_template_pairs(images.folder, images.subset), templates)
    taking_part = np.arange(len(images)) if usable is None else np.flatnonzero(usable)
    of_template = np.searchsorted(templates.ids, images.templates[taking_part])
    qualities = {}
    for source in sources:
        if source in OF_EMBEDDINGS:
            values = OF_EMBEDDINGS[source](embeddings)
        elif Path(split_column(source)[0]).is_file():
            values = read_scores(*split_column(source)).of(images.names)
        else:
            values = _of_aligned(source, images, workers, progress)
        values = values[taking_part]
        known = np.isfinite(values)
        counts = np.bincount(of_template[known], minlength=len(templates.ids))
        sums = np.bincount(of_template[known], weights=values[known], minlength=len(templates.ids))
        qualities[source] = np.where(counts > 0, sums / np.maximum(counts, 1), -np.inf)
    scores = pair_scores(templates.features, rows.first, rows.second)
    return ScoredPairs(images.subset.lower(), scores, rows.same, rows.first, rows.second, qualities, mode.flip)


def _of_aligned(source: str, images: IjbImages, workers: int, progress: bool) -> np.ndarray:
    """Scores of a source that looks at pixels, for all images of IJB; black ones' where an image cannot be used."""
    found = []
    starts = range(0, len(images), CHUNK)
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        for start in tqdm(starts, desc=f"{images.subset} {source}", unit="chunk", disable=not progress):
            faces, _ = load_faces(images, start, min(start + CHUNK, len(images)), pool)
            found.append(quality_of_images(source, faces))
    return np.concatenate(found)


def _scored(
    name: str,
    embeddings: Embeddings,
    images: np.ndarray,
    names: Sequence[str],
    first: np.ndarray,
    second: np.ndarray,
    same: np.ndarray,
    sources: Sequence[str],
    flip: bool,
) -> ScoredPairs:
    features = embeddings.original.astype(np.float64) + embeddings.mirrored if flip else embeddings.original
    both = np.stack([first, second], axis=1).ravel()
    qualities = _qualities(names, embeddings, images, sources)
    return ScoredPairs(name, pair_cosines(features[both]), same, first, second, qualities, flip)


def _qualities(
    names: Sequence[str], embeddings: Embeddings, images: np.ndarray, sources: Sequence[str]
) -> dict[str, np.ndarray]:
    found = {}
    for source in sources:
        if source in OF_EMBEDDINGS:
            found[source] = OF_EMBEDDINGS[source](embeddings)
        elif Path(split_column(source)[0]).is_file():
            found[source] = read_scores(*split_column(source)).of(names)
        else:
            found[source] = quality_of_images(source, images)
    return found


def _rows(lines: Sequence[PairLine], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    row = {name: number for number, name in enumerate(names)}
    pairs = np.array([(row[line.first], row[line.second]) for line in lines])
    return pairs[:, 0], pairs[:, 1], np.array([line.same for line in lines])
