"""Small IJB sets for the tests: a made-up one of numbers, and one of image files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from qgface_plugin.data.packing.alignment import TEMPLATE
from qgface_plugin.evaluation.protocols.ijb.metadata import IjbImages
from qgface_plugin.models.embeddings import Embeddings


def images_of(templates: list[int], medias: list[int], detector: list[float] | None = None) -> IjbImages:
    """A set in memory: one image for each entry, named 0.jpg, 1.jpg, ..."""
    count = len(templates)
    return IjbImages(
        folder=Path("somewhere"),
        subset="IJBB",
        names=[f"{index}.jpg" for index in range(count)],
        landmarks=np.zeros((count, 5, 2), np.float32),
        detector=np.asarray(detector if detector is not None else np.ones(count), np.float32),
        templates=np.asarray(templates, np.int64),
        medias=np.asarray(medias, np.int64),
    )


def embeddings_of(count: int, dim: int = 6, seed: int = 0) -> Embeddings:
    random = np.random.default_rng(seed)
    return Embeddings(*random.standard_normal((2, count, dim)).astype(np.float32))


def write_set(folder: Path, images: int = 12, subset: str = "ijbb") -> Path:
    """Two images a template in files of 150 x 130 pixels, with landmarks a little off the template's place."""
    random = np.random.default_rng(1)
    meta, crops = folder / "meta", folder / "loose_crop"
    meta.mkdir(parents=True)
    crops.mkdir()
    members, points = [], []
    for index in range(images):
        name = f"{index + 1}.jpg"
        picture = cv2.resize(random.integers(0, 256, (9, 8, 3), dtype=np.uint8), (130, 150))
        (crops / name).write_bytes(cv2.imencode(".jpg", picture)[1].tobytes())
        landmarks = TEMPLATE + 10 + random.normal(0, 2, (5, 2))
        members.append(f"{name} {index // 2 + 1} {100 + index}")
        points.append(" ".join([name, *(f"{value:.3f}" for value in landmarks.ravel()), "0.987"]))
    templates = images // 2
    pairs = [f"{a} {b} {int(b == a + 1)}" for a in range(1, templates + 1) for b in range(a + 1, templates + 1)]
    (meta / f"{subset}_face_tid_mid.txt").write_text("\n".join(members) + "\n")
    (meta / f"{subset}_name_5pts_score.txt").write_text("\n".join(points) + "\n")
    (meta / f"{subset}_template_pair_label.txt").write_text("\n".join(pairs) + "\n")
    return folder


class FlatModel:
    """A face model that is quick: mean colours of parts of the image. Counts the images it has seen."""

    name, dim = "flat", 12

    def __init__(self, fail_after: int | None = None) -> None:
        self.seen, self.fail_after = 0, fail_after

    def embed(self, images: np.ndarray, batch_size: int = 64, progress: str | None = None) -> Embeddings:
        if self.fail_after is not None and self.seen + len(images) > self.fail_after:
            raise KeyboardInterrupt
        self.seen += len(images)
        sides = []
        for view in (images, images[:, :, ::-1]):
            parts = view.reshape(len(images), 2, 56, 2, 56, 3).astype(np.float32).mean(axis=(2, 4))
            sides.append(parts.reshape(len(images), 12) - 127.5)
        return Embeddings(*sides)
