"""What is refused before a loss is computed, and what the message says."""

from __future__ import annotations

import pytest
import torch

from qgface_plugin.loss.batch import check_batch, complain_about, labels_fit, places

WANTED = {"dim": 3, "views": 2, "needs_keys": False}
FINE = (torch.zeros(4, 3), torch.tensor([1, 4, 1, 4]), None)


def test_a_batch_of_pairs_passes():
    check_batch(*FINE, **WANTED)
    check_batch(FINE[0], FINE[1].view(-1, 1), None, **WANTED)
    check_batch(FINE[0], FINE[1], torch.zeros(4, 3), **WANTED | {"needs_keys": True})


def test_single_views_need_no_partner():
    check_batch(torch.zeros(3, 3), torch.tensor([0, 1, 2]), None, **WANTED | {"views": 1})
    assert labels_fit(torch.tensor([0, 1, 2]), num_classes=3, views=1)


@pytest.mark.parametrize(
    "labels, message",
    [
        ([1, 5, 1, 5], r"labels run from 1 to 5: expected \[0, 5\)"),
        ([-1, 4, -1, 4], r"labels run from -1 to 4: expected \[0, 5\)"),
        ([1, 4, 4, 1], "labels of rows 0..B-1 and B..2B-1 differ"),
        ([1, 1, 4, 4], "both views of an image must stand B rows apart"),
    ],
)
def test_labels(labels, message):
    assert labels_fit(FINE[1], num_classes=5, views=2)
    assert not labels_fit(torch.tensor(labels), num_classes=5, views=2)
    with pytest.raises(ValueError, match=message):
        complain_about(torch.tensor(labels), 5)


@pytest.mark.parametrize(
    "embeddings, labels, keys, wanted, message",
    [
        (torch.zeros(4, 2), FINE[1], None, {}, r"embeddings have shape \(4, 2\): expected \(rows, 3\)"),
        (torch.zeros(4), FINE[1], None, {}, r"embeddings have shape \(4,\): expected \(rows, 3\)"),
        (torch.zeros(()), FINE[1], None, {}, r"embeddings have shape \(\): expected \(rows, 3\)"),
        (torch.zeros(4, 3), torch.zeros(3), None, {}, "4 embeddings but 3 labels"),
        (torch.zeros(3, 3), torch.zeros(3), None, {}, "a batch of 3 rows is not made of pairs: expected B originals"),
        (torch.zeros(0, 3), torch.zeros(0), None, {}, "a batch of 0 rows"),
        (torch.zeros(0, 3), torch.zeros(0), None, {"views": 1}, "a batch of 0 rows"),
        (*FINE, {"needs_keys": True}, r"queue='momentum' needs keys of shape \(4, 3\), got none"),
        (
            *FINE[:2],
            torch.zeros(4, 2),
            {"needs_keys": True},
            r"needs keys of shape \(4, 3\), got keys of shape \(4, 2\)",
        ),
        (*FINE[:2], torch.zeros(4, 3), {}, "keys were given, but only queue='momentum' takes them"),
    ],
)
def test_message(embeddings, labels, keys, wanted, message):
    with pytest.raises(ValueError, match=message):
        check_batch(embeddings, labels, keys, **WANTED | wanted)


# --- Places of several masks against nonzero of each ------------------------------------------------------------------


def test_places_are_those_of_nonzero():
    torch.manual_seed(0)
    masks = [torch.rand(count) < share for count in (1, 7, 300) for share in (0.0, 0.3, 1.1)]
    found = places(*masks)
    assert len(found) == 9 and all(
        torch.equal(one, mask.nonzero().squeeze(1)) for one, mask in zip(found, masks, strict=True)
    )
    assert places() == [] and [len(one) for one in places(torch.zeros(0, dtype=torch.bool))] == [0]
