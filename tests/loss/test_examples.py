"""Examples in the docstrings of the loss: each public class has one (tests/docs/test_examples.py runs them)."""

from __future__ import annotations

import pytest

import qgface_plugin.loss as loss


@pytest.mark.parametrize("name", loss.__all__)
def test_public_names_have_an_example(name):
    wanted = {"quality_source": "QualitySource", "queue_kind": "QueueKind"}.get(name, name)  # one line that registers
    assert ">>>" in getattr(loss, wanted).__doc__
