"""Collectives on real gloo groups of 2 and 3 ranks: same loss, gradients and queue as one rank."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor

from qgface_plugin import QGFaceMargin, QGPartialFC
from qgface_plugin.config.method import QGFaceConfig
from qgface_plugin.loss import class_sampling
from qgface_plugin.utils import distributed, torch_before_2_8
from qgface_plugin.utils.errors import ConfigError

PAIRS, DIM, CLASSES, STEPS = 6, 4, 7, 8  # 12 rows a step on a queue of 30: past the wrap; 7 classes on 2 and 3 ranks
BASE = {"b": 0.45, "s": 12.0, "stats_momentum": 0.3, "queue_size": 30}
CASES = {
    "paper": {},
    "authors": {"authors": True, "stats_scope": "global"},
    "printed": {"positive_in_denominator": False, "coupling": "both", "detach_key": False},
    "batch": {"queue": "batch", "margin": "arcface", "straight_through": True},
    "momentum": {"queue": "momentum", "contrastive_weight": 0.3},
    "long": {"queue_size": 70, "margin": "cosface"},
    "none": {"queue": "none", "margin": "softmax"},
    "sampled": {"sample_rate": 0.5},
    "sampled_all": {"sample_rate": 0.5, "queue_policy": "all"},
    "nothing_sampled": {"sample_rate": 0.1},  # ranks without a class in the batch have no centre that competes
}


def global_batch(step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Originals then degraded views (12, d), labels, keys. Every third step has labels of the first classes only."""
    rng = np.random.default_rng(step)
    features, keys = (torch.from_numpy(6 * rng.normal(size=(2 * PAIRS, DIM))) for _ in range(2))
    labels = torch.from_numpy(rng.integers(0, 2 if step % 3 == 2 else CLASSES, PAIRS)).repeat(2)
    return features, labels, keys


def centres() -> Tensor:
    return torch.from_numpy(np.random.default_rng(99).normal(size=(CLASSES, DIM)))


def train(options: dict) -> dict:
    """8 steps of this rank, centres moved by their gradient: what each step gave, and the live entries at the end."""
    options = dict(options)
    sample_rate = options.pop("sample_rate", 1.0)
    torch.manual_seed(0)
    margin = QGFaceMargin.from_config(QGFaceConfig.from_mapping(BASE | options))
    criterion = QGPartialFC(margin, DIM, CLASSES, sample_rate).double()
    own = slice(criterion.class_start, criterion.class_start + criterion.num_local)
    with torch.no_grad():
        criterion.weight.copy_(centres()[own])
    out: dict = {"class_start": criterion.class_start, "steps": []}
    for step in range(STEPS):
        features, labels, keys = (distributed.own_rows(x) for x in global_batch(step))
        features = features.clone().requires_grad_()
        criterion.weight.grad = None
        loss = criterion(features, labels, keys if criterion.config.queue == "momentum" else None)
        loss.backward()
        averaged = features.grad / distributed.world_size()  # what DistributedDataParallel's average leaves
        out["steps"].append(
            {
                "loss": loss.detach(),
                "features": averaged,
                "centres": criterion.weight.grad.clone(),
                "u": criterion.u_views,
                "terms": {name: value.double() for name, value in criterion.terms.items()},
            }
        )
        with torch.no_grad():
            criterion.weight -= 0.3 * criterion.weight.grad
    if criterion.queue is not None:
        queue, alive = criterion.queue, criterion.queue.alive()
        now = queue.refreshed(criterion.weight)
        out["queue"] = [
            (int(queue.serial[i]), int(queue.labels[i]) + own.start, now[i]) for i in alive.nonzero().squeeze(1)
        ]
    return out


def nan_on_one_rank() -> dict:
    """A step whose embeddings are not finite on the last rank only."""
    criterion = QGPartialFC(QGFaceMargin(), DIM, CLASSES).double()
    features, labels, _ = (distributed.own_rows(x) for x in global_batch(0))
    if distributed.rank() == distributed.world_size() - 1:
        features = features.clone().fill_(torch.nan)
    loss = criterion(features.requires_grad_(), labels)
    return {"loss": loss.detach(), "enqueued": int(criterion.queue.enqueued)}


def collectives() -> dict:
    """Each function on its own, with numbers that tell the ranks apart."""
    ranks, rank = distributed.world_size(), distributed.rank()
    local = torch.tensor([10.0 * rank, 10.0 * rank + 1, 100 + 10.0 * rank, 101 + 10.0 * rank], requires_grad=True)
    gathered = distributed.gather_views(local)
    (gathered * torch.arange(len(gathered)) * (rank + 1)).sum().backward()
    scattered = {}
    for possible in {torch_before_2_8.GLOO_SCATTERS, False}:
        by_rank, own = torch.arange(2.0 * ranks).reshape(ranks, 2) + 100 * rank, torch.empty(2)
        with mock.patch.object(torch_before_2_8, "GLOO_SCATTERS", possible):
            torch_before_2_8.reduce_scatter(own, by_rank)
        scattered[possible] = own
    few = QGFaceMargin()
    try:
        QGPartialFC(few, DIM, ranks - 1)
        message = ""
    except ConfigError as error:
        message = str(error)
    return {
        "gathered": gathered.detach(),
        "back": distributed.own_rows(gathered.detach()),
        "local": local.detach(),
        "gradient": local.grad,
        "scattered": scattered,
        "shard": distributed.shard(CLASSES),
        "everywhere": (distributed.everywhere(True), distributed.everywhere(rank > 0)),
        "all_hold": distributed.all_hold([True, rank > 0, rank == 0]),
        "objects": distributed.gather_objects({"rank": rank}),
        "message": message,
    }


def work(rank: int, folder: str) -> None:
    """One process: a group of 2 ranks, then one of 3; its results as a file for each."""
    torch.set_num_threads(1)
    class_sampling.BLOCK = 3  # ranks begin and end inside blocks
    for ranks in (2, 3):
        if rank >= ranks:
            continue
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/group{ranks}", rank=rank, world_size=ranks
        )
        results = {name: train(options) for name, options in CASES.items()}
        results |= {"nan": nan_on_one_rank(), "collectives": collectives()}
        distributed.barrier()
        torch.distributed.destroy_process_group()
        torch.save(results, f"{folder}/{ranks}_{rank}.pt")


@pytest.fixture(scope="module")
def groups(tmp_path_factory) -> dict[int, list[dict]]:
    """Results of each rank by number of ranks."""
    folder: Path = tmp_path_factory.mktemp("groups")
    mp.spawn(work, args=(str(folder),), nprocs=3)
    return {n: [torch.load(folder / f"{n}_{rank}.pt", weights_only=True) for rank in range(n)] for n in (2, 3)}


@pytest.fixture(scope="module")
def alone() -> dict:
    with mock.patch.object(class_sampling, "BLOCK", 3):
        return {name: train(options) for name, options in CASES.items()}


def views_first(parts: list[Tensor]) -> Tensor:
    """Rows of the ranks in the order of the global batch."""
    return torch.cat([part.chunk(2)[view] for view in (0, 1) for part in parts])


def close(found, expected) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("case", CASES)
def test_ranks_do_not_matter(groups, alone, ranks, case):
    parts, whole = [result[case] for result in groups[ranks]], alone[case]
    for step in range(STEPS):
        local, expected = [part["steps"][step] for part in parts], whole["steps"][step]
        for one in local:
            close(one["loss"], expected["loss"])
            for name, value in expected["terms"].items():
                if name not in ("negative_cosine", "hardest_cosine"):  # estimates from a rank's own part of the queue
                    close(one["terms"][name], value)
        close(views_first([one["features"] for one in local]), expected["features"])
        close(views_first([one["u"] for one in local]), expected["u"])
        close(torch.cat([one["centres"] for one in local]), expected["centres"])
    if "queue" in whole:
        entries, expected = ([e for part in who for e in part["queue"]] for who in (parts, [whole]))
        entries.sort(key=lambda entry: entry[0]), expected.sort(key=lambda entry: entry[0])
        assert [entry[:2] for entry in entries] == [entry[:2] for entry in expected]
        close(torch.stack([entry[2] for entry in entries]), torch.stack([entry[2] for entry in expected]))


def test_the_single_rank_run_fills_and_wraps_its_queue(alone):
    sizes = {case: len(result["queue"]) for case, result in alone.items() if "queue" in result}
    assert sizes.pop("batch") == 12 and sizes.pop("long") == 70
    assert set(sizes.values()) == {30} and len(sizes) == len(CASES) - 3  # "none" has no queue
    assert all(float(step["loss"]) > 0 for step in alone["paper"]["steps"])


@pytest.mark.parametrize("ranks", [2, 3])
def test_nan_on_one_rank_is_seen_by_all(groups, ranks):
    for result in groups[ranks]:
        assert result["nan"]["loss"].isnan() and result["nan"]["enqueued"] == 0


@pytest.mark.parametrize("ranks", [2, 3])
def test_each_collective(groups, ranks):
    results = [result["collectives"] for result in groups[ranks]]
    assert [result["shard"] for result in results] == {2: [(0, 4), (4, 3)], 3: [(0, 3), (3, 2), (5, 2)]}[ranks]
    originals = [10.0 * rank + row for rank in range(ranks) for row in range(2)]
    for rank, result in enumerate(results):
        assert result["gathered"].tolist() == originals + [100 + value for value in originals]
        assert torch.equal(result["back"], result["local"])
        positions = torch.tensor([2 * rank, 2 * rank + 1, 2 * ranks + 2 * rank, 2 * ranks + 2 * rank + 1])
        close(result["gradient"], positions * sum(range(1, ranks + 1)) * ranks)
        for own in result["scattered"].values():  # by gloo, and by an all-reduce
            close(own, [ranks * number + 100 * sum(range(ranks)) for number in (2 * rank, 2 * rank + 1)])
        assert result["everywhere"] == (True, False) and result["all_hold"] == [True, False, False]
        assert result["objects"] == [{"rank": other} for other in range(ranks)]
        assert result["message"] == f"num_classes is {ranks - 1}: each of {ranks} ranks needs a class"


def test_without_a_group_everything_is_the_identity():
    x = torch.rand(4, 2, requires_grad=True)
    assert distributed.world_size() == 1 and distributed.rank() == 0 and distributed.shard(7) == (0, 7)
    assert [distributed.shard_of(7, rank, 3) for rank in range(3)] == [(0, 3), (3, 2), (5, 2)]
    assert distributed.gather_views(x) is x and distributed.own_rows(x) is x
    one, other = distributed.finish_softmax(x[:, 0], x[:, 1])
    assert torch.equal(one, x[:, 0]) and torch.equal(other, x[:, 1])
    assert distributed.everywhere(True) and not distributed.everywhere(False) and distributed.gather_objects(3) == [3]
    distributed.barrier()
