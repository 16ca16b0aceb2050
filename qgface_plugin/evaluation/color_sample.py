"""The check of the order of channels for sets of probe and gallery files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..utils.errors import DataError
from ..utils.sampling import evenly_spread
from .image_files import read_face
from .models import ColorOrder, FaceModel, check_color_order

FEWEST = 10


def check_color_of_files(
    model: FaceModel,
    probes: Sequence[Path],
    probe_ids: np.ndarray,
    gallery: Sequence[Path],
    gallery_ids: np.ndarray,
    pairs: int = 128,
    batch_size: int = 64,
) -> ColorOrder | None:
    """`check_color_order` on probes spread over the set, each with its mate and with somebody else's gallery image.

    Files that cannot be decoded are not taken. None when the gallery has fewer than FEWEST people, or nearly none of
    them a probe: pairs of few people tell little of a model.
    """
    owner = {int(identity): place for place, identity in reversed(list(enumerate(gallery_ids)))}  # its first image
    mated = [place for place, identity in enumerate(probe_ids) if int(identity) in owner]
    if pairs < 1 or len(owner) < FEWEST or not mated:
        return None
    people = list(owner)
    stranger = dict(zip(people, people[1:] + people[:1], strict=True))
    images, same = [], []
    for place in evenly_spread(len(mated), max(pairs // 2, 2)):
        probe = mated[place]
        identity = int(probe_ids[probe])
        places = owner[identity], owner[stranger[identity]]
        face, mate, other = map(read_face, (probes[probe], *(gallery[place] for place in places)))
        if not any(isinstance(read, DataError) for read in (face, mate, other)):
            images += [face, mate, face, other]
            same += [True, False]
    if len(same) < 4:
        return None
    return check_color_order(model, np.stack(images), np.array(same), pairs, batch_size)
