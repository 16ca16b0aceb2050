"""Two ranks on pretended CUDA under NCCL's rule, which has no CPU tensors; without DDP, whose reducer needs CUDA."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from rehearsal import main, rehearsal, waits_by_file  # isort: skip  # before torch
from pretended_cuda import BOOK, CPU, CUDA, pretended_cuda, torch  # isort: skip

from steps import CLASSES, DIM, Backbone, batch  # noqa: E402

from qgface_plugin import QGFaceMargin, QGPartialFC  # noqa: E402
from qgface_plugin.config.method import AUTHORS, QGFaceConfig  # noqa: E402
from qgface_plugin.training.step import TrainStep  # noqa: E402
from qgface_plugin.utils import distributed  # noqa: E402

SETTINGS: dict[str, dict] = {
    "default": {},
    "as the authors": AUTHORS,
    "momentum queue": {"queue": "momentum"},
    "no queue": {"queue": "none"},
    "a small queue": {"queue_size": 10},
    "a threshold by quantile": {"b_quantile": 0.4},
    "statistics of each rank": {"stats_scope": "rank"},
    "certainty, curricularface": {"quality": "certainty", "margin": "curricularface"},
    "sharpness": {"quality": "sharpness"},
    "a teacher": {"teacher_weight": 0.5},
    "no row classified": {"b": 1.0},
    "all rows classified": {"b": 0.0},
    "sampled": {"rate": 0.5},
    "float16": {"half": True},
}
STEPS = 6
# A rank's share of the queue starts too small for so few classes; while it grows it asks how many entries are alive.
GROWTH = ("loss/feature_queue.py nonzero", "loss/feature_queue.py _local_scalar_dense")
DRAWN = {"loss/partial_fc.py nonzero": 1}


def pair(folder: Path, what: str) -> str:
    """Start two ranks of this file on `what`; what the first one says."""
    command = [sys.executable, __file__, "--rank"]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), what, folder], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for rank in range(2)
    ]
    said = [rank.communicate(timeout=300)[0].strip() for rank in ranks]
    assert not any(rank.returncode for rank in ranks), "\n".join(text[-400:] for text in said)
    return said[0]


@rehearsal("two ranks: the criterion")
def _(folder):
    return pair(folder, "criterion")


@rehearsal("two ranks: steps, one of which is bad on one rank")
def _(folder):
    return pair(folder, "steps")


def criterion(device: torch.device, options: dict) -> list[torch.Tensor]:
    """Losses of STEPS steps and the centres' gradients of the last, of this rank."""
    rest = {key: value for key, value in options.items() if key not in ("rate", "half")}
    config = QGFaceConfig.from_mapping({"b": 0.4, **rest})
    torch.manual_seed(distributed.rank())
    half = options.get("half", False) and device.type == "cuda"
    out = QGPartialFC(QGFaceMargin.from_config(config), 16, 31, options.get("rate", 1.0), half).to(device)
    found, waits = [], []
    for number in range(STEPS):
        drawn = torch.Generator().manual_seed(10 * number + distributed.rank())
        raw = torch.randn(8, 16, generator=drawn).to(device).requires_grad_()
        labels = torch.randint(0, 31, (4,), generator=drawn).repeat(2).to(device)
        keys = raw.detach() if config.queue == "momentum" else None
        scores = raw.detach().mean(1) if out.margin_softmax.source.given else None
        out.weight.grad = None
        BOOK.clear()
        loss = out(raw, labels, keys, scores, raw.detach()[:4].flip(1) if out.needs_teacher else None)
        loss.backward()
        waits = list(BOOK.waits)
        found.append(loss.detach().cpu())
    found += [raw.grad.cpu(), out.weight.grad.cpu()]
    BOOK.waits = waits  # of the last step
    return found


def each_setting() -> None:
    asked = 0
    for name, options in SETTINGS.items():
        here = criterion(CPU, options)
        BOOK.nccl = True
        with pretended_cuda():
            there = criterion(CUDA, options)
            seen = waits_by_file()
            grows = sum(seen.pop(what, 0) for what in GROWTH)
            assert seen == (DRAWN if "rate" in options else {}), (name, seen)
            asked += bool(grows)
        BOOK.nccl = False
        limit = 3e-2 if options.get("half") else 1e-4
        for a, b in zip(here, there, strict=True):
            assert float((a - b).norm()) <= limit * float(a.norm().clamp_min(1e-12)), (name, a, b)
        everyone = distributed.gather_objects(float(there[STEPS - 1]))
        assert everyone[0] == everyone[1], (name, everyone)
    print(f"{len(SETTINGS)} settings as on CPUs, with the waits that are known; the queue grew in {asked}")


def some_steps() -> None:
    BOOK.nccl = True
    with pretended_cuda():
        torch.manual_seed(0)
        backbone, out = Backbone(DIM).to("cuda"), QGPartialFC(QGFaceMargin(b=0.5), DIM, CLASSES).to("cuda")
        groups = [{"params": list(module.parameters())} for module in (backbone, out)]
        optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9, fused=True)
        scaler = torch.amp.GradScaler("cuda", enabled=False)
        step = TrainStep(backbone, backbone, out, optimizer, scaler, None, CUDA, torch.float32)
        good = []
        for number in range(1, 5):
            bad_here = number == 3 and distributed.rank() == 1
            hook = out.weight.register_hook(lambda gradient: gradient * torch.inf) if bad_here else None
            before = {name: value.clone() for name, value in out.state_dict().items()}
            assert step(batch(number).pin_memory(), number) is None
            good.append(step.verdict())
            if hook is not None:
                hook.remove()
            if number == 3:
                for name, value in out.state_dict().items():
                    assert torch.equal(value.cpu(), before[name].cpu()), name
    BOOK.nccl = False
    assert good == [True, True, False, True], good
    print("a step that is bad on one rank leaves nothing on either")


def as_rank(rank: int, what: str, folder: Path) -> int:
    meeting = f"file://{folder.resolve()}/meeting"
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    {"criterion": each_setting, "steps": some_steps}[what]()
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rank"]:
        sys.exit(as_rank(int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])))
    sys.exit(main())
