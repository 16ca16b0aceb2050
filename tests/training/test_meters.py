"""Meters: when the warning about an upside-down norm comes and how often, and means of the terms."""

from __future__ import annotations

import pytest
import torch

from qgface_plugin.training.meters import IdleWatch, OrderWatch, RunningMeans


def test_running_mean_equals_single_updates():
    watch, expected = OrderWatch(momentum=0.01), 0.9
    for value, steps in ((0.9, 10), (0.4, 10), (0.7, 25)):
        watch.update(value, steps, epoch=0)
        for _ in range(steps):
            expected = 0.99 * expected + 0.01 * value
        assert watch.mean == pytest.approx(expected, rel=1e-12)


def test_silent_in_the_grace_then_once_an_epoch():
    watch = OrderWatch(grace_steps=100)
    due = [(step, epoch) for epoch in (0, 1, 2) for step in range(0, 300, 10) if watch.update(0.3, 10, epoch)]
    assert due == [(90, 0), (0, 1), (0, 2)]  # 90: the tenth update ends the grace


def test_silent_while_the_norm_carries_quality():
    watch = OrderWatch(grace_steps=10)
    assert all(watch.update(0.5, 10, epoch) is None for epoch in range(5))


def test_it_warns_when_the_mean_falls_below_a_half():
    watch = OrderWatch(grace_steps=10)
    texts = [watch.update(0.9, 100, 0), *(watch.update(0.1, 10, 0) for _ in range(20))]
    first = next(i for i, text in enumerate(texts) if text)
    # 0.1 + 0.8 * 0.99^n < 0.5 from n = 69 on
    assert first == 7
    assert "in only 50% of the pairs" in texts[first] or "in only 49% of the pairs" in texts[first]
    assert "config.qgface.train.features_bias = False" in texts[first] and "config.qgface.b" in texts[first]


def test_what_is_not_finite_is_left_out():
    watch = OrderWatch(grace_steps=10)
    watch.update(0.8, 10, 0)
    assert watch.update(float("nan"), 10, 0) is None
    assert watch.mean == 0.8


def test_a_bias_that_is_gone_is_not_advised_to_go():
    texts = [OrderWatch(grace_steps=1, features_bias=bias).update(0.1, 10, 0) for bias in (True, False)]
    assert "features_bias" in texts[0] and "features_bias" not in texts[1]
    assert all("config.qgface.quality = 'degradation'" in text for text in texts)


# --- A contrast that does nothing: by hand, over the steps of an epoch ------------------------------------------------


def test_an_idle_contrast_is_said_once_an_epoch_after_the_grace():
    watch = IdleWatch(grace_steps=50)
    due = [(step, epoch) for epoch in (0, 1) for step in range(0, 90, 10) if watch.update(0.0, 10, epoch)]
    assert due == [(40, 0), (0, 1)]
    text = IdleWatch(grace_steps=1).update(0.004, 10, 0)
    assert "0.4% of the pairs" in text and "config.qgface.b_quantile" in text and "docs/troubleshooting.md" in text


def test_the_share_counts_over_all_steps_of_the_epoch():
    watch = IdleWatch(grace_steps=1)
    assert watch.update(0.05, 10, 0) is None
    assert watch.update(0.0, 39, 0) is None  # 0.5 / 49 is above a hundredth
    assert watch.update(float("nan"), 10, 0) is None
    assert watch.update(0.0, 2, 0) is not None  # 0.5 / 51 is below
    assert watch.update(0.02, 10, 1) is None  # the next epoch counts anew


def test_a_saved_idle_watch_goes_on():
    whole, first, second = IdleWatch(), IdleWatch(), IdleWatch()
    steps = [(0.02, 0), (0.0, 0), (0.001, 0), (0.0, 1), (0.0, 1), (0.0, 1), (0.0, 1)]
    said = [bool(whole.update(share, 10, epoch)) for share, epoch in steps]
    before = [bool(first.update(share, 10, epoch)) for share, epoch in steps[:5]]
    second.load_state_dict(first.state_dict())
    assert before + [bool(second.update(share, 10, epoch)) for share, epoch in steps[5:]] == said
    assert sum(said) == 1


# --- Means over steps: exact, without waiting for the device, and resumable -------------------------------------------


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
            second.load_state_dict(first.state_dict())
    first.add({"loss": 100.0})  # the state is a copy
    assert second.take() == whole.take()
