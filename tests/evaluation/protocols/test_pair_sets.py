"""Pair verification from pixels to numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from checkouts import real_checkout
from compat_tools import importing_from
from small_models import naive_features, write_model
from tiny import write_faces
from torch import nn

from qgface_plugin.arcface_torch import compat
from qgface_plugin.data.bin_files import PairSet, read_bin, write_bin
from qgface_plugin.data.pair_dataset import normalise
from qgface_plugin.evaluation.metrics.verification import kfold_accuracy, pair_distances
from qgface_plugin.evaluation.protocols.pair_sets import (
    DecodedPairs,
    evaluate_pair_set,
    find_pair_sets,
    people_of,
    verify,
)
from qgface_plugin.evaluation.protocols.pair_tables import (
    as_results,
    norm_table,
    threshold_table,
    verification_table,
    warnings_of,
)
from qgface_plugin.models import load_model
from qgface_plugin.utils.errors import DataError


class FakePairs:
    """Pairs of flat colours: a genuine pair shares its colour up to noise, an impostor pair does not."""

    name = "colours"

    def __init__(self, pairs: int = 40) -> None:
        rng = np.random.default_rng(0)
        self.same = np.arange(pairs) % 3 != 0
        colours = rng.integers(0, 256, (pairs, 2, 3))
        colours[self.same, 1] = np.clip(colours[self.same, 0] + rng.integers(-9, 10, (self.same.sum(), 3)), 0, 255)
        self.images = np.broadcast_to(colours.reshape(-1, 1, 1, 3), (2 * pairs, 112, 112, 3)).astype(np.uint8)
        self.decoded = 0

    def decode(self) -> np.ndarray:
        self.decoded += 1
        return self.images


class MeanColour(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) * 10


def test_result_agrees_with_the_parts():
    pairs = FakePairs()
    result = verify(MeanColour(), pairs, batch_size=16)
    colours = (pairs.images[:, 0, 0].astype(np.float64) - 127.5) / 127.5 * 10
    expected = kfold_accuracy(pair_distances(2 * colours), pairs.same)
    assert (result.name, result.pairs) == ("colours", 40)
    assert result.accuracy == pytest.approx(expected.mean) and result.std == pytest.approx(expected.std)
    assert result.threshold == pytest.approx(expected.threshold)
    assert result.xnorm == pytest.approx(np.linalg.norm(colours, axis=1).mean(), rel=1e-5)
    assert result.accuracy > 0.85 and result.auc > 0.9
    assert [point.far for point in result.tar_at_far] == [1e-3, 1e-2, 1e-1]


def test_as_dict_is_json_and_keeps_every_number():
    result = verify(MeanColour(), FakePairs())
    restored = json.loads(json.dumps(result.as_dict()))
    assert restored == result.as_dict() and restored["accuracy"] == result.accuracy
    assert set(restored["tar_at_far"][0]) == {"far", "nearest", "strict"}


def test_decoded_pairs_decode_once():
    pairs = FakePairs()
    held = DecodedPairs.of(pairs)
    first, second = verify(MeanColour(), held), verify(MeanColour(), held)
    assert pairs.decoded == 1 and first == second == verify(MeanColour(), pairs)


def test_features_that_are_not_finite_stop_it():
    class Broken(MeanColour):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) / 0 * 0

    with pytest.raises(DataError, match="features are not finite"):
        verify(Broken(), FakePairs())


def test_fewer_pairs_than_folds():
    with pytest.raises(DataError, match="4 pairs cannot be split into 10 folds"):
        verify(MeanColour(), FakePairs(4))


class Pixels(nn.Module):
    """Grey image of 14 x 14, its mean removed."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        small = nn.functional.avg_pool2d(x.mean(1, keepdim=True), 8).flatten(1)
        return small - small.mean(1, keepdim=True)


def test_raw_pixels_of_real_faces_are_above_chance(lfw):
    """Pixels tell a little, far from everything; with images or pairs in a wrong order they would tell nothing."""
    result = verify(Pixels(), read_bin(lfw / "train" / "lfw_dev.bin"))
    assert result.pairs == 1000 and 0.6 < result.auc < 0.9 and 0.55 < result.accuracy < 0.8


# ---
# Pair sets from files to tables, by loops written from arcface_torch's protocol; and beside arcface_torch itself.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """dev.bin of 20 pairs, and model.pt."""
    folder = write_faces(tmp_path_factory.mktemp("pairs") / "data")
    write_model(folder, "quick", 256)
    return folder


def test_figures_are_the_protocols(folder: Path) -> None:
    """Ten folds of two pairs: the threshold that is best on the other 18 pairs, image by image and pair by pair."""
    result = evaluate_pair_set(load_model(str(folder)), folder / "dev.bin", batch_size=7)
    pairs, model = read_bin(folder / "dev.bin"), load_model(str(folder)).backbone
    views = [[naive_features(model, x, m).astype(np.float64) for x in pairs.decode()] for m in (False, True)]
    for fused, accuracy, std in (
        (True, result.verification.accuracy, result.verification.std),
        (False, result.single_accuracy, result.single_std),
    ):
        unit = [(a + b if fused else a) for a, b in zip(*views, strict=True)]
        unit = [v / np.sqrt(sum(v**2)) for v in unit]
        distances = [float(sum((unit[2 * i] - unit[2 * i + 1]) ** 2)) for i in range(20)]
        right = [[(distances[i] < t / 100) == bool(pairs.same[i]) for i in range(20)] for t in range(400)]
        folds = []
        for fold in range(10):
            train = [i for i in range(20) if i // 2 != fold]
            rights = [sum(row[i] for i in train) for row in right]
            best = rights.index(max(rights))
            folds.append((right[best][2 * fold] + right[best][2 * fold + 1]) / 2)
        assert accuracy == pytest.approx(np.mean(folds), abs=1e-9) and std == pytest.approx(np.std(folds), abs=1e-9)
    norms = [np.linalg.norm(v) for v in views[0]]
    assert result.norms.mean == pytest.approx(np.mean(norms), rel=1e-5)
    assert result.verification.xnorm == pytest.approx(
        np.mean([np.linalg.norm(v) for both in views for v in both]), rel=1e-5
    )
    assert (result.genuine, result.verification.pairs) == (10, 20)


def test_thresholds_are_of_the_features_they_name(folder: Path) -> None:
    """With and without flip fusion; each threshold by a loop over the pairs' cosines."""
    result = evaluate_pair_set(load_model(str(folder)), folder / "dev.bin", sample=0, fars=(0.01, 0.1, 0.5))
    pairs = read_bin(folder / "dev.bin")
    embeddings = load_model(str(folder)).embed(pairs.decode())
    for found, features in (
        (result.thresholds, embeddings.original.astype(np.float64) + embeddings.mirrored),
        (result.single_thresholds, embeddings.original),
    ):
        assert found.flip_fusion == (found is result.thresholds)
        unit = [v / sum(v**2) ** 0.5 for v in features.astype(np.float64)]
        cosines = [float(sum(unit[2 * i] * unit[2 * i + 1])) for i in range(20)]
        assert found.points[0].threshold is None and "10 impostor pairs show no FAR below" in found.points[0].reason
        for point in found.points[1:]:
            fitting = [t for t in cosines if sum(c >= t for c, s in zip(cosines, pairs.same, strict=True) if not s)
                       <= 10 * point.far]  # fmt: skip
            assert point.threshold == pytest.approx(min(fitting), abs=1e-9)
            assert point.true_accepts == sum(c >= min(fitting) for c, s in zip(cosines, pairs.same, strict=True) if s)
    curves = result.curves
    assert sum(curves["histogram"]["genuine"]) == sum(curves["histogram"]["impostor"]) == 10
    assert curves["roc"]["far"][0] == 0 and curves["roc"]["far"][-1] == curves["roc"]["tar"][-1] == 1
    shown = threshold_table([result])
    assert "none" in shown and f"{result.thresholds.points[1].threshold:.4f}" in shown
    assert result.thresholds.interval in shown and "at least the threshold" in shown
    json.dumps(result.as_dict(), allow_nan=False)


def test_people_of_pairs_that_share_images() -> None:
    """a-b genuine and b-c genuine: one person of three images; a-d impostor shares her."""
    pairs = PairSet([b"a", b"b", b"b", b"c", b"d", b"a"], np.array([True, True, False]), "x")
    people = people_of(pairs)
    assert people.first[0] == people.second[0] == people.first[1] == people.second[1] == people.second[2]
    assert people.first[2] != people.first[0] and not people.independent
    assert people_of(PairSet([b"a", b"b", b"c", b"d"], np.array([True, False]), "x")).independent


def test_sample(folder: Path) -> None:
    model = load_model(str(folder))
    found = evaluate_pair_set(model, folder / "dev.bin", sample=6)
    assert found.norm_order.images == 6 and found.color_order.pairs == 6
    plain = evaluate_pair_set(model, folder / "dev.bin", sample=0)
    assert plain.norm_order is None and plain.color_order is None and plain.verification == found.verification
    assert "not measured" in norm_table([plain]) and warnings_of([plain]) == []


def test_tables_and_what_is_saved(folder: Path) -> None:
    result = evaluate_pair_set(load_model(str(folder)), folder / "dev.bin", fars=(0.1, 0.5))
    table = verification_table([result, result]).splitlines()
    assert table[0].split()[:3] == ["set", "pairs", "accuracy"] and "TAR@FAR=0.5" in table[0]
    assert table[2].split()[:3] == ["dev", "20", f"{100 * result.verification.accuracy:.3f}"]
    assert table[4].split() == ["average", f"{100 * result.verification.accuracy:.3f}"]
    assert len(verification_table([result]).splitlines()) == 3
    saved = json.loads(json.dumps(as_results([result])))
    assert saved["sets"]["dev"]["accuracy"] == saved["average"]["accuracy"] == result.verification.accuracy
    assert saved["sets"]["dev"]["norm_order"]["verdict"] == result.norm_order.verdict
    assert norm_table([result]).splitlines()[2].split()[0] == "dev"


def test_find(folder: Path) -> None:
    assert find_pair_sets(folder) == find_pair_sets(folder, ["dev"]) == find_pair_sets(folder, ["dev.bin"])
    assert find_pair_sets(folder / "dev.bin") == [folder / "dev.bin"]
    with pytest.raises(DataError, match="no lfw.bin, cfp_fp.bin; it holds dev.bin"):
        find_pair_sets(folder, ["lfw", "dev", "cfp_fp"])
    with pytest.raises(DataError, match="nowhere: no such folder"):
        find_pair_sets(folder / "nowhere")
    with pytest.raises(DataError, match="is no folder"):
        find_pair_sets(folder / "dev.bin", ["dev"])
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="no .bin file"):
        find_pair_sets(folder / "empty")


class Unused:
    def embed(self, *args: object) -> None:
        pytest.fail("images were embedded")


def test_refused_before_images_are_embedded(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="dev.bin: 20 pairs .* 21 folds"):
        evaluate_pair_set(Unused(), folder / "dev.bin", folds=21)
    with pytest.raises(DataError, match="dev.bin: FAR 2 "):
        evaluate_pair_set(Unused(), folder / "dev.bin", fars=(2,))
    write_bin(tmp_path / "alike.bin", read_bin(folder / "dev.bin").images, [True] * 20)
    with pytest.raises(DataError, match="alike.bin: 20 of 20 pairs are genuine"):
        evaluate_pair_set(Unused(), tmp_path / "alike.bin")


@pytest.mark.arcface_torch
@pytest.mark.parametrize("network", ["quick", pytest.param("mbf", marks=pytest.mark.long)])
def test_numbers_are_arcface_torchs(tmp_path: Path, network: str, lfw: Path) -> None:
    """Its own eval/verification.py on the same file and weights: random ones, their statistics of the faces."""
    pairs = read_bin(lfw / "train" / "lfw_dev.bin")
    rows = np.arange(0, 1000, 5)
    path = tmp_path / "part.bin"
    write_bin(path, [pairs.images[i] for row in rows for i in (2 * row, 2 * row + 1)], pairs.same[rows])
    backbone = write_model(tmp_path, network, 128)
    for module in backbone.modules():
        module.momentum = 1.0
    with torch.no_grad():
        backbone.train()(normalise(torch.from_numpy(read_bin(path).decode()[:100]).permute(0, 3, 1, 2)))
    torch.save(backbone.state_dict(), tmp_path / "model.pt")
    checkout = real_checkout()
    with importing_from(checkout):
        compat.apply(checkout)
        from eval import verification

        data = verification.load_bin(str(path), (112, 112))
        _, _, accuracy, std, xnorm, _ = verification.test(data, backbone.eval(), 50)
    found = evaluate_pair_set(load_model(str(tmp_path)), path, sample=0).verification
    assert found.accuracy == pytest.approx(accuracy, abs=1e-6) and found.std == pytest.approx(std, abs=1e-6)
    assert found.xnorm == pytest.approx(xnorm, rel=1e-6)
    assert found.pairs == 200 and 0.55 < found.accuracy < 0.9 and 0.1 < found.threshold < 3
