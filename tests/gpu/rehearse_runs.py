"""Whole runs on pretended CUDA, with both trainers: checkpoints, verification, and resumes on another device."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from rehearsal import main, rehearsal, waits_by_file  # isort: skip  # before torch
from pretended_cuda import BOOK, pretended_cuda, torch  # isort: skip

from tiny import write_faces  # noqa: E402

from qgface_plugin.arcface_torch.replacements import Replacements  # noqa: E402
from qgface_plugin.config.method import QGFaceConfig  # noqa: E402
from qgface_plugin.config.options import DataOptions, TrainOptions  # noqa: E402
from qgface_plugin.config.run import Run  # noqa: E402
from qgface_plugin.models.backbones import get_model  # noqa: E402
from qgface_plugin.training import trainer as builtin  # noqa: E402
from qgface_plugin.training.run_state import RunState  # noqa: E402

CPU, GPU = {"device": "cpu"}, {"device": "cuda"}


def a_run(folder: Path, **changes) -> Run:
    if not (folder / "data").exists():
        write_faces(folder / "data")
    settings = dict(
        rec=str(folder / "data"), output=str(folder / "out"), network="quick", embedding_size=16, batch_size=8,
        num_epoch=2, lr=0.02, num_workers=0, frequent=2, seed=3, val_targets=("dev",), verbose=4,
        train=TrainOptions(device="cuda", pair_grid_every=4, checkpoint_every=3),
    )  # fmt: skip
    return Run(**{**settings, **changes})


def go(run: Run, **options) -> None:
    """Train, on pretended CUDA or on the CPU, with some of `config.qgface.train` changed."""
    run = dataclasses.replace(run, train=dataclasses.replace(run.train, **options))
    if run.train.device == "cpu":
        builtin.train(run)
    else:
        with pretended_cuda():
            builtin.train(run)


def lines(run: Run) -> list[dict]:
    return [json.loads(line) for line in (Path(run.output) / "metrics.jsonl").read_text().splitlines()]


def losses(run: Run) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in lines(run) if line["kind"] == "train"}


RUNS: dict[str, dict] = {
    "float32": {},
    "float16": {"fp16": True},
    "bfloat16, channels_last": {"train": TrainOptions(device="cuda", precision="bfloat16", channels_last=True)},
    "degraded there": {"data": DataOptions(degrade_on="device")},
    "momentum queue, accumulated": {"qgface": QGFaceConfig(queue="momentum"), "gradient_acc": 2},
    "sampled, sharpness": {"sample_rate": 0.5, "qgface": QGFaceConfig(quality="sharpness")},
    "no degradation, no queue": {"degradation": None, "qgface": QGFaceConfig(queue="none")},
}


def whole(name: str, changes: dict) -> None:
    @rehearsal(f"built-in loop, trained and resumed: {name}")
    def _(folder):
        run = a_run(folder, **changes)
        go(run, max_steps=5)
        go(dataclasses.replace(run, resume=True))
        found = losses(run)
        assert {2, 4, 6, 8, 10, 12} <= found.keys(), sorted(found)
        assert all(loss == loss and abs(loss) < 1e4 for loss in found.values()), found
        assert [line["step"] for line in lines(run) if line["kind"] == "verification"]
        return f"loss {found[2]:.2f} to {found[12]:.2f}"


for _name, _changes in RUNS.items():
    whole(_name, _changes)


@rehearsal("built-in loop: what a steady step without a line in the log waits for")
def _(folder):
    seen, train_step = {}, builtin.Trainer.train_step

    def counted(self, batch):
        BOOK.clear()
        train_step(self, batch)
        seen[self.progress.global_step] = waits_by_file()

    run = a_run(folder, frequent=4, val_targets=())
    with mock.patch.object(builtin.Trainer, "train_step", counted):
        go(run, pair_grid_every=0, checkpoint_every=0)
    quiet = {number: waits for number, waits in seen.items() if number % 4 in (2, 3) and number > 2}
    assert quiet and not any(quiet.values()), quiet
    return f"0; with a line: {seen[8] or seen[9]}"


def resumed(name: str, first: dict, second: dict, **changes) -> None:
    @rehearsal(f"resumed: {name}")
    def _(folder):
        run, plain = a_run(folder / "moved", **changes), a_run(folder / "plain", **changes)
        go(run, **{**first, "max_steps": 3})
        layouts, restore = [], RunState.load_state_dict

        def spied(self, saved):
            restore(self, saved)
            for group in self.step.optimizer.param_groups:
                for parameter in group["params"]:
                    moment = self.step.optimizer.state[parameter]["momentum_buffer"]
                    layouts.append(
                        moment.device.type == parameter.device.type
                        and all(
                            a == b
                            for a, b, n in zip(parameter.stride(), moment.stride(), parameter.shape, strict=True)
                            if n > 1
                        )
                    )

        with mock.patch.object(RunState, "load_state_dict", spied):
            go(dataclasses.replace(run, resume=True), **{**second, "max_steps": 8})
        assert layouts and all(layouts), f"{layouts.count(False)} moments lie otherwise than their parameters"
        go(plain, **{**first, "max_steps": 8})
        if not changes.get("fp16"):
            one, other = losses(run), losses(plain)  # a line is a mean since the line before, or the resume
            assert all(abs(one[step] - other[step]) <= 2e-3 * abs(other[step]) for step in (6, 8)), (one, other)
        return f"loss {list(losses(run).values())[-1]:.2f}"


resumed("from a CPU on a GPU", CPU, GPU)
resumed("from a GPU on a CPU", GPU, CPU)
resumed("from a GPU on a GPU", GPU, GPU)
resumed("float16, from a CPU on a GPU", CPU, GPU, fp16=True)
resumed("float16, from a GPU on a CPU", GPU, CPU, fp16=True)
resumed("in channels_last", GPU, {**GPU, "channels_last": True})
resumed("out of channels_last", {**GPU, "channels_last": True}, GPU)


# --- The loop of an arcface_torch checkout, as its train_v2.py has it -------------------------------------------------

CHECKOUT: dict[str, dict] = {
    "float32": {},
    "float16": {"fp16": True},
    "float16, momentum queue": {"fp16": True, "qgface": QGFaceConfig(queue="momentum")},
    "degraded there, sharpness": {
        "data": DataOptions(degrade_on="device"), "qgface": QGFaceConfig(quality="sharpness")
    },
}  # fmt: skip
EVERY_STEP = {  # the loop decides at once what becomes of a step: is the loss finite, and are the gradients
    False: {"arcface_torch/criterion.py _local_scalar_dense": 2},
    True: {"arcface_torch/criterion.py _local_scalar_dense": 1},
}


def in_a_checkout(name: str, changes: dict) -> None:
    @rehearsal(f"checkout's loop: {name}")
    def _(folder):
        run, half = a_run(folder, **changes), bool(changes.get("fp16"))
        with pretended_cuda():
            parts = Replacements(run)
            cfg = SimpleNamespace(**parts.settings())
            loader = parts.make_loader(cfg.batch_size, 0)
            backbone = parts.make_backbone(lambda name, **_: get_model(name, cfg.embedding_size), cfg.network).cuda()
            backbone.train()
            margin = parts.make_margin()
            head = parts.make_criterion(margin, cfg.embedding_size, cfg.num_classes, 1.0, cfg.fp16).train().cuda()
            groups = [{"params": backbone.parameters()}, {"params": head.parameters()}]
            optimizer = torch.optim.SGD(groups, lr=0.02, momentum=0.9)
            schedule = parts.make_schedule(optimizer, 0, 12)
            scaler = torch.amp.GradScaler("cuda", enabled=half, init_scale=256.0)
            number = 0
            for epoch in range(2):
                loader.sampler.set_epoch(epoch)
                for images, labels in loader:
                    number += 1
                    BOOK.clear()
                    with torch.autocast("cuda", dtype=torch.float16, enabled=half):
                        embeddings = backbone(images)
                    loss = head(embeddings.float(), labels)
                    scaler.scale(loss).backward()
                    scaler.unscale_(optimizer)
                    torch.nn.utils.clip_grad_norm_(backbone.parameters(), 5)
                    if half:
                        seen = waits_by_file()
                        scaler.step(optimizer)
                        scaler.update()
                    else:
                        optimizer.step()
                        seen = waits_by_file()
                    optimizer.zero_grad()
                    schedule.step()
                    parts.record(number, epoch, 0.02)
            assert seen == EVERY_STEP[half], seen
            torch.save(head.state_dict(), folder / "head.pt")
            head.load_state_dict(torch.load(folder / "head.pt", map_location="cpu", weights_only=True))
        assert number == 12 and bool(loss.cpu().isfinite())
        return f"loss {float(loss.detach().cpu()):.2f}, waits {seen}"


for _name, _changes in CHECKOUT.items():
    in_a_checkout(_name, _changes)


if __name__ == "__main__":
    sys.exit(main())
