"""Small SCface and TinyFace folders in the layouts of the real ones, and a model that needs no weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tiny import TinyBackbone, face

from qgface_plugin.data.images import encode_jpeg
from qgface_plugin.models.backbones import get_model
from qgface_plugin.models.embeddings import Embeddings, embed


class BlockModel:
    """Mean colours of 16 x 16 blocks, centred: two images of one of `tiny.face`'s identities are alike."""

    name, dim = "blocks", 147

    def __init__(self) -> None:
        self.batches: list[int] = []

    def embed(self, images: np.ndarray, batch_size: int = 64, progress: str | None = None) -> Embeddings:
        self.batches.append(len(images))
        return Embeddings(_blocks(images), _blocks(images[:, :, ::-1]))


def _blocks(images: np.ndarray) -> np.ndarray:
    return (images.reshape(-1, 7, 16, 7, 16, 3).mean(axis=(2, 4)).reshape(len(images), -1) - 127.5).astype(np.float32)


def write_face(path: Path, identity: int, image: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_jpeg(face(identity, image), 95))


def write_scface(root: Path, subjects: int = 4, listing: bool = True) -> Path:
    """A complete SCface of `subjects` people: frontal, five cameras at three distances."""
    names = []
    for subject in range(1, subjects + 1):
        kinds = ["frontal", *(f"cam{c}_{d}" for c in range(1, 6) for d in range(1, 4))]
        for number, kind in enumerate(kinds):
            names.append(f"{subject:03d}_{kind}")
            write_face(root / "aligned" / f"{names[-1]}.jpg", subject, number)
    if listing:
        (root / "all.txt").write_text("".join(f"{name}\t0\n" for name in names))
    return root


def write_tinyface(root: Path, people: int = 5, distractors: int = 7) -> Path:
    """Two gallery images and two probes a person, and distractors; the original folders hold empty files."""
    from scipy.io import savemat

    testing, aligned = root / "tinyface" / "Testing_Set", root / "aligned_pad_0.1_pad_high"
    parts = {
        "Gallery_Match": [(f"{who}_{n}.jpg", who, n) for who in range(1, people + 1) for n in (1, 2)],
        "Probe": [(f"{who}_{n}.jpg", who, n) for who in range(1, people + 1) for n in (3, 4)],
        "Gallery_Distractor": [(f"d_{n}.jpg", 100 + n, n) for n in range(distractors)],
    }
    for part, images in parts.items():
        (testing / part).mkdir(parents=True)
        (aligned / part).mkdir(parents=True)
        for name, who, number in images:
            (testing / part / name).write_bytes(b"")
            write_face(aligned / part / name, who, number)
    for part, key, stem in (("Gallery_Match", "gallery", "gallery_match"), ("Probe", "probe", "probe")):
        names, ids = cells([name for name, _, _ in parts[part]]), np.array([[who] for _, who, _ in parts[part]])
        savemat(testing / f"{stem}_img_ID_pairs.mat", {f"{key}_set": names, f"{key}_ids": ids})
    return root


def cells(entries: list) -> np.ndarray:
    """A column of a MATLAB cell array, (N, 1)."""
    column = np.empty((len(entries), 1), dtype=object)
    column[:, 0] = entries
    return column


def write_model(path: Path, seed: int = 0) -> Path:
    """An untrained QuickNet of 8 numbers a face, as model.pt."""
    torch.manual_seed(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(get_model("quick", 8).state_dict(), path)
    return path


class UntrainedModel:
    """A tiny backbone with random weights, the same at every call: it tells some people apart, and not all."""

    name, dim = "untrained", 16

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.backbone = TinyBackbone(self.dim)

    def embed(self, images, batch_size=64, progress=None):
        return embed(self.backbone, images, batch_size)
