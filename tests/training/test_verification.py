"""Verification during a run: degraded copies, what is compared with the start, and the weights that are kept."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TIMES, TinyBackbone, face, same, tiny_model, tiny_run, write_faces

from qgface_plugin.config.degradation import OURS
from qgface_plugin.config.options import TrainOptions, VerifyOptions
from qgface_plugin.data.bin_files import read_bin
from qgface_plugin.data.degradation.cpu import degrade
from qgface_plugin.evaluation.protocols.pair_sets import DecodedPairs
from qgface_plugin.models.embeddings import Embeddings, embed
from qgface_plugin.training import build, verification
from qgface_plugin.training.trainer import train
from qgface_plugin.training.verification import (
    Standing,
    best_of,
    degraded_copies,
    mean_cosines,
    mixed,
    share_of,
    standings,
)
from qgface_plugin.utils.errors import ConfigError, DataError

ALL = VerifyOptions(before=True, degraded=True, keep_best="degraded", max_regression=0.5)
KINDS = ("sharp", "degraded", "mixed")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "get_model", tiny_model)
    write_faces(tmp_path / "data")
    return tmp_path


def lines(folder: Path, out: str = "out") -> list[dict]:
    text = (folder / out / "metrics.jsonl").read_text()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in text.splitlines()]


def test_copies_are_the_policys_and_always_the_same():
    images = np.stack([face(i % 3, i) for i in range(5)])
    copies = degraded_copies(images, OURS, seed=4)
    for i in range(5):
        assert np.array_equal(copies[i], degrade(images[i], OURS, np.random.default_rng((4, i))))
    assert np.array_equal(degraded_copies(images[:2], OURS, seed=4), copies[:2])
    assert not np.array_equal(degraded_copies(images, OURS, seed=5), copies) and copies.dtype == np.uint8


def test_mixed_pairs_and_their_cosines():
    rng = np.random.default_rng(0)
    sharp, degraded = (Embeddings(*rng.normal(size=(2, 6, 3)).astype(np.float32)) for _ in range(2))
    pairs = mixed(sharp, degraded)
    for row in range(6):
        of = sharp if row % 2 == 0 else degraded
        assert np.array_equal(pairs.original[row], of.original[row])
        assert np.array_equal(pairs.mirrored[row], of.mirrored[row])
    flags, expected = np.array([True, False, True]), {True: [], False: []}
    for i, flag in enumerate(flags):
        a, b = (pairs.original[2 * i + k].astype(float) + pairs.mirrored[2 * i + k] for k in (0, 1))
        expected[bool(flag)].append(a @ b / np.sqrt((a @ a) * (b @ b)))
    found = mean_cosines(pairs, flags)
    assert found["cosine_same"] == pytest.approx(np.mean(expected[True]))
    assert found["cosine_other"] == pytest.approx(np.mean(expected[False]))


def test_a_share_of_a_set_is_spread_over_it():
    images = np.arange(80, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    pairs = DecodedPairs("dev", np.arange(40) % 4 < 2, images)
    share = share_of(pairs, 20)
    which = share.images[::2, 0, 0, 0] // 2
    assert len(share.same) == 20 and (np.diff(which) >= 1).all() and which[-1] - which[0] > 30
    assert np.array_equal(share.images[1::2, 0, 0, 0], 2 * which + 1)
    assert np.array_equal(share.same, pairs.same[which])
    assert share_of(pairs, None) is share_of(pairs, 40) is pairs
    one_kind = replace(pairs, same=np.arange(40) == 1)
    with pytest.raises(DataError, match=r"config\.qgface\.verify\.pairs is 20, of the set dev: .* genuine"):
        share_of(one_kind, 20)


def at(step: int, sharp: float, degraded: float, auc: float = 0.9) -> Standing:
    return Standing(step, {"sharp": sharp, "degraded": degraded}, {"sharp": auc, "degraded": auc})


@pytest.mark.parametrize(
    "found, rule, best",
    [
        ([at(0, 0.99, 0.6), at(1, 0.988, 0.7), at(2, 0.97, 0.8)], "degraded", 1),  # the third loses too much
        ([at(0, 0.99, 0.6), at(1, 0.97, 0.7), at(2, 0.97, 0.8)], "degraded", 0),  # both do: the start is kept
        ([at(0, 0.99, 0.6), at(1, 0.985, 0.7)], "degraded", 1),  # just as much as is allowed
        ([at(1, 0.99, 0.6), at(2, 0.9, 0.8)], "degraded", 2),  # nothing to compare with
        ([at(0, 0.99, 0.6), at(1, 0.992, 0.6), at(2, 0.991, 0.7)], "sharp", 1),
        ([at(0, 0.99, 0.6), at(1, 0.99, 0.7, 0.8), at(2, 0.99, 0.7, 0.85), at(3, 0.99, 0.7, 0.85)], "degraded", 2),
    ],
)
def test_the_best_by_the_rule(found, rule, best):
    assert best_of(found, rule, 0.005).step == best


def test_means_are_over_all_sets_of_a_step():
    def line(step, name, accuracy):
        return {"step": step, "name": name, "accuracy": accuracy, "auc": accuracy / 2}

    history = [line(0, "a", 0.9), line(0, "b", 0.7), line(5, "a", 0.8)]  # the second one was left
    assert standings(history, ["a", "b"], ["sharp"]) == [Standing(0, {"sharp": 0.8}, {"sharp": 0.4})]
    history += [line(5, "b", 0.8), line(5, "a_degraded", 0.5)]
    assert [one.step for one in standings(history, ["a", "b"], ["sharp"])] == [0, 5]
    assert [one.step for one in standings(history, ["a"], ["sharp", "degraded"])] == [5]
    assert standings(history, [], ["sharp"]) == []


def test_a_run_verifies_before_and_after_and_keeps_the_best(folder):
    run = tiny_run(folder, val_targets=("dev",), verify=ALL, frequent=100)
    train(run)
    found = [line for line in lines(folder) if line["kind"] == "verification"]
    assert [(line["step"], line["name"]) for line in found] == [
        (step, f"dev{ending}") for step in (0, 6, 12) for ending in ("", "_degraded", "_mixed")
    ]
    pairs = DecodedPairs.of(read_bin(folder / "data" / "dev.bin"))
    copies = np.stack([degrade(image, OURS, np.random.default_rng((0, i))) for i, image in enumerate(pairs.images)])
    last, model = found[-3:], TinyBackbone(8)
    model.load_state_dict(torch.load(folder / "out" / "model.pt", weights_only=True))
    sharp, degraded = embed(model, pairs.images), embed(model, copies)
    for line, embeddings in zip(last, (sharp, degraded, mixed(sharp, degraded)), strict=True):
        assert line["cosine_same"] == pytest.approx(mean_cosines(embeddings, pairs.same)["cosine_same"], abs=1e-6)
    by_hand = [(line["accuracy"], line["auc"], -line["step"]) for line in found if line["name"] == "dev_degraded"]
    best = -max(by_hand)[2]
    kept = torch.load(folder / "out" / "model_best.pt", weights_only=True)
    note = json.loads((folder / "out" / "model_best.json").read_text())
    assert (note["step"], note["keep_best"]) == (best, "degraded")
    names = {0: None, 6: "checkpoint_gpu_0.6.pt", 12: "checkpoint_gpu_0.pt"}
    if best:
        state = torch.load(folder / "out" / names[best], weights_only=True)["state_dict_backbone"]
        assert same(dict(kept), dict(state))
    log = (folder / "out" / "training.log").read_text()
    assert "accuracy over the sets: sharp" in log and "Cosine of matched pairs" in log and "TAR@FAR" in log
    assert f"model_best.pt is {f'step {best}' if best else 'the encoder that the run started from'}" in log


def test_it_goes_on_where_a_run_was_left(folder):
    run = tiny_run(folder, val_targets=("dev",), verify=ALL, frequent=100)
    train(run)
    pieces = replace(run, output=str(folder / "pieces"))
    for last in (4, 6, 9, None):
        train(replace(pieces, resume=last != 4, train=TrainOptions(max_steps=last)))
    whole, parts = ([line for line in lines(folder, out) if line["step"] in (0, 6, 12)] for out in ("out", "pieces"))
    assert [x for x in whole if x["kind"] == "verification"] == [x for x in parts if x["kind"] == "verification"]


def test_sharp_faces_that_lose_are_warned_of_and_not_kept(folder, caplog, monkeypatch):
    accuracy = {0: 0.95, 6: 0.90, 12: 0.948}
    original = verification.verify_embeddings

    def verify(embeddings, same, name):
        result = original(embeddings, same, name)
        number = len(steps)
        steps.append(name)
        step = (0, 6, 12)[number // 3]
        return replace(result, accuracy=accuracy[step] if name == "dev" else step / 20)

    steps: list[str] = []
    monkeypatch.setattr(verification, "verify_embeddings", verify)
    with caplog.at_level(logging.INFO, "qgface_plugin"):
        train(tiny_run(folder, val_targets=("dev",), verify=replace(ALL, max_regression=0.01)))
    warned = [
        r.getMessage() for r in caplog.records if r.levelno == logging.WARNING and "sharp faces" in r.getMessage()
    ]
    assert len(warned) == 1 and warned[0].startswith("step 6: sharp faces have lost 5.00 points")
    assert "config.qgface.verify.max_regression = 0.01" in warned[0]
    assert json.loads((folder / "out" / "model_best.json").read_text())["step"] == 12
    assert "sharp 94.80 % (-0.20), degraded 60.00 % (+60.00)" in caplog.text


def test_what_does_not_go_together_is_refused(folder):
    with pytest.raises(ConfigError, match=r"keep_best is 'degraded'.*degraded = True and .*before = True"):
        VerifyOptions(keep_best="degraded", before=True)
    with pytest.raises(ConfigError, match=r"verify\.degraded is True, but config\.qgface\.degradation is None"):
        tiny_run(folder, degradation=None, verify=ALL, qgface=replace(tiny_run(folder).qgface, queue="none"))


def test_without_a_set_nothing_is_kept_and_it_is_said(folder, caplog):
    train(tiny_run(folder, num_epoch=1, verify=VerifyOptions(keep_best="sharp")))
    assert "there is no set to verify on: no model_best.pt is kept" in caplog.text
    assert not (folder / "out" / "model_best.pt").exists()
