"""Gates of pairs, and the indices that masks let through."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from criteria import batch, criterion

from qgface_plugin.config.method import QGFaceConfig
from qgface_plugin.loss.gates import pair_gate, true_indices

U_PAIRS = torch.tensor([0.1, 0.25, 0.6, 0.25], dtype=torch.float64)


@pytest.mark.parametrize(
    "gate, b, taking_part",
    [
        ("exact", 0.25, [True, True, False, True]),
        ("zero_logits", 0.25, [True, False, False, False]),
        ("none", 0.25, [True] * 4),
        ("exact", 0.0, [False] * 4),
        ("zero_logits", 0.0, [True] * 4),
        ("exact", 1.0, [True] * 4),
    ],
)
def test_pair_gate(gate, b, taking_part):
    assert pair_gate(U_PAIRS, QGFaceConfig(b=b, contrastive_gate=gate)).tolist() == taking_part


def test_true_indices_are_those_of_nonzero():
    torch.manual_seed(0)
    masks = [torch.rand(count) < share for count in (1, 7, 300) for share in (0.0, 0.3, 1.1)]
    found = true_indices(*masks)
    assert len(found) == 9 and all(
        torch.equal(one, mask.nonzero().squeeze(1)) for one, mask in zip(found, masks, strict=True)
    )
    assert [len(one) for one in true_indices(torch.zeros(0, dtype=torch.bool))] == [0]


@pytest.mark.parametrize("options", [{}, {"queue": "none"}, {"queue": "none", "paired": False}], ids=str)
def test_the_gates_of_a_step(options):
    """u above b is classified, a pair whose worse view has u <= b contrasted; no pair without a queue."""
    out = criterion(**options)
    out(*batch(np.random.default_rng(0)))
    zhat = torch.tensor([-1.0, 0.5, 0.2, 0.9, 0.3, -0.4, 0.8, 0.7], dtype=torch.float64)
    gates = out.gates(zhat)
    assert gates.rows.indices.tolist() == [1, 2, 3, 4, 6, 7]  # b = 0.45 is zhat = -0.1
    assert gates.pairs.indices.tolist() == ([] if options else [0, 1])
    worse = [] if "paired" in options else [-1.0, -0.4, 0.2, 0.7]
    torch.testing.assert_close(gates.u_pair, (torch.tensor(worse, dtype=torch.float64) + 1) / 2)
