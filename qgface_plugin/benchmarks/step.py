"""A whole training step of the built-in loop: QGFace and plain ArcFace on the same 2B images of procedural faces.

Both get the same backbone, clipping and fused SGD, in float16 a scaler of the loss each; the statistics of the norms
are set so that the given share of the views is blurred to the criterion, and the queue is full. Backbone, criterion and
the making of a batch (in one process, without workers) are measured alone too, for their share of a step. Steps take
turns; figures and ratios are medians over the rounds, of processor time on a CPU.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.utils.flop_counter import FlopCounterMode

from ..config.degradation import PRESETS
from ..data.pair_dataset import PairBatch, PairDataset, concatenate, normalise
from ..data.procedural.dataset import write_dataset
from ..data.sources.records import FaceRecords
from ..models.backbones import get_model
from ..training.build import make_scaler
from ..training.step import TrainStep
from ..utils.device import DTYPES, autocast, has_bfloat16, keep_freed_pages, pick_device
from ..utils.errors import ConfigError
from ._plain_criteria import PlainArcFace
from ._side_by_side import extra_bytes, interleaved, medians, ratio
from .criterion import full

DIM, RATE, CLIP = 512, 1e-4, 5.0
OURS, PLAIN = "QGFace step", "plain ArcFace step"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--network", default="mbf", help="config.network [%(default)s]")
    parser.add_argument("--batch", type=int, default=16, help="B, pairs [%(default)s]")
    parser.add_argument("--classes", type=int, default=8631, help="[%(default)s]")
    parser.add_argument("--lq-share", type=float, default=0.3, help="share of all views that is blurred [%(default)s]")
    parser.add_argument("--rounds", type=int, default=7, help="measured steps of each [%(default)s]")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch [%(default)s]")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda [%(default)s]")
    parser.add_argument("--precision", choices=tuple(DTYPES), default="float32", help="[%(default)s]")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true", help="the backbone goes through torch.compile")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """The ratio of the two steps first, then images a second, shares of the time, milliseconds and bytes of each."""
    if min(arguments.batch - 1, arguments.rounds, arguments.threads) < 1 or arguments.classes < 2 * arguments.batch:
        raise ConfigError("--batch is at least 2, --rounds and --threads at least 1, --classes at least 2 x --batch")
    if not 0.0 < arguments.lq_share < 1.0:
        raise ConfigError("--lq-share is between 0 and 1")
    device = pick_device(arguments.device, "--device")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    if device.type == "cpu":
        keep_freed_pages()
    with tempfile.TemporaryDirectory(prefix="step_benchmark_") as folder:
        write_dataset(folder, 2 * arguments.batch, 2, 2, 0)
        dataset = PairDataset(FaceRecords(folder), PRESETS["ours"], 0)
        places = [(0, index) for index in range(arguments.batch)]
        return measure(arguments, device, lambda: dataset.__getitems__(places))


def measure(arguments: argparse.Namespace, device: torch.device, make: Callable[[], PairBatch]) -> dict[str, Any]:
    """`run` with checked arguments, on the pairs that `make` gives."""
    pairs, rows = make(), 2 * arguments.batch
    if device.type == "cuda":
        pairs = pairs.pin_memory()  # as a loader gives them
    dtype, layout = DTYPES[arguments.precision], torch.channels_last if arguments.channels_last else None
    ours = step_for(
        arguments.network, arguments.classes, arguments.precision, device,
        channels_last=arguments.channels_last, compiled=arguments.compile,
    )  # fmt: skip
    plain_model = copy.deepcopy(ours.backbone)
    plain_head = PlainArcFace(DIM, arguments.classes).to(device)
    plain = _plain_step(arguments, plain_model, plain_head, device, dtype, layout)
    images, labels = _on_device(pairs, device, layout)
    with torch.no_grad(), autocast(device, dtype):
        embeddings = ours.backbone(images).float()
    _set_statistics(ours, embeddings, arguments.lq_share)

    def backbone_alone() -> None:
        with autocast(device, dtype):
            found = ours.model(images)
        found.float().backward(embeddings)
        ours.optimizer.zero_grad()

    def criterion_alone() -> None:
        ours.criterion(embeddings.detach().requires_grad_(), labels).backward()
        ours.optimizer.zero_grad()

    asked = 0

    def our_step() -> None:
        nonlocal asked
        if ours(pairs, 1) is None:  # as the trainer asks: of the step before
            if asked:
                ours.verdict()
            asked += 1

    steps = {
        OURS: our_step,
        PLAIN: lambda: plain(pairs),
        "backbone alone": backbone_alone,
        "criterion alone": criterion_alone,
        "making a batch": make,
    }
    times = interleaved(steps, arguments.rounds, device)
    figures = medians(times)
    for name in (OURS, PLAIN):
        figures[name]["MB"] = extra_bytes(steps[name], device) / 1e6
    with FlopCounterMode(display=False) as counter:
        backbone_alone()
    unit = "ms" if device.type == "cuda" else "ms of CPU"
    whole = figures[OURS][unit]
    return {
        f"{OURS} / {PLAIN}": ratio(times, OURS, PLAIN, device),
        "images a second": 1e3 * rows / whole,
        "images a second, plain ArcFace": 1e3 * rows / figures[PLAIN][unit],
        "backbone's share": ratio(times, "backbone alone", OURS, device),
        "criterion's share": ratio(times, "criterion alone", OURS, device),
        "making a batch / step": ratio(times, "making a batch", OURS, device),
        "backbone's TFLOP/s": counter.get_total_flops() / figures["backbone alone"][unit] / 1e9,
        "share of views blurred": float(ours.criterion.terms["lq_share_view"]),
        "share of pairs contrasted": float(ours.criterion.terms["lq_share_pair"]),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "bfloat16 in hardware": torch.cuda.is_bf16_supported(False) if device.type == "cuda" else has_bfloat16(),
        "threads": arguments.threads,
        **figures,
    }


def step_for(
    network: str,
    classes: int,
    precision: str,
    device: torch.device,
    *,
    channels_last: bool = False,
    compiled: bool = False,
) -> TrainStep:
    """The built-in loop's step, its queue full and its statistics standing still.

    Args:
        network: config.network.
        classes: n.
        precision: of the backbone, a key of DTYPES.
        device: that it trains on.
        channels_last: memory format of backbone and images.
        compiled: the backbone goes through torch.compile.
    """
    dtype, layout = DTYPES[precision], torch.channels_last if channels_last else torch.contiguous_format
    backbone = get_model(network, num_features=DIM).to(device, memory_format=layout)  # type: ignore[call-overload] # torch forgets it
    criterion = full(DIM, classes, half=dtype == torch.float16).to(device)
    criterion.looks_at_queue = device.type != "cuda"  # there the trainer asks for it where a line is due only
    return TrainStep(
        model=cast(nn.Module, torch.compile(backbone)) if compiled else backbone,
        backbone=backbone,
        criterion=criterion,
        optimizer=_sgd(backbone, criterion),
        scaler=make_scaler(device, dtype),
        key_encoder=None,
        device=device,
        dtype=dtype,
        channels_last=channels_last,
        clip=CLIP,
    )


def _plain_step(
    arguments: argparse.Namespace,
    backbone: nn.Module,
    head: nn.Module,
    device: torch.device,
    dtype: torch.dtype,
    layout: torch.memory_format | None,
) -> Callable[[PairBatch], None]:
    """As arcface_torch's loop has it: forward, backward, clipping, update."""
    optimizer = _sgd(backbone, head)
    model = torch.compile(backbone) if arguments.compile else backbone
    scaler = make_scaler(device, dtype)

    def step(pairs: PairBatch) -> None:
        images, labels = _on_device(pairs, device, layout)
        with autocast(device, dtype):
            embeddings = model(images)
        scaler.scale(head(embeddings.float(), labels)).backward()
        scaler.unscale_(optimizer)
        clip_grad_norm_(backbone.parameters(), CLIP)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    return step


def _on_device(pairs: PairBatch, device: torch.device, layout: torch.memory_format | None) -> tuple[Tensor, Tensor]:
    images, labels = concatenate(pairs.to(device, non_blocking=True))
    images = normalise(images)  # in the layout that they come in, as the trainer takes them
    return images if layout is None else images.contiguous(memory_format=layout), labels


def _sgd(backbone: nn.Module, head: nn.Module) -> torch.optim.SGD:
    groups = [{"params": list(module.parameters())} for module in (backbone, head)]
    return torch.optim.SGD(groups, lr=RATE, momentum=0.9, weight_decay=5e-4, fused=True)


def _set_statistics(step: TrainStep, embeddings: Tensor, share: float) -> None:
    """Running mean and deviation that put `share` of these norms at or below the threshold b of the criterion."""
    quality, config = step.criterion.margin_softmax.quality, step.criterion.config
    norms = embeddings.norm(dim=1).clamp(1e-3, 100.0)
    edge = torch.quantile(norms, share)
    quality.std.copy_(norms.std().clamp_min(1e-3))
    quality.mean.copy_(edge + (1.0 - 2.0 * config.b) * quality.std / config.c)
