"""qgface eval-ijb as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checkouts import ROOT, real_checkout
from ijb_sets import write_set
from small_models import write_model

from qgface_plugin.commands.eval_ijb import main

pytest.importorskip("matplotlib")


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    write_set(tmp_path / "ijb" / "IJBB")
    write_model(tmp_path / "run", "quick", 16)
    return ["--model", str(tmp_path / "run"), "--data", str(tmp_path / "ijb"), "--subset", "IJBB", "--quiet"]


def test_first_and_second_run(given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(given) == 0
    said = capsys.readouterr()
    results = tmp_path / "run" / "results"
    assert "IJBB 1:1, 15 pairs, 5 genuine" in said.out and "N0D1F1" in said.out and said.err == ""
    assert f"saved: {results / 'ijbb.json'}, ijbb.csv, ijbb_roc.png" in said.out
    saved = json.loads((results / "ijbb.json").read_text())
    assert saved["protocol"] == "ijbb" and saved["settings"]["modes"] == ["N0D1F1"]
    assert saved["results"]["one_to_one"][0]["pairs"] == 15 and saved["results"]["one_to_n"] == []
    (tmp_path / "ijb" / "IJBB" / "loose_crop" / "1.jpg").touch()  # changed: computed anew
    assert main([*given, "--all-modes"]) == 0
    caches = sorted((results / "features").iterdir())
    assert len(caches) == 2
    for cache in caches:
        for side in ("original", "mirrored"):  # a whole cache is used as it is
            np.save(cache / f"{side}.npy", np.tile(np.arange(1, 13, dtype=np.float32)[:, None], 16))
    assert main(given) == 0
    assert json.loads((results / "ijbb.json").read_text())["results"]["one_to_one"][0]["auc"] == 0.5


def test_embeddings(given: list[str], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    people = random.standard_normal((3, 8))[np.arange(12) // 4]  # templates 1 and 2 are one person, 3 and 4, 5 and 6
    np.savez(tmp_path / "e.npz", embs=people, embs_f=people)
    out = tmp_path / "out" / "mine.json"
    assert main([*given, "--embeddings", str(tmp_path / "e.npz"), "--json", str(out), "--mode", "N1D0F0"]) == 0
    assert json.loads(out.read_text())["results"]["one_to_one"][0]["mode"] == "N1D0F0"
    assert sorted(path.name for path in out.parent.iterdir()) == ["mine.csv", "mine.json", "mine_roc.png"]


def test_a_gallery_of_another_model(given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Features of both models are kept apart; the result names both, and a same model gives the plain result."""
    write_model(tmp_path / "old", "quick", 16, seed=1)
    assert main(given) == 0
    results = tmp_path / "run" / "results"
    alone = json.loads((results / "ijbb.json").read_text())
    assert main([*given, "--gallery-model", str(tmp_path / "old")]) == 0
    said = capsys.readouterr().out
    assert f"IJBB: probes by {tmp_path / 'run'}, gallery by {tmp_path / 'old'}" in said
    assert "15 pairs" in said and "show no FAR below 1.0e-01" in said
    assert len(list((results / "features").iterdir())) == 2
    mixed = json.loads((results / "ijbb_gallery.json").read_text())
    assert mixed["protocol"] == "ijbb_gallery" and mixed["settings"]["sha256"] == alone["settings"]["sha256"]
    assert mixed["settings"]["gallery_model"]["model"] == str(tmp_path / "old")
    assert len(mixed["settings"]["gallery_model"]["sha256"]) == 64 != mixed["settings"]["sha256"]
    assert mixed["results"]["one_to_one"] != alone["results"]["one_to_one"]
    assert main([*given, "--gallery-model", str(tmp_path / "run")]) == 0
    assert json.loads((results / "ijbb_gallery.json").read_text())["results"] == alone["results"]
    write_model(tmp_path / "wide", "quick", 8)
    assert main([*given, "--gallery-model", str(tmp_path / "wide")]) == 2
    assert "run gives features of 16 numbers and the gallery's model wide of 8" in capsys.readouterr().err
    assert main([*given, "--gallery-model", str(tmp_path / "old"), "--tool", "insightface", "--ijb-tools", "x"]) == 2
    assert "leave --gallery-model out" in capsys.readouterr().err


def test_bad_images(given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "ijb" / "IJBB" / "loose_crop" / "4.jpg").write_bytes(b"?")
    assert main(given) == 2
    assert capsys.readouterr().err.startswith("qgface eval-ijb: 1 of 12 images cannot be used: ")
    assert main([*given, "--on-corrupt", "skip"]) == 0
    assert "warning: 1 of 12 images are left out: " in capsys.readouterr().err
    saved = json.loads((tmp_path / "run" / "results" / "ijbb.json").read_text())
    assert "4.jpg: undecodable image of 1 bytes" in saved["warnings"][0]
    (tmp_path / "ijb_evals.py").write_text("")
    assert main([*given, "--on-corrupt", "skip", "--tool", "insightface", "--ijb-tools", str(tmp_path)]) == 2
    assert "--tool insightface leaves no image out, and 1 of 12 cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("further", "message"),
    [
        (["--one-to-n"], "the 1:N protocol needs this file"),
        (["--subset", "IJBC"], "meta/ijbc_face_tid_mid.txt"),
        (["--mode", "N3"], "mode is 'N3'"),
        (["--tool", "insightface"], "--tool insightface needs --ijb-tools DIR"),
        (["--tool", "insightface", "--ijb-tools", "."], "no ijb_evals.py in it"),
        (["--tool", "insightface", "--ijb-tools", ".", "--mode", "N1D1F1"], "leave --mode out"),
        (["--model", "absent.pt"], "absent.pt: No such file"),
    ],
)
def test_refused(given: list[str], further: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert main([*given, *further]) == 2
    said = capsys.readouterr().err
    assert said.startswith("qgface eval-ijb: ") and message in said


@pytest.mark.long
@pytest.mark.arcface_torch
def test_two_ranks_and_insightface(given: list[str], lfw: Path, tmp_path: Path) -> None:
    given[given.index("--data") + 1] = str(lfw / "ijb")
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29641"]
    tools = str(real_checkout().parents[1])
    command = [*launch, "-m", "qgface_plugin", "eval-ijb", *given, "--one-to-n", "--all-modes"]
    command += ["--tool", "insightface", "--ijb-tools", tools]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, capture_output=True, text=True, env=environ, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "66 numbers agree" in ran.stdout and ran.stdout.count("saved: ") == 1
