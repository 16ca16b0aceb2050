"""The global batch: what is refused before a loss is computed, and what it holds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from qgface_plugin.loss.batch import BatchSpec, GlobalBatch, check_batch, complain_about, labels_fit

SPEC = BatchSpec(dim=3, views=2, num_classes=5)
FINE = (torch.zeros(4, 3), torch.tensor([1, 4, 1, 4]), None)


def test_a_batch_of_pairs_passes():
    check_batch(*FINE, None, SPEC)
    check_batch(FINE[0], FINE[1].view(-1, 1), None, None, SPEC)
    check_batch(FINE[0], FINE[1], torch.zeros(4, 3), None, replace(SPEC, needs_keys=True))


def test_single_views_need_no_partner():
    single = replace(SPEC, views=1, num_classes=3)
    check_batch(torch.zeros(3, 3), torch.tensor([0, 1, 2]), None, None, single)
    assert labels_fit(torch.tensor([0, 1, 2]), single)


@pytest.mark.parametrize(
    "labels, message",
    [
        ([1, 5, 1, 5], r"1 to 5: expected \[0, 5\)"),
        ([-1, 4, -1, 4], r"-1 to 4: expected \[0, 5\)"),
        ([1, 4, 4, 1], r"rows 0\.\.B-1 and B\.\.2B-1"),
        ([1, 1, 4, 4], r"rows 0\.\.B-1 and B\.\.2B-1"),
    ],
)
def test_labels(labels, message):
    assert labels_fit(FINE[1], SPEC)
    assert not labels_fit(torch.tensor(labels), SPEC)
    with pytest.raises(ValueError, match=message):
        complain_about(torch.tensor(labels), SPEC)


@pytest.mark.parametrize(
    "embeddings, labels, keys, wanted, message",
    [
        (torch.zeros(4, 2), FINE[1], None, {}, r"\(4, 2\): expected \(rows, 3\)"),
        (torch.zeros(4), FINE[1], None, {}, r"\(4,\): expected \(rows, 3\)"),
        (torch.zeros(()), FINE[1], None, {}, r"\(\): expected \(rows, 3\)"),
        (torch.zeros(4, 3), torch.zeros(3), None, {}, "4 embeddings but 3 labels"),
        (torch.zeros(3, 3), torch.zeros(3), None, {}, "a batch of 3 rows"),
        (torch.zeros(0, 3), torch.zeros(0), None, {}, "a batch of 0 rows"),
        (torch.zeros(0, 3), torch.zeros(0), None, {"views": 1}, "a batch of 0 rows"),
        (*FINE, {"needs_keys": True}, r"queue='momentum' needs keys of shape \(4, 3\), got none"),
        (*FINE[:2], torch.zeros(4, 2), {"needs_keys": True}, r"keys of shape \(4, 3\), got keys of shape \(4, 2\)"),
        (*FINE[:2], torch.zeros(4, 3), {}, "keys were given, but only queue='momentum'"),
    ],
)
def test_message(embeddings, labels, keys, wanted, message):
    with pytest.raises(ValueError, match=message):
        check_batch(embeddings, labels, keys, None, replace(SPEC, **wanted))


def test_columns_are_those_of_this_rank():
    spec = replace(SPEC, class_start=3, num_local=2)
    batch = GlobalBatch.gather(torch.tensor([[3.0, 0.0, 4.0]] * 4), torch.tensor([1, 4, 1, 4]), None, None, spec)
    assert batch.column.tolist() == [-1, 1, -1, 1] and batch.rows == 4 and batch.finite is True
    assert batch.norms.tolist() == [5.0] * 4 and batch.keys is batch.unit
    torch.testing.assert_close(batch.unit[0], torch.tensor([0.6, 0.0, 0.8]))


@pytest.mark.parametrize("where", ["embeddings", "keys", "quality"])
def test_one_number_that_is_not_finite_is_seen(where):
    spec = replace(SPEC, needs_keys=True, needs_quality="sharpness", num_local=5)
    given = {"embeddings": torch.ones(4, 3), "keys": torch.ones(4, 3), "quality": torch.ones(4)}
    assert GlobalBatch.gather(labels=FINE[1], spec=spec, **given).finite is True
    given[where].view(-1)[3] = torch.nan
    assert GlobalBatch.gather(labels=FINE[1], spec=spec, **given).finite is False
