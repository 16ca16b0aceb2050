"""TinyFace's numbers against a loop that sorts the whole gallery for every probe."""

from __future__ import annotations

import os

import numpy as np
import pytest
from identification_sets import BlockModel, UntrainedModel, cells, write_face, write_tinyface
from scipy.io import savemat
from tiny import TinyBackbone

from qgface_plugin.evaluation.embed_files import FileFeatures, embed_files
from qgface_plugin.evaluation.protocols.tinyface import evaluate_tinyface, score_tinyface
from qgface_plugin.evaluation.protocols.tinyface_files import read_tinyface
from qgface_plugin.models.embeddings import Embeddings
from qgface_plugin.utils.errors import DataError


def naive(images, embedded, with_distractors=True):
    """({k: rank-k}, mAP): probes whose identity is in the gallery, every gallery sorted by similarity in float64."""
    rows = [(row / (np.linalg.norm(row) or 1), ok) for row, ok in zip(
        embedded.features.astype(np.float64), embedded.readable, strict=True
    )]  # fmt: skip
    p, m = len(images.probes), len(images.matches)
    gallery = [(rows[p + n][0], int(images.match_ids[n])) for n in range(m) if rows[p + n][1]]
    if with_distractors:
        gallery += [(row, None) for row, ok in rows[p + m :] if ok]
    places, precisions = [], []
    for n in range(p):
        who = int(images.probe_ids[n])
        if not rows[n][1] or who not in [owner for _, owner in gallery]:
            continue
        owners = [owner for _, owner in sorted(((-float(rows[n][0] @ g), o) for g, o in gallery), key=lambda x: x[0])]
        hits = [place for place, owner in enumerate(owners, 1) if owner == who]
        places.append(hits[0])
        precisions.append(np.mean([count / place for count, place in enumerate(hits, 1)]))
    return {str(k): np.mean([place <= k for place in places]) for k in (1, 5, 20)}, np.mean(precisions), len(places)


def assert_is_naive(results, images, embedded, tolerance=1e-12):
    rank, precision, mated = naive(images, embedded)
    assert results["rank"] == pytest.approx(rank, abs=tolerance) and results["counts"]["mated_probes"] == mated
    assert results["map"] == pytest.approx(precision, abs=tolerance)
    assert [results["cmc"][k - 1] for k in (1, 5, 20)] == pytest.approx(list(rank.values()), abs=tolerance)
    rank, precision, _ = naive(images, embedded, with_distractors=False)
    assert results["without_distractors"]["rank"] == pytest.approx(rank, abs=tolerance)
    assert results["without_distractors"]["map"] == pytest.approx(precision, abs=tolerance)


@pytest.mark.parametrize("bad", [(), (0, 11, 12, 30), (10, 11)])
def test_every_number_is_the_definition(tmp_path, bad):
    """Also with unreadable probes (rows 0 to 9), matches (10 to 19: both of person 1 in the last case), distractors."""
    images = read_tinyface(write_tinyface(tmp_path, people=5, distractors=30))
    rng = np.random.default_rng(0)
    ids = np.concatenate([images.probe_ids, images.match_ids, 6 + np.arange(30)])
    features = (rng.normal(size=(40, 4))[ids] + 0.5 * rng.normal(size=(50, 4))).astype(np.float32)
    readable = ~np.isin(np.arange(50), bad)
    results = score_tinyface(images, FileFeatures(features, readable, ()))
    assert 0 < results["rank"]["1"] < results["without_distractors"]["rank"]["1"] < 1
    assert_is_naive(results, images, FileFeatures(features, readable, ()))
    counts = results["counts"]
    assert counts["probes"] + counts["matches"] + counts["distractors"] == 50 - len(bad)


def test_real_faces_in_the_real_layout(lfw):
    images = read_tinyface(lfw / "tinyface")
    counts = {name: count["here"] for name, count in images.inventory.counts.items()}
    assert counts == {"probes": 272, "gallery matches": 223, "distractors": 250}
    assert not any(images.inventory.names.values())
    embedded = embed_files(UntrainedModel(), [*images.probes, *images.matches, *images.distractors])
    results = score_tinyface(images, embedded)
    assert 0.02 < results["rank"]["1"] < results["rank"]["20"] < 1
    assert_is_naive(results, images, embedded, tolerance=0.005)


def test_easy_faces_are_all_found(tmp_path):
    images = read_tinyface(write_tinyface(tmp_path, people=4, distractors=9))
    results, warnings = evaluate_tinyface(BlockModel(), images, batch_size=8)
    assert results["rank"] == {"1": 1, "5": 1, "20": 1} and results["map"] == 1 and warnings == []
    assert results["counts"] == {"probes": 8, "mated_probes": 8, "matches": 8, "distractors": 9}
    assert results["inventory"]["counts"]["probes"] == {"protocol": 3728, "here": 8}


def test_probes_against_an_old_gallery(tmp_path):
    """Matches and distractors are the gallery: both by the old model."""
    images = read_tinyface(write_tinyface(tmp_path, people=5, distractors=12))
    new, old = UntrainedModel(), UntrainedModel()
    old.backbone = TinyBackbone(old.dim)
    results, _ = evaluate_tinyface(new, images, gallery_model=old, flip=False)
    paths = [*images.probes, *images.matches, *images.distractors]
    by_new, by_old = (embed_files(model, paths, flip=False).features for model in (new, old))
    p = len(images.probes)
    mixed = FileFeatures(np.concatenate([by_new[:p], by_old[p:]]), np.ones(len(paths), dtype=bool), ())
    assert_is_naive(results, images, mixed)


def test_unreadable_files_are_counted(tmp_path):
    root = write_tinyface(tmp_path, people=3, distractors=5)
    (root / "aligned_pad_0.1_pad_high" / "Gallery_Distractor" / "d_2.jpg").write_bytes(b"\xff\xd8\xff")
    images = read_tinyface(root)
    with pytest.raises(DataError, match="d_2.jpg: undecodable JPEG of 3 bytes"):
        evaluate_tinyface(BlockModel(), images)
    results, warnings = evaluate_tinyface(BlockModel(), images, on_corrupt="skip")
    assert results["counts"]["distractors"] == 4 and len(results["inventory"]["names"]["unreadable"]) == 1
    assert warnings[0].startswith("1 images cannot be decoded and are left out: ") and "d_2.jpg" in warnings[0]


@pytest.mark.long
def test_a_set_of_the_real_size(tmp_path):
    """3,728 probes, 4,443 matches and 153,428 distractors, all links to a few images: nothing to warn of."""
    faces = [tmp_path / f"{who}.jpg" for who in range(50)]
    for who, path in enumerate(faces):
        write_face(path, who, 0)
    aligned = tmp_path / "aligned_pad_0.1_pad_high"
    names = {
        "Probe": [f"{n % 2569}_p{n}.jpg" for n in range(3728)],
        "Gallery_Match": [f"{n % 2569}_g{n}.jpg" for n in range(4443)],
        "Gallery_Distractor": [f"{n}.jpg" for n in range(153428)],
    }
    for part, files in names.items():
        (aligned / part).mkdir(parents=True)
        for number, name in enumerate(files):
            os.link(faces[number % 2569 % 50], aligned / part / name)
    for part, key, stem in (("Gallery_Match", "gallery", "gallery_match"), ("Probe", "probe", "probe")):
        ids = np.arange(len(names[part]))[:, None] % 2569
        savemat(tmp_path / f"{stem}_img_ID_pairs.mat", {f"{key}_set": cells(names[part]), f"{key}_ids": ids})
    images = read_tinyface(tmp_path)
    assert images.inventory.warnings == []

    class Corners:
        """Cheap: 20 pixels of each image."""

        name, dim = "corners", 60

        def embed(self, images, batch_size=64, progress=None):
            seen = images[:, 8:80:16, 8:72:16].reshape(len(images), -1).astype(np.float32) - 127.5
            return Embeddings(seen, seen)

    results, warnings = evaluate_tinyface(Corners(), images, workers=2, batch_size=256)
    assert warnings == [] and results["counts"] == {
        "probes": 3728, "mated_probes": 3728, "matches": 4443, "distractors": 153428,
    }  # fmt: skip
    # 50 faces for everybody: some 3,000 distractors are the same image, and ties count against the network. A few
    # escape: of equal features, those at the end of the matrix product may be a rounding more similar.
    assert results["rank"]["20"] < 0.01
    assert results["without_distractors"]["map"] < 0.05
