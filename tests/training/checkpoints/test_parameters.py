"""Optimiser state and pending gradients: by name, checked, and in the memory layout of the parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from qgface_plugin.training.checkpoints.parameters import (
    names_of,
    pending_gradients,
    restore,
    restored_gradients,
)
from qgface_plugin.utils.errors import CheckpointError


class Parts:
    """A convolution and a layer, some centres, and an optimiser of both that has made a step."""

    def __init__(self, kind: str = "sgd", *, bias: bool = True, last: bool = False, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 2, bias=bias), nn.Flatten(), nn.Linear(4, 2))
        if last:
            self.backbone = self.backbone.to(memory_format=torch.channels_last)
        self.criterion = nn.Linear(2, 3, bias=False)
        groups = [{"params": self.backbone.parameters()}, {"params": self.criterion.parameters()}]
        if kind == "sgd":
            self.optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, fused=True)
        else:
            self.optimizer = torch.optim.AdamW(groups, lr=0.1, fused=True)
        for parameter in [*self.backbone.parameters(), *self.criterion.parameters()]:
            parameter.grad = torch.randn_like(parameter)
        self.optimizer.step()

    def names(self) -> dict[str, list[str]]:
        return names_of(self.backbone, self.criterion, self.optimizer)

    def take(self, saved: dict, names: list[str] | None) -> None:
        state = restore(self.optimizer, saved, self.names()["optimizer"], names)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def moments(self, key: str = "momentum_buffer") -> dict[str, torch.Tensor]:
        of_all = [p for group in self.optimizer.param_groups for p in group["params"]]
        return {name: self.optimizer.state[p][key] for name, p in zip(self.names()["optimizer"], of_all, strict=True)}


@pytest.mark.parametrize(("kind", "key"), [("sgd", "momentum_buffer"), ("adamw", "exp_avg"), ("adamw", "step")])
@pytest.mark.parametrize("named", [True, False])
def test_a_state_is_taken_over(kind, key, named):
    then, now = Parts(kind), Parts(kind, seed=1)
    now.take(then.optimizer.state_dict(), then.names()["optimizer"] if named else None)
    for name, value in then.moments(key).items():
        assert torch.equal(now.moments(key)[name], value)
        assert now.moments(key)[name].data_ptr() != value.data_ptr()


def test_the_order_of_the_parameters_does_not_matter():
    then, now = Parts(), Parts(seed=1)
    state, names = then.optimizer.state_dict(), then.names()["optimizer"]
    turned = {"state": {4 - i: value for i, value in state["state"].items()}, "param_groups": state["param_groups"]}
    now.take(turned, names[::-1])
    assert all(torch.equal(now.moments()[name], value) for name, value in then.moments().items())


@pytest.mark.parametrize(("before", "after"), [(False, True), (True, False)])
def test_a_changed_memory_layout_changes_no_number(before, after):
    """The next update is that of a run whose layout is as it was; a gradient that waits is laid out anew too."""
    then, now = Parts(last=before), Parts(last=after)
    now.backbone.load_state_dict(then.backbone.state_dict())
    now.criterion.load_state_dict(then.criterion.state_dict())
    now.take(then.optimizer.state_dict(), then.names()["optimizer"])
    weight = now.backbone[0].weight
    assert now.moments()["backbone.0.weight"].stride() == weight.stride() != then.backbone[0].weight.stride()
    pending = pending_gradients(then.backbone, then.criterion)
    for parameter, gradient in restored_gradients(pending, now.backbone, now.criterion, then.names()):
        parameter.grad = gradient
    assert weight.grad.stride() == weight.stride()
    for parts in (then, now):
        parts.optimizer.step()
    for one, other in zip(then.backbone.parameters(), now.backbone.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("drop", [lambda state: state.pop(1), lambda state: state[1].clear(), None])
def test_a_momentum_that_is_missing_is_zero(drop):
    """SGD in one pass wants all or none; a parameter that has had no gradient yet has none."""
    now, saved = Parts(seed=1), Parts().optimizer.state_dict()
    if drop is None:
        saved["state"][1]["momentum_buffer"] = None
    else:
        drop(saved["state"])
    now.take(saved, None)
    assert not now.moments()["backbone.0.bias"].any() and now.moments()["backbone.0.weight"].any()
    now.optimizer.step()
    saved["state"] = {}
    now.take(saved, None)
    assert not now.optimizer.state_dict()["state"]


def test_one_parameter_more_or_fewer_is_refused():
    for then, now in ((Parts(bias=True), Parts(bias=False)), (Parts(bias=False), Parts(bias=True))):
        with pytest.raises(CheckpointError, match=r"of other parameters: backbone\.0\.bias"):
            now.take(then.optimizer.state_dict(), then.names()["optimizer"])
        with pytest.raises(CheckpointError, match=r"is of \d parameters, and this network has \d"):
            now.take(then.optimizer.state_dict(), None)


def spoilt(change) -> dict:
    saved = Parts().optimizer.state_dict()
    change(saved["state"])
    return saved


def of_weight(key, value):
    def change(state):
        state[0][key] = value

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (of_weight("momentum_buffer", torch.zeros(4)), r"0\.weight\.momentum_buffer is torch\.float32 \(4,\)"),
        (of_weight("momentum_buffer", torch.zeros(4, 3, 2, 2).double()), r"momentum_buffer is torch\.float64"),
        (of_weight("momentum_buffer", torch.zeros(4, 3, 2, 2).to_sparse()), r"no plain tensor"),
        (of_weight("momentum_buffer", 1.0), r"momentum_buffer is float, not a tensor"),
        (of_weight("exp_avg", torch.zeros(4, 3, 2, 2)), r"has exp_avg: another optimiser's"),
        (lambda state: state.update({9: {}}), r"has the number 9, and there are 5"),
        (lambda state: state.update({"0": {}}), r"has the number '0'"),
        (lambda state: state.update({0: [1]}), r"state of backbone\.0\.weight is list"),
    ],
)
def test_a_crafted_state_is_refused(change, named):
    now = Parts()
    before = {name: value.clone() for name, value in now.moments().items()}
    with pytest.raises(CheckpointError, match=named):
        now.take(spoilt(change), None)
    assert all(torch.equal(now.moments()[name], value) for name, value in before.items())


@pytest.mark.parametrize("step", [torch.tensor(-1.0), torch.zeros(2), torch.tensor(torch.nan), "1"])
def test_a_number_of_steps_is_a_number(step):
    saved = Parts("adamw").optimizer.state_dict()
    saved["state"][0]["step"] = step
    with pytest.raises(CheckpointError, match=r"0\.weight\.step is"):
        Parts("adamw").take(saved, None)


@pytest.mark.parametrize("key", ["exp_avg", "exp_avg_sq"])
def test_adamw_has_all_its_moments_from_the_first_step(key):
    saved = Parts("adamw").optimizer.state_dict()
    saved["state"][0][key] = None
    with pytest.raises(CheckpointError, match=rf"0\.weight\.{key} is NoneType, not a tensor"):
        Parts("adamw").take(saved, None)


def test_groups_that_do_not_number_the_parameters():
    saved = Parts().optimizer.state_dict()
    for groups in ([{"params": [0, 0]}], [{"params": [1 << 60]}], [{}], [3], "none"):
        with pytest.raises(CheckpointError, match="param_groups"):
            Parts().take({**saved, "param_groups": groups}, None)


def test_gradients_of_other_parameters_are_refused():
    then, now = Parts(bias=False), Parts()
    pending = pending_gradients(then.backbone, then.criterion)
    for names in (None, then.names()):
        with pytest.raises(CheckpointError, match=r"gradients\.backbone are not those of the 4 parameters"):
            restored_gradients(pending, now.backbone, now.criterion, names)
    pending = pending_gradients(now.backbone, now.criterion)
    pending["backbone"][0] = torch.zeros(3)
    with pytest.raises(CheckpointError, match=r"gradients\.backbone\.0\.weight is torch\.float32 \(3,\)"):
        restored_gradients(pending, now.backbone, now.criterion, None)
