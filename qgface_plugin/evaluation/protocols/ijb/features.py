"""Features of all images of an IJB set: from the cache, or computed into it, by all ranks and resumable."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ....data.images import surplus_line
from ....models.digest import model_digest, model_files
from ....models.embeddings import Embeddings
from ....models.face_model import USUAL, FaceModel, Scale
from ....models.onnx_normalisation import scale_outside
from ....utils.errors import ON_CORRUPT, ConfigError, DataError
from ...feature_cache import FeatureCache
from .images import check_points, check_present, fingerprint, load_faces
from .metadata import IjbImages

LOGGER = logging.getLogger(__name__)

CHUNK = 2048  # images that an interruption can cost a rank; of small sets less, so that every rank gets some
MAKING = "1"  # changes when faces are decoded or aligned in another way, so that older features are not taken


def feature_cache(
    folder: Path,
    images: IjbImages,
    model: str,
    network: str | None,
    color: str,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> FeatureCache:
    """The cache of this model's features of these images. It is another one when model file or images change.

    Args:
        folder: where caches lie.
        images: of the set.
        model, network, color, mean, std: as the command line has them.

    Raises:
        DataError: the model's file cannot be read.
    """
    key = {
        "model": model_digest(model),
        "network": network or "",
        "color": color,
        "data": fingerprint(images),
        "making": MAKING,
    }
    scales = [f"{mean} {std}"] if mean or std else list(map(str, _scales_of_graphs(model)))
    if scales:  # where the features of earlier versions, without this entry, can have been wrong
        key["scale"] = " ".join(scales)
    return FeatureCache(folder, images.subset.lower(), key, len(images), min(CHUNK, max(64, len(images) // 64)))


def _scales_of_graphs(model: str) -> list[Scale]:
    """What ONNX files leave to do to pixels, of those that normalise them themselves."""
    graphs = [path for path in model_files(model) if path.suffix.lower() == ".onnx" and path.is_file()]
    return [scale for path in graphs if (scale := scale_outside(path, log=False)) != USUAL]


def extract(
    model: FaceModel,
    images: IjbImages,
    cache: FeatureCache,
    batch_size: int = 64,
    on_corrupt: str = "error",
    workers: int = 4,
    progress: bool = False,
) -> tuple[Embeddings, dict[int, str]]:
    """Features of all images, computed by all ranks: three barriers.

    Every rank computes each `world_size`th of the missing chunks; all of them return the whole. Every chunk is kept as
    soon as it is there.

    Args:
        model: the encoder.
        images: of the set, N of them.
        cache: where the chunks are kept.
        batch_size: images per forward pass.
        on_corrupt: "error" refuses missing and undecodable images, "skip" returns them.
        workers: threads that read and align.
        progress: show a bar on rank 0.

    Returns:
        The features, whose rows are zero where an image has none, and those images: index -> what is wrong.

    Raises:
        ConfigError: on_corrupt is neither of both.
        DataError: images that cannot be used, counted and named.
    """
    from ....utils import distributed

    if on_corrupt not in ON_CORRUPT:
        raise ConfigError(f"on_corrupt is {on_corrupt!r}: it must be one of {', '.join(ON_CORRUPT)}")
    check_points(images, warn=distributed.rank() == 0)
    missing = cache.missing()
    if missing and on_corrupt == "error":
        refuse(check_present(images), len(images))
    distributed.patient_barrier()  # every rank has seen the same chunks missing before one of them writes
    own = missing[distributed.rank() :: distributed.world_size()]
    surplus: list[int] = []
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        shown = tqdm(
            total=sum(end - begin for begin, end in map(cache.bounds, own)),
            desc=f"{images.subset} features",
            unit="img",
            disable=not progress or not own or distributed.rank() != 0,
        )
        with shown:
            for chunk in own:
                bounds = cache.bounds(chunk)
                cache.write(chunk, *_chunk(model, images, bounds, batch_size, on_corrupt, pool, shown, surplus))
    if surplus:
        LOGGER.warning("%s: %s", images.subset, surplus_line(len(surplus)))
    distributed.patient_barrier()  # every rank has written its chunks
    if distributed.rank() == 0:
        cache.finish()
    distributed.patient_barrier()
    embeddings, bad = cache.load()
    if on_corrupt == "error":
        refuse(bad, len(images))
    return embeddings, bad


def refuse(bad: dict[int, str], count: int) -> None:
    """Raise DataError that counts and names bad images (number -> what is wrong) of `count`, when there are any."""
    if bad:
        shown = "; ".join(list(bad.values())[:5]) + ("; ..." if len(bad) > 5 else "")
        raise DataError(f"{len(bad)} of {count} images cannot be used: {shown}. --on-corrupt skip leaves them out")


def _chunk(
    model: FaceModel,
    images: IjbImages,
    bounds: tuple[int, int],
    batch_size: int,
    on_corrupt: str,
    pool: ThreadPoolExecutor,
    shown: tqdm,
    surplus: list[int],
) -> tuple[Embeddings, dict[int, str]]:
    """One chunk's features; the batch after the one that is embedded is decoded meanwhile."""
    begin, end = bounds
    step = max(batch_size, 1)
    starts = list(range(begin, end, step))
    parts: list[Embeddings] = []
    bad: dict[int, str] = {}
    with ThreadPoolExecutor(max_workers=1) as ahead:
        loading = ahead.submit(load_faces, images, begin, min(begin + step, end), pool, surplus)
        for start in starts:
            faces, problems = loading.result()
            if start != starts[-1]:
                following = start + step
                loading = ahead.submit(load_faces, images, following, min(following + step, end), pool, surplus)
            if on_corrupt == "error":
                refuse(problems, len(images))
            parts.append(model.embed(faces, batch_size))
            bad |= problems
            shown.update(len(faces))
    original = np.concatenate([part.original for part in parts])
    mirrored = np.concatenate([part.mirrored for part in parts])
    lost = np.fromiter(bad, dtype=np.int64, count=len(bad)) - begin
    original[lost] = 0
    mirrored[lost] = 0
    return Embeddings(original, mirrored), bad
