"""The learning rate of every step, against loops."""

from __future__ import annotations

import pytest
import torch

from qgface_plugin.training.lr_schedule import build_schedule, move_to, polynomial_factor, step_factor
from qgface_plugin.utils.errors import ConfigError


def optimizer(*rates: float) -> torch.optim.SGD:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    return torch.optim.SGD(groups, lr=rates[0], momentum=0.9)


def run(schedule: torch.optim.lr_scheduler.LambdaLR, steps: int) -> list[list[float]]:
    """The rates of every group that step 0, 1, ... `steps` are taken with."""
    rates = [schedule.get_last_lr()]
    for _ in range(steps):
        schedule.optimizer.step()
        schedule.step()
        rates.append(schedule.get_last_lr())
    return rates


def polynomial_loop(base: float, warmup: int, total: int, steps: int) -> list[float]:
    """arcface_torch's rule written as it acts: each step changes the rate of the step before; step 0 is ours."""
    rates = [base / warmup if warmup else base]
    for k in range(1, steps + 1):
        if k > total:
            rates.append(rates[-1])
        elif k <= warmup:
            rates.append(base * k / warmup)
        else:
            left, before = 1 - (k - warmup) / (total - warmup), 1 - (k - 1 - warmup) / (total - warmup)
            rates.append((rates[-1] if k > 1 else base) * left / before)
    return rates


@pytest.mark.parametrize(("warmup", "total"), [(0, 40), (1, 40), (7, 40), (39, 40), (40, 40), (50, 40), (0, 1), (1, 2)])
def test_polynomial_equals_the_loop_at_every_step(warmup, total):
    rates = run(build_schedule(optimizer(0.2, 0.05), "polynomial", warmup, total), total + 3)
    for group, base in enumerate((0.2, 0.05)):
        expected = polynomial_loop(base, warmup, total, total + 3)
        assert [r[group] for r in rates] == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_polynomial_landmarks():
    # what arcface_torch's scheduler gave for 4 warm-up steps of 10, but for the first, where it gave 1
    expected = [0.25, 0.25, 0.5, 0.75, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0, 0]
    assert [polynomial_factor(k, 4, 10) for k in range(12)] == pytest.approx(expected)
    assert polynomial_factor(0, 0, 10) == 1.0


@pytest.mark.parametrize("warmup", [0, 5, 12])
@pytest.mark.parametrize("milestones", [(), (10,), (10, 20), (10, 10, 25)])
def test_step_equals_the_loop_at_every_step(warmup, milestones):
    rates = run(build_schedule(optimizer(0.2), "step", warmup, 30, milestones, gamma=0.1), 33)
    for k, (rate,) in enumerate(rates):
        expected = 0.2
        if k < warmup:
            expected = 0.2 * max(k, 1) / warmup
        for milestone in milestones:
            if k >= milestone:
                expected = expected * 0.1
        assert rate == pytest.approx(expected, rel=1e-12), k


def test_the_papers_run_divides_after_epochs_6_and_9():
    per_epoch = 100
    at = [step_factor(epoch * per_epoch, 0, [6 * per_epoch, 9 * per_epoch], 0.1) for epoch in range(12)]
    assert at == pytest.approx([1] * 6 + [0.1] * 3 + [0.01] * 3)
    assert step_factor(599, 0, [600, 900], 0.1) == 1.0


@pytest.mark.parametrize("kind", ["polynomial", "step"])
def test_a_resumed_schedule_continues_with_the_same_rates(kind):
    arguments = (kind, 5, 30, (12, 20), 0.1)
    whole = run(build_schedule(optimizer(0.2), *arguments), 30)
    first = build_schedule(optimizer(0.2), *arguments)
    run(first, 13)
    second_optimizer = optimizer(0.2)
    second = build_schedule(second_optimizer, *arguments)
    second_optimizer.load_state_dict(first.optimizer.state_dict())
    second.load_state_dict(first.state_dict())
    assert run(second, 17) == whole[13:]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cosine", 0, 10), "'cosine'"),
        (("polynomial", 0, 0), "0 steps"),
        (("polynomial", -1, 10), "-1 of warm-up"),
        (("step", 0, 10, (6, 3)), r"\[6, 3\]"),
        (("step", 0, 10, (0,)), r"\[0\]"),
        (("step", 0, 10, (3,), 0.0), "gamma is 0.0"),
    ],
)
def test_values_that_cannot_be_used(arguments, message):
    with pytest.raises(ConfigError, match=message):
        build_schedule(optimizer(0.1), *arguments)


@pytest.mark.parametrize("kind", ["polynomial", "step"])
def test_moved_is_where_its_steps_bring_it(kind):
    def fresh():
        groups = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": lr} for lr in (0.1, 0.03)]
        optimizer = torch.optim.SGD(groups)
        return optimizer, build_schedule(optimizer, kind, 3, 11, [5, 8] if kind == "step" else ())

    walked, walking = fresh()
    for step in range(1, 12):
        walked.step(), walking.step()
        moved, moving = fresh()
        move_to(moving, step)
        assert [g["lr"] for g in moved.param_groups] == [g["lr"] for g in walked.param_groups]
        assert moving.state_dict() == walking.state_dict()
        moved.step(), moving.step(), moving.step()
        assert moving.last_epoch == step + 2
