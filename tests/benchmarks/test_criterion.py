"""The benchmarks of the loss and of the step, on small sets; what they compare with is what it says to be."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from qgface_plugin import QGFaceMargin, QGPartialFC
from qgface_plugin.arcface_torch import compat
from qgface_plugin.benchmarks import criterion
from qgface_plugin.benchmarks._plain_criteria import PlainArcFace, PlainHeads
from qgface_plugin.commands.benchmark import main

ROWS, CLASSES, DIM = 12, 40, 16


def test_plain_arcface_is_arcface():
    torch.manual_seed(0)
    head = PlainArcFace(DIM, CLASSES, s=8.0).double()
    features, labels = criterion.batch(ROWS, DIM, CLASSES, 0.3)
    features = features.double().requires_grad_()
    theta = (normalize(features) @ normalize(head.weight).T).clamp(-1 + 1e-12, 1 - 1e-12).arccos()
    margin = torch.zeros_like(theta).scatter_(1, labels.unsqueeze(1), 0.5)
    expected = cross_entropy((theta + margin).cos() * 8.0, labels)
    loss = head(features, labels)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)
    loss.backward()
    assert features.grad.isfinite().all() and head.weight.grad.abs().sum() > 0


def test_plain_heads_are_the_preset_authors():
    """The same loss as QGPartialFC's preset `authors` gives, with the same queue."""
    torch.manual_seed(0)
    head = PlainHeads(DIM, CLASSES).double()
    margin = QGFaceMargin(authors=True, stats_momentum=0.0)
    ours = QGPartialFC(margin, DIM, CLASSES).double()
    features, labels = criterion.batch(ROWS, DIM, CLASSES, 0.3)
    quality = margin.quality
    quality.mean.fill_(20.0), quality.std.fill_(1.0), quality.started.fill_(True)
    with torch.no_grad():
        ours.weight.copy_(head.weight)
    entries = head.queue.flip(0)  # ours takes the first row for the newest
    ours.queue.enqueue(entries, head.labels.flip(0), head.old[head.labels].flip(0))
    head.old.copy_(head.old[head.labels])
    torch.testing.assert_close(head(features.double(), labels), ours(features.double(), labels), rtol=1e-6, atol=0)


def test_batch_and_full_queue():
    features, labels = criterion.batch(20, DIM, CLASSES, 0.3)
    out = criterion.full(DIM, CLASSES)
    out(features, labels)
    assert float(out.terms["lq_share_view"]) == pytest.approx(0.3)
    assert float(out.terms["lq_share_pair"]) == pytest.approx(0.6) and float(out.terms["queue_fill"]) == 1.0


def test_criterion(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["--classes", "300", "--rows", "32", "--dim", "16", "--rounds", "1", "--json", str(tmp_path / "c.json")]
    assert main(["criterion", *arguments]) == 0
    results = json.loads((tmp_path / "c.json").read_text())["results"]["300 classes"]
    ours, plain = results["QGFace"], results["plain ArcFace"]
    assert results["QGFace / plain ArcFace"] == pytest.approx(ours["ms of CPU"] / plain["ms of CPU"])
    assert results["memory QGFace / plain ArcFace"] == pytest.approx(ours["MB"] / plain["MB"])
    assert plain["MB"] * 1e6 > 32 * 300 * 4 * 3
    assert "QGFace / plain heads" in capsys.readouterr().out


def test_step(tmp_path: Path) -> None:
    arguments = ["--network", "quick", "--batch", "4", "--classes", "20", "--rounds", "1", "--device", "cpu"]
    assert main(["step", *arguments, "--json", str(tmp_path / "s.json")]) == 0
    results = json.loads((tmp_path / "s.json").read_text())["results"]
    assert results["images a second"] == pytest.approx(8e3 / results["QGFace step"]["ms of CPU"])
    assert 0.0 < results["share of views blurred"] < 1.0 and results["backbone's TFLOP/s"] > 0


def test_step_in_float16(tmp_path: Path) -> None:
    arguments = ["--network", "quick", "--batch", "2", "--classes", "8", "--rounds", "1", "--device", "cpu"]
    assert main(["step", *arguments, "--precision", "float16", "--json", str(tmp_path / "s.json")]) == 0
    assert json.loads((tmp_path / "s.json").read_text())["results"]["QGFace step / plain ArcFace step"] > 0


@pytest.mark.parametrize("device, backend", [("cpu", "gloo"), ("cuda", "nccl")])
def test_the_checkouts_own_ranks_speak_as_the_device_does(device, backend, tmp_path, monkeypatch) -> None:
    """Beside a GPU, too, a benchmark on the CPU has CPU tensors."""
    (tmp_path / "losses.py").write_text("class ArcFace: ...\n")
    (tmp_path / "partial_fc_v2.py").write_text("def PartialFC_V2(margin, dim, classes): return dim, classes\n")
    asked = []
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, **_: asked.append(backend))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(compat, "apply", lambda _: None)
    monkeypatch.setattr(sys, "path", [*sys.path])
    make = criterion._upstream(tmp_path, torch.device(device))
    for name in ("losses", "partial_fc_v2"):
        monkeypatch.delitem(sys.modules, name)
    assert asked == [backend] and make(4, 9) == (4, 9)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["criterion", "--rows", "7"], "--rows is even"),
        (["criterion", "--lq-share", "0.6"], "--lq-share is between 0 and 0.5"),
        (["criterion", "--arcface-torch", "/nowhere"], "/nowhere has no partial_fc_v2.py"),
        (["step", "--batch", "1"], "--batch is at least 2"),
        (["step", "--lq-share", "0"], "--lq-share is between 0 and 1"),
        (["step", "--device", "toaster"], "--device is 'toaster', which is no device"),
    ],
)
def test_wrong_arguments(arguments, message, capsys: pytest.CaptureFixture) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
