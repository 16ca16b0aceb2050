"""How often a step of the loss waits for the device: what it does that needs a number or a size from there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from criteria import batch, criterion
from device_reads import Reads


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, 4),  # is the batch sound; both gates; what is enqueued; what is alive
        ({"queue": "none"}, 2),
        ({"sample_rate": 0.5}, 5),  # the sampled classes
    ],
)
def test_how_often_a_step_waits(options, expected, monkeypatch):
    out, (features, labels) = criterion(**options), batch(np.random.default_rng(0))
    out(features, labels)
    features.requires_grad_()
    lists, tolist = [], torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: lists.append(self) or tolist(self))
    with Reads() as seen:
        out(features, labels).backward()
    assert seen.count + len(lists) == expected
