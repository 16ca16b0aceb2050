"""QGFaceMargin in an untouched partial FC: three lines of the user's, gated rows without any gradient, on two ranks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from checkouts import MINI, real_checkout
from torch import Tensor

from qgface_plugin import QGFaceMargin, QGPartialFC

RANKS, ROWS, DIM, CLASSES = 2, 8, 4, 6
OPTIONS = {"b": 0.45, "s": 16.0}


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings of both ranks with norms that differ, their labels, all centres."""
    generator = torch.Generator().manual_seed(7)
    embeddings = torch.randn(RANKS * ROWS, DIM, generator=generator) * torch.linspace(1, 5, RANKS * ROWS)[:, None]
    labels = torch.randint(CLASSES, (RANKS * ROWS,), generator=generator)
    return embeddings, labels, torch.randn(CLASSES, DIM, generator=generator)


def train(rank: int, checkout: str, folder: str) -> None:
    """One rank's loss and gradients with the checkout's own PartialFC_V2."""
    from torch import distributed

    from qgface_plugin.arcface_torch import compat

    torch.set_num_threads(1)
    compat.apply(Path(checkout))
    sys.path.insert(0, checkout)
    from partial_fc_v2 import PartialFC_V2

    store = distributed.FileStore(f"{folder}/store", RANKS)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=RANKS)
    embeddings, labels, centres = batch()
    own, classes = slice(rank * ROWS, (rank + 1) * ROWS), slice(rank * CLASSES // RANKS, (rank + 1) * CLASSES // RANKS)

    margin_loss = QGFaceMargin(margin="arcface", m=0.3, **OPTIONS)
    partial_fc = PartialFC_V2(margin_loss, DIM, CLASSES, 1.0, False)
    margin_loss.attach_to(partial_fc)

    with torch.no_grad():
        partial_fc.weight.copy_(centres[classes])
    features = embeddings[own].clone().requires_grad_()
    loss = partial_fc(features, labels[own].clone())
    loss.backward()
    torch.save((loss.detach(), features.grad, partial_fc.weight.grad), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def expected() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss, gradients and open rows of the same batch by QGPartialFC on one rank."""
    embeddings, labels, centres = batch()
    criterion = QGPartialFC(QGFaceMargin(margin="arcface", m=0.3, **OPTIONS), DIM, CLASSES, queue="none", paired=False)
    with torch.no_grad():
        criterion.weight.copy_(centres)
    embeddings.requires_grad_()
    loss = criterion(embeddings, labels)
    loss.backward()
    return loss.detach(), embeddings.grad, criterion.weight.grad, criterion.u_views > OPTIONS["b"]


@pytest.mark.parametrize("which", ["mini", pytest.param("real", marks=pytest.mark.arcface_torch)], ids=["mini", "real"])
def test_gated_rows_have_no_gradient_in_the_checkout(tmp_path, which):
    checkout = MINI if which == "mini" else real_checkout()
    mp.spawn(train, (str(checkout), str(tmp_path)), nprocs=RANKS)
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(RANKS)]
    loss, features, weight, is_open = expected()
    assert 0 < is_open.sum() < len(is_open)
    for one, _, _ in results:
        torch.testing.assert_close(one, loss, rtol=1e-5, atol=1e-6)
    found = torch.cat([gradient for _, gradient, _ in results])
    assert (found[~is_open] == 0).all() and (found[is_open] != 0).any(1).all()
    scale = found.norm() / features.norm()  # the convention of a partial FC: times the ranks, as DDP divides by them
    assert scale.item() == pytest.approx(RANKS, rel=1e-4) or which == "mini"
    torch.testing.assert_close(found / scale, features, rtol=1e-4, atol=1e-6)
    centres = torch.cat([gradient for _, _, gradient in results])
    torch.testing.assert_close(centres / (centres.norm() / weight.norm()), weight, rtol=1e-4, atol=1e-6)


def test_the_hook_can_be_removed():
    margin = QGFaceMargin()
    head = torch.nn.Identity()
    handle = margin.attach_to(head)
    head(torch.randn(3, DIM))
    assert margin(torch.rand(3, 2), torch.zeros(3, 1, dtype=torch.long)).shape == (3, 2)
    handle.remove()
    head(torch.randn(3, DIM))
    with pytest.raises(ValueError, match="norms of none"):
        margin(torch.rand(3, 2), torch.zeros(3, 1, dtype=torch.long))
