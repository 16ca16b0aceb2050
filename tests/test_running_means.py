"""Means over steps: exact, without waiting for the device, and resumable."""

from __future__ import annotations

import torch

from qgface_plugin.hosts.running_means import RunningMeans


def test_running_means_wait_for_the_device_only_when_taken(monkeypatch):
    def wait(*arguments):
        raise AssertionError("a step in between must not wait for the device")

    means = RunningMeans()
    with monkeypatch.context() as patch:
        for name in ("__float__", "item", "tolist", "cpu", "numpy"):
            patch.setattr(torch.Tensor, name, wait)
        for step in range(4):
            means.add({"loss": torch.tensor(float(step)), **({"queue_drift": torch.tensor(5.0)} if step == 3 else {})})
    assert means.take() == (4, {"loss": 1.5, "queue_drift": 5.0})
    assert means.take() == (0, {})


def test_running_means_do_not_change_the_terms():
    value = torch.tensor(1.0)
    means = RunningMeans()
    means.add({"loss": value})
    means.add({"loss": value})
    value += 10  # nor follow them
    assert means.take() == (2, {"loss": 1.0})


def test_a_saved_state_goes_on_to_the_last_bit():
    values = [torch.tensor(value) for value in torch.rand(7).tolist()]
    whole, first, second = RunningMeans(), RunningMeans(), RunningMeans()
    for i, value in enumerate(values):
        whole.add({"loss": value, "share": 0.1})
        (first if i < 3 else second).add({"loss": value, "share": 0.1})
        if i == 2:
            second.load(first.state())
    first.add({"loss": 100.0})  # the state is a copy
    assert second.take() == whole.take()
