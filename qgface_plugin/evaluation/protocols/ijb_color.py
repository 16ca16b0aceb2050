"""The check of the order of channels on an IJB set: its templates say which images show one person."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ...utils.sampling import evenly_spread
from ..color_sample import FEWEST
from ..models import ColorOrder, FaceModel, check_color_order
from .ijb_images import load_faces
from .ijb_metadata import IjbImages


def check_color_of_templates(
    model: FaceModel, images: IjbImages, pairs: int = 128, batch_size: int = 64
) -> ColorOrder | None:
    """`check_color_order` on templates spread over the set: two media of each, and one of it with another template.

    Images that cannot be used are not taken. None when fewer than FEWEST templates have images of two media. Two
    templates may be of one person, which makes the check a little less sure and not wrong: both orders see the same.
    """
    chosen = _two_media(images)
    if pairs < 1 or len(chosen) < FEWEST:
        return None
    chosen = chosen[evenly_spread(len(chosen), max(pairs // 2, FEWEST))]
    stranger = np.roll(chosen[:, 0], len(chosen) // 2)
    with ThreadPoolExecutor(max_workers=1) as pool:
        faces = {int(index): _face(images, int(index), pool) for index in np.unique([*chosen.ravel(), *stranger])}
    wanted = [(first, second, True) for first, second in chosen]
    wanted += [(first, other, False) for first, other in zip(chosen[:, 0], stranger, strict=True)]
    usable = [(faces[int(a)], faces[int(b)], same) for a, b, same in wanted]
    usable = [(a, b, same) for a, b, same in usable if a is not None and b is not None]
    same = np.array([entry[2] for entry in usable], dtype=bool)
    if min(same.sum(), (~same).sum()) < 2:
        return None
    return check_color_order(model, np.stack([face for a, b, _ in usable for face in (a, b)]), same, pairs, batch_size)


def _two_media(images: IjbImages) -> np.ndarray:
    """(T, 2) int64: for each template with images of two media, an image of the first and one of another."""
    first: dict[int, int] = {}
    found: dict[int, tuple[int, int]] = {}
    for index, (template, media) in enumerate(zip(images.templates.tolist(), images.medias.tolist(), strict=True)):
        before = first.setdefault(template, index)
        if template not in found and images.medias[before] != media:
            found[template] = (before, index)
    return np.array(list(found.values()), dtype=np.int64).reshape(-1, 2)


def _face(images: IjbImages, index: int, pool: ThreadPoolExecutor) -> np.ndarray | None:
    faces, problems = load_faces(images, index, index + 1, pool)
    return None if problems else faces[0]
