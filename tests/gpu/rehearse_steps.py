"""Images, training steps and embedding on pretended CUDA: as on the CPU, and what a steady step waits for."""

from __future__ import annotations

import sys
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from rehearsal import expect_waits, main, rehearsal  # isort: skip  # before torch
from pretended_cuda import BOOK, CPU, CUDA, MixedDevices, pretended_cuda, torch  # isort: skip

import numpy as np  # noqa: E402
from tiny import TinyBackbone, face  # noqa: E402

from qgface_plugin import QGFaceMargin, QGPartialFC  # noqa: E402
from qgface_plugin.config.degradation import ADAFACE, OURS  # noqa: E402
from qgface_plugin.config.method import QGFaceConfig  # noqa: E402
from qgface_plugin.data import loader  # noqa: E402
from qgface_plugin.data.degradation import gpu  # noqa: E402
from qgface_plugin.data.images import encode_jpeg  # noqa: E402
from qgface_plugin.data.pair_batch import PairBatch, concatenate, normalise  # noqa: E402
from qgface_plugin.data.pair_dataset import PairDataset  # noqa: E402
from qgface_plugin.data.sources.folder import FaceFolder  # noqa: E402
from qgface_plugin.loss.quality import of_images  # noqa: E402
from qgface_plugin.models.backbones import get_model  # noqa: E402
from qgface_plugin.models.embeddings import embed  # noqa: E402
from qgface_plugin.models.momentum_encoder import MomentumEncoder  # noqa: E402
from qgface_plugin.models.teacher import Teacher  # noqa: E402
from qgface_plugin.training import build  # noqa: E402
from qgface_plugin.training.step import TrainStep  # noqa: E402

DIM, CLASSES, PAIRS = 16, 20, 8


@lru_cache
def faces(folder: Path) -> FaceFolder:
    for who in range(4):
        (folder / str(who)).mkdir(parents=True)
        for which in range(4):
            (folder / str(who) / f"{which}.jpg").write_bytes(encode_jpeg(face(who, which), 95))
    return FaceFolder(folder)


def a_batch(folder: Path, policy=OURS, degrade_on: str = "cpu", number: int = 3) -> PairBatch:
    dataset = PairDataset(faces(folder.parent / "faces"), policy, 1, degrade_on=degrade_on)
    return deepcopy(dataset.__getitems__([(number, index) for index in range(PAIRS)]))  # it uses the memory again


@rehearsal("the pretence: mixed devices raise, numbers beside tensors do not, waits are seen")
def _(folder):
    with pretended_cuda():
        there, here = torch.ones(3, 3, device="cuda"), torch.ones(3, 3)
        mixed = [
            lambda: there + here, lambda: there @ here, lambda: torch.cat([there, here]),
            lambda: here[there.long()[0]], lambda: there.gather(1, here.long()),
            lambda: torch.stack([there.sum(), here.sum()]), lambda: there.numpy(),
            lambda: there.index_copy_(0, torch.tensor([0]), there[:1]), lambda: there.addmm_(here, there),
        ]  # fmt: skip
        for number, wrong in enumerate(mixed):
            try:
                wrong()
            except MixedDevices:
                continue
            raise AssertionError(f"operation {number} was let through")
        BOOK.clear()
        kept = (there + here.sum() + 2).sum()
        assert not BOOK.waits and kept.is_cuda
        page_locked = torch.empty(()).pin_memory()
        page_locked.copy_(kept, non_blocking=True)
        there.to("cuda"), torch.empty(3).pin_memory().to("cuda", non_blocking=True)
        assert not BOOK.waits
        waiting = [
            lambda: float(kept), lambda: kept.cpu(), lambda: bool(kept > 1), lambda: there[there > 0],
            lambda: torch.ones(2).to("cuda"), lambda: torch.tensor([1.0, 2.0], device="cuda"), lambda: there.tolist(),
            lambda: torch.empty(()).copy_(kept, non_blocking=True), lambda: there.nonzero(),
            lambda: torch.cuda.synchronize(), lambda: torch.cuda.current_stream().record_event().synchronize(),
            lambda: torch.ones(2).to("cuda", non_blocking=True), lambda: there[torch.tensor([0, 1])],
        ]  # fmt: skip
        for number, wait in enumerate(waiting):
            BOOK.clear()
            wait()
            assert BOOK.waits, f"wait {number} was not seen"
        layer = torch.nn.Linear(3, 2).to("cuda")
        layer(there).sum().backward()
        assert layer.weight.grad.is_cuda and float(layer.weight.grad.sum()) == 18
        with torch.autocast("cuda", dtype=torch.float16):
            assert layer(there).dtype == torch.float16


def views(name: str, policy) -> None:
    @rehearsal(f"degraded views made there: {name}")
    def _(folder):
        batch = a_batch(folder, policy, "device")
        gpu.tables_of.cache_clear()
        here = gpu.both_views(batch, policy)
        gpu.tables_of.cache_clear()
        with pretended_cuda():
            for _ in range(2):
                moved = batch.pin_memory().to("cuda", non_blocking=True)
                BOOK.clear()
                there = gpu.both_views(moved, policy)
            expect_waits({})
            launches = BOOK.launches["other"]
            assert torch.equal(there.low.cpu(), here.low) and torch.equal(there.high.cpu(), here.high)
        gpu.tables_of.cache_clear()
        return f"{launches} operations"


for _name, _policy in {"ours": OURS, "adaface": ADAFACE}.items():
    views(_name, _policy)


@rehearsal("the prefetcher, degrading there")
def _(folder):
    batches = [a_batch(folder, degrade_on="device", number=number) for number in range(4)]
    gpu.tables_of.cache_clear()
    here = [gpu.both_views(batch, OURS) for batch in batches]
    gpu.tables_of.cache_clear()
    with pretended_cuda():
        list(loader.Prefetcher(CUDA, OURS)(iter([batches[0].pin_memory()])))
        given = [batch.pin_memory() for batch in batches]
        BOOK.clear()
        there = list(loader.Prefetcher(CUDA, OURS)(iter(given)))
        expect_waits({})
        assert all(tensor.is_cuda for batch in there for tensor in batch.tensors())
        for one, other in zip(here, there, strict=True):
            assert all(torch.equal(a, b.cpu()) for a, b in zip(one.tensors(), other.tensors(), strict=True))
    gpu.tables_of.cache_clear()


@rehearsal("sharpness of images")
def _(folder):
    batch = a_batch(folder)
    here = of_images("sharpness", normalise(concatenate(batch)[0]), batch.strengths())
    with pretended_cuda():
        for _ in range(2):
            images = normalise(concatenate(batch.pin_memory().to("cuda", non_blocking=True))[0])
            BOOK.clear()
            there = of_images("sharpness", images, None)
        expect_waits({})
        torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-6)


@rehearsal("embedding, as verification does")
def _(folder):
    images = np.stack([face(who, who) for who in range(5)])
    torch.manual_seed(0)
    model = get_model("quick", DIM)
    here = embed(model, images)
    with pretended_cuda():
        there = embed(model.to("cuda"), images, device="cuda")
    assert abs(here.original - there.original).max() < 1e-4


# --- Steps ------------------------------------------------------------------------------------------------------------


def a_step(device, dtype, *, optimizer="sgd", accumulate=1, channels_last=False, rate=1.0, teacher=False, **options):
    """A step of a small network, the same on every device."""
    torch.manual_seed(0)
    backbone = get_model("quick", num_features=DIM, features_bias=False)
    frozen = get_model("quick", num_features=DIM) if teacher else None
    if channels_last:
        backbone = backbone.to(memory_format=torch.channels_last)
    config = QGFaceConfig.from_mapping({"b": 0.4, **options})
    half = dtype == torch.float16
    criterion = QGPartialFC(QGFaceMargin.from_config(config), DIM, CLASSES, rate, half and device.type == "cuda")
    backbone, criterion = backbone.to(device), criterion.to(device)
    run = SimpleNamespace(
        optimizer=optimizer, lr=0.01, momentum=0.9, weight_decay=5e-4, finetune=SimpleNamespace(backbone_lr=None)
    )
    return TrainStep(
        backbone, backbone, criterion, build.make_optimizer(run, backbone, criterion), build.make_scaler(device, dtype),
        MomentumEncoder(backbone) if config.queue == "momentum" else None, device, dtype, channels_last=channels_last,
        accumulate=accumulate, teacher=None if frozen is None else Teacher(frozen.to(device), "a file", "", device),
    )  # fmt: skip


def take(step: TrainStep, batch: PairBatch, number: int) -> bool | None:
    """As the trainer does: the verdict of a late step is asked for after the next one."""
    step.criterion.looks_at_queue = number % 2 == 0
    good = step(batch, number)
    return good if good is not None or number == 1 else step.verdict()


NOTHING: dict[str, int] = {}
STEPS: dict[str, tuple[dict, dict[str, int]]] = {
    "float32": ({"dtype": torch.float32}, NOTHING),
    "bfloat16": ({"dtype": torch.bfloat16}, NOTHING),
    "float16": ({"dtype": torch.float16}, NOTHING),
    "adamw": ({"dtype": torch.float32, "optimizer": "adamw"}, NOTHING),
    "float32, channels_last": ({"dtype": torch.float32, "channels_last": True}, NOTHING),
    "momentum queue": ({"dtype": torch.float32, "queue": "momentum"}, NOTHING),
    "float16, momentum queue": ({"dtype": torch.float16, "queue": "momentum"}, NOTHING),
    "queue of the batch": ({"dtype": torch.float32, "queue": "batch"}, NOTHING),
    "a teacher": ({"dtype": torch.float32, "teacher": True, "teacher_weight": 0.5}, NOTHING),
    "a queue of the teacher": ({"dtype": torch.float32, "teacher": True, "queue": "teacher"}, NOTHING),
    "the teacher's quality": ({"dtype": torch.float32, "teacher": True, "quality": "teacher"}, NOTHING),
    "sharpness": ({"dtype": torch.float32, "quality": "sharpness"}, NOTHING),
    "degradation": ({"dtype": torch.float32, "quality": "degradation"}, NOTHING),
    "certainty": ({"dtype": torch.float32, "quality": "certainty"}, NOTHING),
    "sampled": ({"dtype": torch.float32, "rate": 0.5}, {"loss/partial_fc.py nonzero": 1}),
    "accumulated": (
        {"dtype": torch.float32, "accumulate": 2},
        {"training/step.py _local_scalar_dense": 2},
    ),
}


def compare(name: str, options: dict, waits: dict[str, int]) -> None:
    @rehearsal(f"step: {name}")
    def _(folder):
        batches = [a_batch(folder, number=number) for number in range(1, 7)]
        there = []
        with pretended_cuda():
            step = a_step(CUDA, **options)
            for number, batch in enumerate(batches, 1):
                pinned = batch.pin_memory()
                BOOK.clear()
                good = take(step, pinned, number)
                assert good is not False, f"step {number} was not finite"
            launches = sum(BOOK.launches.values())
            expect_waits(waits)
            there = {name: value.float().cpu() for name, value in step.criterion.state_dict().items()}
        if options["dtype"] == torch.float32:  # autocast rounds elsewhere on a CPU
            step = a_step(CPU, **options)
            assert all(step(batch, number) for number, batch in enumerate(batches, 1))
            for key, value in step.criterion.state_dict().items():
                torch.testing.assert_close(there[key], value.float(), rtol=1e-3, atol=1e-4, msg=key)
        return f"{launches} operations, waits {waits or 0}"


for _name, (_options, _waits) in STEPS.items():
    compare(_name, _options, _waits)


@rehearsal("step: float16 overflow is undone, and the scale halved")
def _(folder):
    batch = a_batch(folder)
    with pretended_cuda():
        step = a_step(CUDA, torch.float16)
        step.scaler = torch.amp.GradScaler("cuda", init_scale=2.0**17)
        before = {name: value.clone() for name, value in step.criterion.state_dict().items()}
        assert step(batch, 1) is None and step.verdict() is False
        for name, value in step.criterion.state_dict().items():
            assert torch.equal(value.cpu(), before[name].cpu()), f"{name} was not put back"
        assert step.scaler.get_scale() == 2.0**16
        skipped = 1
        while not (step(batch, 2) is None and step.verdict()):
            skipped += 1
            assert skipped < 40
    return f"{skipped} skipped, scale {step.scaler._scale}"


@rehearsal("step: a gradient that is not finite leaves nothing")
def _(folder):
    with pretended_cuda():
        step = a_step(CUDA, torch.float32)
        for number in (1, 2):
            assert step(a_batch(folder, number=number), number) is None and step.verdict()
        before = {name: value.clone() for name, value in step.backbone.state_dict().items()}
        hook = step.criterion.weight.register_hook(lambda gradient: gradient * torch.inf)
        assert step(a_batch(folder, number=3), 3) is None and step.verdict() is False
        hook.remove()
        for name, value in step.backbone.state_dict().items():
            assert torch.equal(value.cpu(), before[name].cpu()), name
        assert step(a_batch(folder, number=4), 4) is None and step.verdict()


@rehearsal("a network without convolutions")
def _(folder):
    with pretended_cuda():
        model = TinyBackbone(DIM).to("cuda")
        assert model(torch.ones(4, 3, 112, 112, device="cuda")).is_cuda


if __name__ == "__main__":
    sys.exit(main())
