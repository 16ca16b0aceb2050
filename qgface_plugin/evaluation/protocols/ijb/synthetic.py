"""Synthetic set in IJB-B's layout, of any fraction of its size: for measuring speed and agreement, not faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ....models.embeddings import Embeddings
from ....utils.errors import ConfigError

IMAGES, TEMPLATES, GALLERY, PAIRS = 227_630, 12_115, 1_845, 8_010_270  # of IJB-B
IMAGES_A_MEDIA = 3.3  # mean, within a template
NOISE = 10.0  # of an image against its person's direction, so that TAR at FAR 1e-6 ... 1e-1 spreads over the range


def make_set(folder: Path, scale: float = 1.0, dim: int = 512, seed: int = 0) -> Embeddings:
    """Write `meta/` of a set and make features of its images; there are no image files.

    As in IJB-B a few templates (the gallery) are paired with many (the probes); every probe has one genuine pair.

    Args:
        folder: where `meta/` is written.
        scale: of IJB-B's size, up to 1.
        dim: size of a feature.
        seed: of all random numbers.

    Returns:
        float32 (images, dim) twice: 0.93 GB at scale 1.

    Raises:
        ConfigError: a scale out of range.
    """
    images, gallery = round(IMAGES * scale), round(GALLERY * scale)
    probes, pairs = round(TEMPLATES * scale) - gallery, round(PAIRS * scale * scale)
    if not 0 < scale <= 1 or gallery < 4:
        raise ConfigError(f"scale is {scale}: it must be at most 1 and large enough for 4 gallery templates")
    random = np.random.default_rng(seed)
    further = random.integers(0, gallery + probes, images - gallery - probes)
    templates = np.sort(np.concatenate([np.arange(gallery + probes), further])) + 1  # every template has an image
    medias = random.integers(0, max(1, round(images / (gallery + probes) / IMAGES_A_MEDIA)), images) + 10 * templates
    subjects = np.concatenate([np.arange(gallery), random.integers(0, gallery, probes)])  # of each template
    meta = folder / "meta"
    meta.mkdir(parents=True, exist_ok=True)
    detector = random.integers(300, 1000, images) / 1000
    _write_lines(meta / "ijbb_face_tid_mid.txt", [f"{i}.jpg {t} {m}" for i, t, m in _rows(templates, medias)])
    points = "38.3 51.7 73.5 51.5 56.0 71.7 41.5 92.4 70.7 92.2"
    _write_lines(meta / "ijbb_name_5pts_score.txt", [f"{i}.jpg {points} {score:.3f}" for i, score in _rows(detector)])
    first, second = _pairs(random, subjects, gallery, probes, pairs)
    _write_pairs(meta / "ijbb_template_pair_label.txt", first + 1, second + 1, subjects[first] == subjects[second])
    half = gallery // 2
    for name, ids in (("gallery_S1", range(half)), ("gallery_S2", range(half, gallery))):
        _write_lines(meta / f"ijbb_1N_{name}.csv", _enrolment(ids, subjects))
    _write_lines(meta / "ijbb_1N_probe_mixed.csv", _enrolment(range(gallery, gallery + probes), subjects))
    people = random.standard_normal((gallery, dim), dtype=np.float32)
    sides = []
    for _ in range(2):
        side = random.standard_normal((images, dim), dtype=np.float32)
        side *= NOISE
        for start in range(0, images, 4096):
            side[start : start + 4096] += people[subjects[templates[start : start + 4096] - 1]]
        sides.append(side)
    return Embeddings(*sides)


def _pairs(random: np.random.Generator, subjects, gallery: int, probes: int, pairs: int) -> tuple[np.ndarray, ...]:
    """Gallery and probe template of each pair: a genuine one for each probe, then impostors."""
    mates = np.arange(probes) * gallery + subjects[gallery:]
    others = random.permutation(np.delete(np.arange(probes * gallery), mates))[: pairs - probes]
    second, first = np.divmod(np.concatenate([mates, others]), gallery)
    return first, second + gallery


def _rows(*columns: np.ndarray) -> zip:
    return zip(range(1, len(columns[0]) + 1), *(column.tolist() for column in columns), strict=True)


def _enrolment(templates: range, subjects: np.ndarray) -> list[str]:
    return ["TEMPLATE_ID,SUBJECT_ID", *(f"{template + 1},{subjects[template] + 1}" for template in templates)]


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def _write_pairs(path: Path, first: np.ndarray, second: np.ndarray, same: np.ndarray) -> None:
    words = [f"{number} " for number in range(int(max(first.max(), second.max())) + 1)]
    ends = ("0\n", "1\n")
    with path.open("w", encoding="ascii") as file:
        for start in range(0, len(first), 1 << 18):
            part = slice(start, start + (1 << 18))
            columns = zip(first[part].tolist(), second[part].tolist(), same[part].tolist(), strict=True)
            file.write("".join([words[a] + words[b] + ends[s] for a, b, s in columns]))
