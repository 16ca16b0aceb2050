"""The figures, from a tiny run trained here: files of both kinds, and the numbers that they show."""

from __future__ import annotations

import json
import math
import random
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from ablations import planned, save_result
from tiny import tiny_run, write_faces
from torch.nn.functional import normalize

from qgface_plugin.commands import figures
from qgface_plugin.config.method import QGFaceConfig
from qgface_plugin.data.images import decode
from qgface_plugin.data.sources.records import FaceRecords
from qgface_plugin.evaluation.protocols.scface import EDGES
from qgface_plugin.experiments.figures.file_names import LONGEST, named_after
from qgface_plugin.experiments.figures.gradient import OTHERS, closed_form, measured
from qgface_plugin.experiments.figures.norms import CHANGES, norms_by_step
from qgface_plugin.experiments.figures.pairs import draw_pairs, load_trained
from qgface_plugin.experiments.run_metrics import read_runs, smooth
from qgface_plugin.models.embeddings import Embeddings
from qgface_plugin.training.trainer import train

RECIPE = """
from easydict import EasyDict as edict

config = edict(network="quick", embedding_size=8)
config.qgface = edict(degradation="ours", b=0.5)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    write_faces(folder / "data")
    method = QGFaceConfig(b=0.5)
    run = tiny_run(folder, network="quick", num_epoch=1, qgface=method, val_targets=("dev",))
    train(run)
    (folder / "out" / "recipe.py").write_text(RECIPE)
    return folder


def drawn(out, name):
    """The one figure whose name begins so, or is this."""
    (path,) = out.glob(f"{name}*.pdf")
    pdf, name = path.read_bytes(), path.stem
    assert pdf[:5] == b"%PDF-" and b"/Type3" not in pdf  # fonts that journals take
    image = cv2.imread(str(out / f"{name}.png"))
    assert image.std() > 5
    return image


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("training", ["training", "{run}", "again={run}"]),
        ("fig3b_queues", ["queues", "proxy={run}"]),
        ("fig4_pairs", ["pairs", "{run}", "--data", "{data}", "--device", "cpu"]),
        ("norm_steps", ["norm-steps", "{run}", "--data", "{data}/dev.bin", "--device", "cpu"]),
        ("norm_similarity", ["norms", "{run}", "--data", "{data}/dev.bin", "--device", "cpu"]),
    ],
)
def test_from_a_run(trained, tmp_path, name, arguments, capsys):
    filled = [part.format(run=trained / "out", data=trained / "data") for part in arguments]
    assert figures.main([*filled, "--output", str(tmp_path)]) == 0
    drawn(tmp_path, name)
    said, pdf, png = capsys.readouterr().out.split()
    assert (said, Path(pdf).parent, Path(png).with_suffix(".pdf")) == ("saved:", tmp_path, Path(pdf))
    assert Path(pdf).name.startswith(f"{name}_out-")  # the run that it shows


def test_one_runs_figure_leaves_anothers_alone(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for run in ("work_dirs/first", "work_dirs/deeper/first", "second"):
        shutil.copytree(trained / "out", run)
        assert figures.main(["pairs", run, "--data", str(trained / "data"), "--device", "cpu"]) == 0
        assert figures.main(["training", run, f"other={run}"]) == 0
    found = sorted(path.name for path in Path("work_dirs/figures").glob("*.png"))
    assert found == [
        *(f"fig4_pairs_{run}.png" for run in ("deeper-first", "first", "second")),
        *(f"training_{run}_{run}.png" for run in ("deeper-first", "first", "second")),
    ]


def test_names_of_files_stay_short_and_differ(tmp_path):
    many = [f"work_dirs/a-run-of-many-{i}" for i in range(40)]
    names = {named_after("training", *many[:last]) for last in (38, 39, 40)}
    assert len(names) == 3 and all(len(name) == LONGEST for name in names)
    elsewhere = {named_after("fig4_pairs", tmp_path / place / "run") for place in "ab"}
    assert len(elsewhere) == 2 and all(name.startswith("fig4_pairs_run-") for name in elsewhere)


def test_pairs_are_framed_in_both_colours(trained, tmp_path):
    found, source = load_trained(trained / "out", device="cpu"), FaceRecords(str(trained / "data"))
    views = np.stack([decode(source.read(i)[0], str(i)) for i in range(len(source))])
    norms = torch.from_numpy(found.model.embed(views).norms)
    draw_pairs(tmp_path, replace(found, mean=norms.median(), std=norms.std()), source)
    image = drawn(tmp_path, "fig4_pairs")[..., ::-1].reshape(-1, 3).astype(int)
    for colour in ((0, 158, 115), (213, 94, 0)):
        assert (abs(image - colour).max(1) < 12).mean() > 0.01


def test_quality_is_the_gates(trained):
    found, source = load_trained(trained / "out", device="cpu"), FaceRecords(str(trained / "data"))
    views = np.stack([decode(source.read(i)[0], str(i)) for i in range(3)])
    norms = found.model.embed(views).norms
    expected = 0.5 + 0.5 * np.clip((norms - float(found.mean)) * 0.333 / float(found.std), -1, 1)
    assert found.quality(views, np.zeros(3), np.zeros(3)) == pytest.approx(expected, abs=1e-5) and found.b == 0.5


def trained_otherwise(folder, data, **method):
    """A run in `folder` whose quality is not the norm, with its recipe."""
    run = tiny_run(folder, network="quick", num_epoch=1, qgface=QGFaceConfig(**method))
    train(replace(run, rec=str(data), val_targets=()))
    settings = ", ".join(f"{name}={value!r}" for name, value in method.items())
    (folder / "out" / "recipe.py").write_text(RECIPE.replace("b=0.5", settings))
    return load_trained(folder / "out", device="cpu")


def test_quality_of_another_source_and_a_quantile(trained, tmp_path):
    found = trained_otherwise(tmp_path, trained / "data", quality="degradation", b_quantile=0.5)
    mean, std = float(found.mean), float(found.std)
    strength = -np.array([mean, mean - std])  # quality is minus the strength
    u = found.quality(np.zeros((2, 112, 112, 3), np.uint8), strength, np.zeros(2))
    assert u == pytest.approx([0.5, 0.5 - 0.333 / 2], abs=1e-5)
    saved = torch.load(tmp_path / "out" / "checkpoint_gpu_0.pt", weights_only=True)["state_dict_softmax_fc"]
    assert found.b == float(saved["margin_softmax.threshold.value"]) > 0
    draws_pairs(tmp_path, trained / "data")


def test_quality_from_the_class_centres(trained, tmp_path):
    found = trained_otherwise(tmp_path, trained / "data", quality="certainty", b_quantile=0.5)
    source = FaceRecords(str(trained / "data"))
    read = [source.read(i) for i in range(0, len(source), 10)]
    views, labels = np.stack([decode(image, "") for image, _ in read]), np.array([label for _, label in read])
    raw = torch.from_numpy(found.model.embed(views).original).double()
    cosine = (normalize(raw) @ normalize(found.centres.double()).T).numpy()
    numbers = []
    for row, label in zip(cosine, labels, strict=True):
        numbers.append(row[label] / (1.001 + np.delete(row, label).max()))
    zhat = np.clip((np.array(numbers) - float(found.mean)) * 0.333 / max(float(found.std), 1e-3), -1, 1)
    assert len(set(labels)) > 2 and zhat.std() > 0.01
    assert found.quality(views, np.zeros(len(views)), labels) == pytest.approx(0.5 + 0.5 * zhat, abs=1e-4)
    draws_pairs(tmp_path, trained / "data")


def draws_pairs(folder, data):
    given = ["pairs", str(folder / "out"), "--data", str(data), "--output", str(folder)]
    assert figures.main(given) == 0
    drawn(folder, "fig4_pairs")


def test_similarity_says_what_is_gained(tmp_path, capsys):
    for seed, rate in ((1, 0.75), (2, 0.5)):
        part = {"mean": 0.2, "count": 200, "histogram": np.histogram(np.full(200, 0.2), EDGES)[0].tolist()}
        scores = {
            "rank1": {f"d{d}": rate for d in (1, 2, 3)},
            "similarity": {f"d{d}": {"same": part, "other": part} for d in (1, 2, 3)},
            "histogram_edges": EDGES.tolist(),
        }
        save_result(planned(tmp_path, "a", seed), "scface", scores)
    runs = [f"QGFace={tmp_path / 'a-0-seed1'}", f"AdaFace={tmp_path / 'a-0-seed2'}"]
    assert figures.main(["similarity", *runs, "--output", str(tmp_path)]) == 0
    drawn(tmp_path, "fig5_similarity")
    assert figures.main(["similarity", *runs, runs[0], "--output", str(tmp_path)]) == 2
    assert "3 runs are given" in capsys.readouterr().err


def test_gradient_against_a_loop():
    """g = (P_y - 1) df/dcos, with P_y and the derivative from scalar arithmetic and differences."""
    random.seed(0)
    config = QGFaceConfig()
    for _ in range(50):
        theta, z = random.uniform(0.5, 1.5), random.uniform(-0.55, 1.0)

        def target(cosine, z=z):
            return math.cos(math.acos(cosine) - config.m * z) - (config.m * z + config.m)

        cosine, step = math.cos(theta), 1e-6
        slope = (target(cosine + step) - target(cosine - step)) / (2 * step)
        logit = math.exp(config.s * target(cosine) - 64)
        expected = (logit / (logit + OTHERS * math.exp(-64)) - 1) * slope
        at = torch.tensor([theta], dtype=torch.float64), torch.tensor([z], dtype=torch.float64)
        assert float(closed_form(*at, config)) == pytest.approx(expected, rel=1e-5, abs=1e-9)
        assert float(measured(*at, config)) == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_gradient_is_zero_where_the_gate_is_shut(tmp_path):
    theta, z = torch.tensor([1.2, 1.2], dtype=torch.float64), torch.tensor([-0.61, -0.59], dtype=torch.float64)
    shut, open_ = measured(theta, z, QGFaceConfig()).tolist()
    assert shut == 0 and open_ < -0.5
    assert figures.main(["gradient", "--output", str(tmp_path)]) == 0
    drawn(tmp_path, "fig2_gradient")


class Brightest:
    """A model whose norm is the largest pixel of the image."""

    name, dim = "brightest", 1

    def embed(self, images, batch_size=64, progress=None):
        norms = images.reshape(len(images), -1).max(1).astype(np.float32)[:, None]
        return Embeddings(norms, norms)


def test_norms_by_step():
    images = np.random.default_rng(0).integers(0, 101, (4, 112, 112, 3), dtype=np.uint8)
    images[:, 50:60, 50:60] = 100
    found = {step.name: step for step in norms_by_step(Brightest(), images)}
    assert set(found) == set(CHANGES)
    assert (found["brightness x 0.8"].order, found["brightness x 0.8"].ratio) == (1.0, pytest.approx(0.8))
    assert (found["brightness x 1.2"].order, found["brightness x 1.2"].ratio) == (0.0, pytest.approx(1.2))
    assert (found["side / 2, nearest"].order, found["side / 2, nearest"].ratio) == (0.5, 1.0)  # the same pixels


def test_running_means():
    assert smooth(np.arange(10.0)).tolist() == list(range(10))
    assert smooth(np.arange(6.0), points=2) == pytest.approx([0, 0.5, 1, 2, 3, 4])


def test_input_that_does_not_fit(trained, tmp_path, capsys):
    run = str(trained / "out")
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"kind": "train", "step": 1, "loss": 2.0}) + "\n")
    for arguments, message in (
        (["training", str(tmp_path / "absent")], "metrics.jsonl: it cannot be read"),
        (["training", run, run], "two runs are called out: write NAME=FOLDER"),
        (["queues", str(tmp_path)], "metrics.jsonl has no positive_cosine; train it with a queue"),
        (["similarity", run], "no results/scface.json is in it"),
        (["pairs", str(tmp_path), "--recipe", f"{run}/recipe.py"], "checkpoint_gpu_0.pt does not exist"),
        (["pairs", str(tmp_path)], "there is no recipe"),
        (["norms", run, "--data", "absent.bin"], "absent.bin"),
        (["norm-steps", run, "--data", "absent.bin"], "absent.bin"),
    ):
        assert figures.main([*arguments, "--output", str(tmp_path)]) == 2
        shown = capsys.readouterr().err
        assert shown.startswith("qgface figures: ") and message in shown
    assert read_runs([f"x={run}"])[0].name == "x"
