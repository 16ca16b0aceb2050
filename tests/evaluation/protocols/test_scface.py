"""SCface's numbers against loops over all pairs of probe and gallery image."""

from __future__ import annotations

import numpy as np
import pytest
from identification_sets import BlockModel, UntrainedModel, write_scface
from tiny import TinyBackbone

from qgface_plugin.evaluation.embed_files import FileFeatures, embed_files
from qgface_plugin.evaluation.protocols.scface import (
    evaluate_scface,
    improvement,
    near_probes,
    relative_rise,
    score_scface,
)
from qgface_plugin.evaluation.protocols.scface_files import read_scface
from qgface_plugin.utils.errors import DataError


def naive(images, embedded):
    """rank1 {(camera or None, distance or None): rate}, similarities {distance: (same, other)} and {distance: (own,
    most similar other) of each probe that has both}, pair by pair."""
    g = len(images.gallery)
    unit = [row / (np.linalg.norm(row) or 1) for row in embedded.features.astype(np.float64)]
    right, total, similarities = {}, {}, {d: ([], []) for d in (1, 2, 3)}
    ahead = {d: [] for d in (1, 2, 3)}
    for number in range(len(images.probes)):
        if not embedded.readable[g + number]:
            continue
        who, camera, distance = (int(x[number]) for x in (images.probe_ids, images.cameras, images.distances))
        best, best_other = -2.0, -2.0
        for place in range(g):
            if embedded.readable[place]:
                similarity = float(unit[g + number] @ unit[place])
                same = int(images.gallery_ids[place]) == who
                similarities[distance][0 if same else 1].append(similarity)
                best, best_other = (max(best, similarity), best_other) if same else (best, max(best_other, similarity))
        if best > -2:
            ahead[distance].append((best, best_other))
            for key in ((camera, distance), (None, distance), (camera, None)):
                total[key] = total.get(key, 0) + 1
                right[key] = right.get(key, 0) + (best > best_other)
    return {key: right[key] / total[key] for key in total}, similarities, total, ahead


def assert_is_naive(results, images, embedded, tolerance=0.0):
    rates, similarities, total, ahead = naive(images, embedded)
    for d in (1, 2, 3):
        name = f"d{d}"
        assert results["rank1"][name] == pytest.approx(rates[None, d], abs=tolerance + 1e-12)
        assert results["mated_probes"][name] == total[None, d]
        for kind, values in zip(("same", "other"), similarities[d], strict=True):
            part = results["similarity"][name][kind]
            assert part["count"] == len(values) == sum(part["histogram"])
            assert part["mean"] == pytest.approx(np.mean(values), abs=1e-6)
            assert part["std"] == pytest.approx(np.std(values), abs=1e-6)
        own, nearest = map(np.array, zip(*ahead[d], strict=True))
        part = results["similarity"][name]
        assert part["nearest"]["count"] == len(nearest) == sum(part["nearest"]["histogram"])
        assert part["nearest"]["mean"] == pytest.approx(nearest.mean(), abs=1e-6)
        assert part["lead"] == pytest.approx(own.mean() - nearest.mean(), abs=1e-6)
        for c in range(1, 6):
            found = results["rank1_camera"][f"cam{c}"][name]
            assert found == pytest.approx(rates[c, d], abs=3 * tolerance + 1e-12)
    for c in range(1, 6):
        assert results["rank1_camera"][f"cam{c}"]["all"] == pytest.approx(rates[c, None], abs=2 * tolerance + 1e-12)


def random_features(images, seed=0, bad=()):
    rng = np.random.default_rng(seed)
    ids = np.concatenate([images.gallery_ids, images.probe_ids])
    centres = rng.normal(size=(ids.max() + 1, 6))
    features = (centres[ids] + 1.5 * rng.normal(size=(len(ids), 6))).astype(np.float32)
    readable = np.ones(len(ids), dtype=bool)
    readable[list(bad)] = False
    features[~readable] = 0
    return FileFeatures(features, readable, ())


@pytest.mark.parametrize("bad", [(), (1, 30), (0, 5, 6, 7)])
def test_every_number_is_the_definition(tmp_path, bad):
    """Also with unreadable files: gallery images 0 and 1, probes after the six gallery images."""
    images = read_scface(write_scface(tmp_path, subjects=6))
    embedded = random_features(images, bad=bad)
    results = score_scface(images, embedded)
    assert 0 < results["rank1"]["d1"] < 1
    assert_is_naive(results, images, embedded)


def test_real_faces_in_the_real_layout(lfw):
    """An untrained backbone on the stand-in; a few float32 near-ties may fall either way."""
    images = read_scface(lfw / "scface")
    assert images.inventory.counts["subjects"] == {"protocol": 130, "here": 136}
    assert len(images.inventory.names["missing probes"]) == 136 * 15 - len(images.probes)
    embedded = embed_files(UntrainedModel(), [*images.gallery, *images.probes])
    results = score_scface(images, embedded)
    assert 0.02 < results["rank1"]["d3"] < 1
    assert_is_naive(results, images, embedded, tolerance=0.005)


def test_easy_faces_are_all_found(tmp_path):
    images = read_scface(write_scface(tmp_path, subjects=4))
    results, warnings = evaluate_scface(BlockModel(), images, batch_size=16)
    assert results["rank1"] == {"d1": 1, "d2": 1, "d3": 1} and warnings == []
    assert all(rates == {"d1": 1, "d2": 1, "d3": 1, "all": 1} for rates in results["rank1_camera"].values())
    assert results["similarity"]["d1"]["gap"] > 0.5
    assert results["inventory"]["counts"]["probes at d1"] == {"protocol": 650, "here": 20}


def test_probes_against_an_old_gallery(tmp_path):
    """Every probe by the new model, every frontal image by the old one."""
    images = read_scface(write_scface(tmp_path, subjects=6))
    new, old = UntrainedModel(), UntrainedModel()
    old.backbone = TinyBackbone(old.dim)
    results, _ = evaluate_scface(new, images, gallery_model=old, flip=False)
    paths = [*images.gallery, *images.probes]
    by_new, by_old = (embed_files(model, paths, flip=False).features for model in (new, old))
    mixed = np.concatenate([by_old[: len(images.gallery)], by_new[len(images.gallery) :]])
    assert_is_naive(results, images, FileFeatures(mixed, np.ones(len(paths), dtype=bool), ()))
    with pytest.raises(DataError, match="features of 16 numbers and the gallery's model blocks of 147"):
        evaluate_scface(new, images, gallery_model=BlockModel())


def test_unreadable_files_are_counted(tmp_path):
    root = write_scface(tmp_path, subjects=3)
    (root / "aligned" / "002_frontal.jpg").write_bytes(b"x")
    (root / "aligned" / "001_cam1_1.jpg").write_bytes(b"x")
    images = read_scface(root)
    with pytest.raises(DataError, match="002_frontal.jpg: neither JPEG nor PNG"):
        evaluate_scface(BlockModel(), images)
    results, warnings = evaluate_scface(BlockModel(), images, on_corrupt="skip")
    assert len(warnings) == 1 and warnings[0].startswith("2 images cannot be decoded and are left out: ")
    assert [name.split(":")[0].split("/")[-1] for name in results["inventory"]["names"]["unreadable"]] == [
        "002_frontal.jpg", "001_cam1_1.jpg",
    ]  # fmt: skip
    assert results["mated_probes"] == {"d1": 9, "d2": 10, "d3": 10}


def test_a_camera_and_a_distance_without_probes(tmp_path):
    root = write_scface(tmp_path, subjects=2, listing=False)
    for path in [*(root / "aligned").glob("*_cam4_?.jpg"), *(root / "aligned").glob("*_2.jpg")]:
        path.unlink(missing_ok=True)
    results, _ = evaluate_scface(BlockModel(), read_scface(root))
    assert results["rank1_camera"]["cam4"] == {"d1": None, "d2": None, "d3": None, "all": None}
    assert results["rank1"]["d2"] is None and results["similarity"]["d2"]["gap"] is None
    assert results["similarity"]["d2"]["lead"] is None
    kinds = ("rank1", "same", "other", "gap", "nearest", "lead", "lead_ratio")
    assert improvement(results, results)["d2"] == dict.fromkeys(kinds)


def test_nobody_has_a_frontal_image(tmp_path):
    root = write_scface(tmp_path, subjects=2, listing=False)
    for path in [root / "aligned" / "002_frontal.jpg", *(root / "aligned").glob("001_cam*")]:
        path.unlink()
    with pytest.raises(DataError, match="none of 15 probes"):
        evaluate_scface(BlockModel(), read_scface(root))


def test_improvement_is_the_difference(tmp_path):
    images = read_scface(write_scface(tmp_path, subjects=4))
    ours, theirs = (score_scface(images, random_features(images, seed)) for seed in (1, 2))
    gain = improvement(ours, theirs)
    for d in ("d1", "d2", "d3"):
        assert gain[d]["rank1"] == ours["rank1"][d] - theirs["rank1"][d]
        for kind in ("same", "other"):
            assert gain[d][kind] == ours["similarity"][d][kind]["mean"] - theirs["similarity"][d][kind]["mean"]
        assert gain[d]["gap"] == pytest.approx(gain[d]["same"] - gain[d]["other"])
        leads = [scores["similarity"][d]["lead"] for scores in (ours, theirs)]
        assert gain[d]["lead"] == leads[0] - leads[1]
        if leads[1] > 0:
            assert gain[d]["lead_ratio"] == pytest.approx(leads[0] / leads[1] - 1)
        else:
            assert gain[d]["lead_ratio"] is None


def test_the_relative_gain_of_a_lead():
    assert relative_rise(0.14, 0.02) == pytest.approx(6.0)  # "more than 600 %"
    assert relative_rise(-0.01, 0.02) == pytest.approx(-1.5)
    assert relative_rise(0.1, 0.0) is relative_rise(0.1, -0.2) is relative_rise(None, 0.1) is None


def test_near_probes(tmp_path):
    probes, ids, gallery, gallery_ids = near_probes(read_scface(write_scface(tmp_path, subjects=2)))
    assert {path.stem[-1] for path in probes} == {"3"} and ids.tolist() == [1] * 5 + [2] * 5
    assert len(gallery) == 2 and gallery_ids.tolist() == [1, 2]
