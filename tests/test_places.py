"""Places of several masks against nonzero of each."""

from __future__ import annotations

import torch

from qgface_plugin.places import places


def test_places_are_those_of_nonzero():
    torch.manual_seed(0)
    masks = [torch.rand(count) < share for count in (1, 7, 300) for share in (0.0, 0.3, 1.1)]
    found = places(*masks)
    assert len(found) == 9 and all(
        torch.equal(one, mask.nonzero().squeeze(1)) for one, mask in zip(found, masks, strict=True)
    )
    assert places() == [] and [len(one) for one in places(torch.zeros(0, dtype=torch.bool))] == [0]
