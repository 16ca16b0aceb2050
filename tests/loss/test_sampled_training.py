"""Training with sample_rate < 1: what happens to centres that were not drawn, in loops and in both hosts."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from checkouts import MINI, ROOT, copy_of, metrics, real_checkout, run, write_recipe
from criteria import batch, criterion
from tiny import write_faces

from qgface_plugin import QGFaceMargin, QGPartialFC
from qgface_plugin.loss import partial_fc

LR, MOMENTUM, DECAY, CLASSES, STEPS = 0.1, 0.9, 0.01, 40, 6


@pytest.mark.parametrize("policy", ["active", "all"])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_centres_not_drawn_follow_momentum_and_decay(rate, policy):
    """The gradient of all centres is dense and exactly 0 outside the draw, so SGD treats every row alike."""
    out, rng = criterion(classes=CLASSES, sample_rate=rate, queue_policy=policy), np.random.default_rng(2)
    optimizer = torch.optim.SGD(out.parameters(), LR, MOMENTUM, weight_decay=DECAY)
    weight = out.weight.detach().numpy().copy()
    velocity, rested = np.zeros_like(weight), 0
    for _ in range(STEPS):
        optimizer.zero_grad()
        out(*batch(rng)).backward()
        gradient = out.weight.grad
        assert gradient.layout == torch.strided and gradient.shape == out.weight.shape
        drawn = (gradient != 0).any(1).numpy()
        optimizer.step()
        for y in range(CLASSES):
            slope = gradient[y].numpy() if drawn[y] else 0.0
            velocity[y] = MOMENTUM * velocity[y] + slope + DECAY * weight[y]
            moved = LR * velocity[y]
            weight[y] = weight[y] - moved
            rested += not drawn[y] and np.abs(moved).max() > 0
        np.testing.assert_allclose(out.weight.detach().numpy(), weight, rtol=1e-12, atol=1e-14)
    assert rested > STEPS * CLASSES * (1 - rate) / 2


def beside_arcface_torch(rank: int, checkout: str, folder: str) -> None:
    """Steps of the checkout's own PartialFC_V2 and of QGPartialFC with the classes that the former has drawn."""
    from torch import distributed

    from qgface_plugin.arcface_torch import compat

    torch.set_num_threads(1)
    compat.apply(Path(checkout))
    sys.path.insert(0, checkout)
    from losses import CosFace
    from partial_fc_v2 import PartialFC_V2

    distributed.init_process_group("gloo", store=distributed.FileStore(f"{folder}/store", 1), rank=0, world_size=1)
    torch.manual_seed(0)
    theirs = PartialFC_V2(CosFace(s=8.0, m=0.4), 8, CLASSES, 0.3, False)
    margin = QGFaceMargin(margin="cosface", m=0.4, s=8.0, b=0.0)  # theirs clips P at 1e-30
    ours = QGPartialFC(margin, 8, CLASSES, 0.3, queue="none", paired=False)
    ours.load_state_dict({**ours.state_dict(), "weight": theirs.weight})
    partial_fc.sampled_classes = lambda *_, **__: torch.zeros(CLASSES, dtype=torch.bool).index_fill(
        0, theirs.weight_index, True
    )
    optimizers = [torch.optim.SGD(each.parameters(), LR, MOMENTUM, weight_decay=DECAY) for each in (theirs, ours)]
    steps = []
    for _ in range(STEPS):
        features, labels = torch.randn(10, 8), torch.randint(0, CLASSES, (10,))
        results = []
        for each, optimizer in zip((theirs, ours), optimizers, strict=True):
            optimizer.zero_grad()
            x = features.clone().requires_grad_()
            loss = each(x, labels.clone())
            loss.backward()
            optimizer.step()
            results.append([loss.detach(), x.grad, each.weight.grad.clone(), each.weight.detach().clone()])
        steps.append([*results, len(theirs.weight_index)])
    torch.save(steps, f"{folder}/steps.pt")
    distributed.destroy_process_group()


@pytest.mark.arcface_torch
def test_it_is_what_arcface_torch_does(tmp_path):
    """The same draws: loss, gradients and centres after each step, drawn and not drawn, with momentum and decay."""
    mp.spawn(beside_arcface_torch, (str(real_checkout()), str(tmp_path)), nprocs=1)
    for theirs, ours, drawn in torch.load(tmp_path / "steps.pt"):
        for expected, found in zip(theirs, ours, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
        assert theirs[2].layout == torch.strided and drawn == math.floor(0.3 * CLASSES)
        assert 0 < (theirs[2] != 0).any(1).sum() <= drawn


RECIPE = """
from easydict import EasyDict as edict
config = edict(network="{network}", embedding_size={width}, rec="data", batch_size=4, num_epoch=2, lr=0.05,
               num_workers=0, frequent=1, val_targets=[], sample_rate={rate}, gradient_acc=2)
config.qgface = edict(b=0.5, queue_size=60, queue_policy="{policy}", train=edict(threads=1, pair_grid_every=0))
"""


def check(output: Path, steps: int, ranks: int) -> None:
    lines = metrics(output)
    assert [line["step"] for line in lines] == list(range(1, steps + 1))
    assert all(math.isfinite(line["loss"]) for line in lines) and any(line["contrastive"] > 0 for line in lines)
    for rank in range(ranks):
        saved = torch.load(output / f"checkpoint_gpu_{rank}.pt", weights_only=True)
        assert int(saved["state_dict_softmax_fc"]["draws"]) == steps
        (velocity,) = list(saved["state_optimizer"]["state"].values())[-1].values()
        assert (velocity != 0).all()  # of every centre, drawn in the last step or not


@pytest.mark.parametrize("host", ["mini", pytest.param("builtin", marks=pytest.mark.long)])
def test_two_ranks_train_with_sampled_classes(tmp_path, host):
    """DDP, gradients accumulated; a share so low that a rank may have no class in a step but those of the batch."""
    write_faces(tmp_path / "data")
    recipe = write_recipe(
        tmp_path, "sampled", recipe=RECIPE.format(
            network="r18" if host == "mini" else "quick", width=8 if host == "mini" else 16, rate=0.2, policy="active"
        )
    )  # fmt: skip
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    checkout = {"ARCFACE_TORCH": str(copy_of(MINI, tmp_path / "host"))} if host == "mini" else {}
    done = run(*launcher, ROOT / "train_v2.py", recipe, cwd=tmp_path, **checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    check(tmp_path / "work_dirs" / "sampled", 12, 2)


@pytest.mark.long
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.6, 1.0])
def test_one_process_trains_at_any_rate_and_policy(tmp_path, rate):
    write_faces(tmp_path / "data")
    for policy in ("active", "all"):
        recipe = RECIPE.format(network="quick", width=16, rate=rate, policy=policy)
        done = run(ROOT / "train_v2.py", write_recipe(tmp_path, policy, recipe=recipe), cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        losses = [line["loss"] for line in metrics(tmp_path / "work_dirs" / policy)]
        assert len(losses) == 24 and all(map(math.isfinite, losses))


@pytest.mark.arcface_torch
def test_the_real_checkout_trains_with_sampled_classes(tmp_path):
    write_faces(tmp_path / "data")
    recipe = write_recipe(
        tmp_path, "sampled", recipe=RECIPE.format(network="mbf", width=512, rate=0.5, policy="all")
    )  # fmt: skip
    done = run(ROOT / "train_v2.py", recipe, cwd=tmp_path, ARCFACE_TORCH=str(real_checkout()))
    assert done.returncode == 0, done.stdout + done.stderr
    check(tmp_path / "work_dirs" / "sampled", 24, 1)
