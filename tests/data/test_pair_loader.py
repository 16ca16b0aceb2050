"""Pairs for a loop of one's own: those of a recipe, and a criterion that takes what it needs from the batch."""

from __future__ import annotations

import pytest
import torch
from tiny import face, write_faces

from qgface_plugin import PairBatch, QGFaceMargin, QGPartialFC, pair_loader
from qgface_plugin.config.degradation import OURS
from qgface_plugin.data.images import encode_jpeg
from qgface_plugin.data.pair_dataset import PairDataset
from qgface_plugin.data.sources.records import FaceRecords
from qgface_plugin.utils.errors import DataError


@pytest.fixture(scope="module")
def rec(tmp_path_factory):
    return write_faces(tmp_path_factory.mktemp("data") / "rec")


def test_batches_are_those_of_the_data_set(rec):
    loader = pair_loader(rec, 8, seed=3, workers=0)
    loader.set_epoch(1)
    batches = list(loader)
    assert loader.num_classes == 6 and len(batches) == len(loader) == 6
    assert all(isinstance(batch, PairBatch) and len(batch) == 8 for batch in batches)
    pairs = PairDataset(FaceRecords(str(rec)), OURS, 3)
    first = [pairs[key] for key in list(loader.sampler)[:8]]
    assert batches[0].labels.tolist() == [pair.label for pair in first]
    for i, pair in enumerate(first):
        assert torch.equal(batches[0].high[i].permute(1, 2, 0), torch.from_numpy(pair.high))
        assert torch.equal(batches[0].low[i].permute(1, 2, 0), torch.from_numpy(pair.low))
    images = batches[0].images()
    assert images.shape == (16, 3, 112, 112) and images.dtype == torch.float32 and images.abs().max() <= 1
    assert torch.equal(images[8], (batches[0].low[0].float() - 127.5) / 127.5)


def test_a_folder_of_images_and_single_views(tmp_path):
    for who in range(2):
        (tmp_path / f"p{who}").mkdir()
        for which in range(4):
            (tmp_path / f"p{who}" / f"{which}.jpg").write_bytes(encode_jpeg(face(who, which), 95))
    (batch,) = pair_loader(tmp_path, 8, degradation=None, workers=0)
    assert batch.low is None and len(batch.images()) == len(batch.targets()) == 8
    assert sorted(batch.targets().tolist()) == [0] * 4 + [1] * 4
    with pytest.raises(DataError):
        pair_loader(tmp_path / "nothing", 8)


@pytest.mark.parametrize("quality", ["norm", "degradation", "sharpness"])
def test_a_criterion_takes_labels_and_scores_from_the_batch(rec, quality):
    batch = next(iter(pair_loader(rec, 8, workers=0)))
    embeddings = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    losses = []
    for short in (True, False):
        torch.manual_seed(1)
        criterion = QGPartialFC(QGFaceMargin(quality=quality, b=0.5), 4, 6)
        given = embeddings.clone().requires_grad_()
        if short:
            loss = criterion(batch, given)
        else:
            strength = torch.cat([torch.zeros(8), batch.strength])
            measure = criterion.margin_softmax.source.of_images
            scores = None if measure is None else measure(batch.images(), strength)
            loss = criterion(given, batch.labels.repeat(2), None, scores)
        loss.backward()
        losses.append((loss.detach(), given.grad))
    assert torch.equal(losses[0][0], losses[1][0]) and torch.equal(losses[0][1], losses[1][1])
    assert losses[0][1].abs().sum() > 0
