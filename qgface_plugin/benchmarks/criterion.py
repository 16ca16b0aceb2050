"""A step of the loss, forward and backward: QGFace, plain ArcFace partial FC, and two plain heads in the authors' way.

All get the same rows: B originals and their B degraded views, of which the given share of all views is blurred (the
blurred ones are degraded views, so twice that share of the pairs is contrasted). QGFace is measured beside a full
queue of as many entries as classes. Steps take turns; figures and ratios are medians over
the rounds, ratios of processor time (on a GPU by the clock). Extra memory is what a step allocates at
most beyond centres and queue, the gradient of the centres with it. With --arcface-torch the checkout's own
PartialFC_V2 and ArcFace take part.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from .. import QGFaceMargin, QGPartialFC
from ..utils.device import keep_freed_pages
from ..utils.errors import ConfigError
from ._plain_criteria import PlainArcFace, PlainHeads
from ._side_by_side import extra_bytes, interleaved, medians, ratio

HIGH, LOW = 21.0, 15.0  # norms of sharp and of blurred views; the statistics stand at 20 and 1
OURS, ARCFACE, HEADS, UPSTREAM = "QGFace", "plain ArcFace", "plain heads", "PartialFC_V2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--classes", type=int, nargs="+", default=[8631, 85742], metavar="N", help="[%(default)s]")
    parser.add_argument("--rows", type=int, default=256, help="2B, views in a batch [%(default)s]")
    parser.add_argument("--lq-share", type=float, default=0.3, help="share of all views that is blurred [%(default)s]")
    parser.add_argument("--dim", type=int, default=512, help="numbers in an embedding [%(default)s]")
    parser.add_argument("--rounds", type=int, default=7, help="measured steps of each [%(default)s]")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch [%(default)s]")
    parser.add_argument("--device", default="cpu", help="cpu or cuda [%(default)s]")
    parser.add_argument(
        "--new-pages",
        action="store_true",
        help="on a CPU: freed memory goes back to the system, not kept for the next step as the built-in loop keeps it",
    )
    parser.add_argument("--arcface-torch", type=Path, metavar="DIR", help="a checkout, for its own PartialFC_V2")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """For each number of classes: ratios first, then milliseconds and bytes of each way."""
    if arguments.rows < 4 or arguments.rows % 2 or min(arguments.classes) < arguments.rows:
        raise ConfigError("--rows is even and at least 4, --classes at least as many as rows")
    if not 0.0 <= arguments.lq_share <= 0.5 or min(arguments.rounds, arguments.threads, arguments.dim) < 1:
        raise ConfigError("--lq-share is between 0 and 0.5, --rounds, --threads and --dim at least 1")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device is cuda, but torch sees no GPU")
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    if device.type == "cpu" and not arguments.new_pages:
        keep_freed_pages()
    upstream = _upstream(arguments.arcface_torch, device) if arguments.arcface_torch else None
    results: dict[str, Any] = {"rows": arguments.rows, "share of views blurred": arguments.lq_share}
    results["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    results["threads"] = arguments.threads
    for classes in arguments.classes:
        results[f"{classes} classes"] = _compare(classes, arguments, upstream, device)
    return results


def _compare(
    classes: int, arguments: argparse.Namespace, upstream: Callable[[int, int], nn.Module] | None, device: torch.device
) -> dict[str, Any]:
    torch.manual_seed(0)
    dim = arguments.dim
    features, labels = batch(arguments.rows, dim, classes, arguments.lq_share)
    features, labels = features.to(device), labels.to(device)
    ways: dict[str, nn.Module] = {
        OURS: full(dim, classes), ARCFACE: PlainArcFace(dim, classes), HEADS: PlainHeads(dim, classes)
    }  # fmt: skip
    if upstream:
        ways[UPSTREAM] = upstream(dim, classes)
    steps = {name: _step(way.to(device), features, labels) for name, way in ways.items()}
    times = interleaved(steps, arguments.rounds, device)
    figures = medians(times)
    for name, step in steps.items():
        figures[name]["MB"] = extra_bytes(step, device) / 1e6
    others = [name for name in figures if name != OURS]
    results = {f"{OURS} / {name}": ratio(times, OURS, name, device) for name in others}
    results |= {f"memory {OURS} / {name}": figures[OURS]["MB"] / figures[name]["MB"] for name in others}
    return results | figures


def batch(rows: int, dim: int, classes: int, lq_share: float) -> tuple[Tensor, Tensor]:
    """Embeddings (rows, d) whose norms put the first 2 x `lq_share` of the degraded views below the threshold."""
    norms = torch.full((rows, 1), HIGH)
    norms[rows // 2 :][: round(lq_share * rows)] = LOW
    return normalize(torch.randn(rows, dim)) * norms, torch.randperm(classes)[: rows // 2].repeat(2)


def full(dim: int, classes: int, half: bool = False) -> QGPartialFC:
    """The criterion with statistics that stand still and a queue that is full, its entries of moved centres.

    Args:
        dim: d.
        classes: n, and entries of the queue.
        half: cosines in float16 on CUDA.
    """
    criterion = QGPartialFC(QGFaceMargin(stats_momentum=0.0), dim, classes, fp16=half)
    quality = criterion.margin_softmax.quality
    quality.mean.fill_(20.0), quality.std.fill_(1.0), quality.started.fill_(True)
    assert criterion.queue is not None
    criterion.queue.enqueue(normalize(torch.randn(classes, dim)), torch.randperm(classes), criterion.weight.detach())
    with torch.no_grad():
        criterion.weight.add_(torch.randn_like(criterion.weight), alpha=1e-3)
    return criterion


def _step(criterion: nn.Module, features: Tensor, labels: Tensor) -> Callable[[], None]:
    def step() -> None:
        leaf = features.detach().requires_grad_()
        criterion(leaf, labels.clone()).backward()
        criterion.weight.grad = None

    return step


def _upstream(checkout: Path, device: torch.device) -> Callable[[int, int], nn.Module]:
    """PartialFC_V2 with ArcFace from a checkout, on one rank."""
    if not (checkout / "partial_fc_v2.py").exists():
        raise ConfigError(f"--arcface-torch: {checkout} has no partial_fc_v2.py, so it is no arcface_torch checkout")
    from torch import distributed

    from ..arcface_torch import compat

    compat.apply(checkout)
    sys.path.insert(0, str(checkout))
    from losses import ArcFace
    from partial_fc_v2 import PartialFC_V2

    meeting = Path(tempfile.mkdtemp()) / "meeting"
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, init_method=f"file://{meeting}", rank=0, world_size=1)
    return lambda dim, classes: PartialFC_V2(ArcFace(), dim, classes)
