"""Repairs together, the import hook they use, and those of torch's scheduler, NumPy's names and torch.cuda.amp."""

from __future__ import annotations

import logging
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from compat_tools import importing_from, write_checkout
from torch.optim import lr_scheduler

from qgface_plugin.arcface_torch import compat
from qgface_plugin.arcface_torch.compat import lr_scheduler as lr_scheduler_module
from qgface_plugin.arcface_torch.compat import renamed
from qgface_plugin.arcface_torch.compat.repair import around_import, is_around_import
from qgface_plugin.utils.errors import ConfigError

SCHEDULE = """
from torch.optim.lr_scheduler import _LRScheduler

class PolynomialLRWarmup(_LRScheduler):
    def __init__(self, optimizer, last_epoch=-1, verbose=False):
        super().__init__(optimizer, last_epoch=last_epoch, verbose=verbose)

    def get_lr(self):
        return [group["lr"] / 2 for group in self.optimizer.param_groups]
"""


@contextmanager
def note_the_name(module: ModuleType):
    module.before = True
    yield
    module.after = module.value + 1


needs_verbose = pytest.mark.skipif(torch.__version__ < "2.7", reason="schedulers take `verbose` before torch 2.7")


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=1.0)


def test_a_checkout_that_needs_nothing_gets_nothing(tmp_path: Path) -> None:
    assert not any(repair.needed() for repair in compat.repairs(write_checkout(tmp_path, losses="x = 1\n")))
    assert compat.apply(tmp_path) == []


@needs_verbose
def test_each_repair_is_applied_once_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkout = write_checkout(tmp_path, lr_scheduler=SCHEDULE)
    with importing_from(checkout), caplog.at_level(logging.INFO, "qgface_plugin"):
        assert [repair.name for repair in compat.apply(checkout)] == ["verbose of schedulers"]
        assert [record.message for record in caplog.records] == [
            "repaired for arcface_torch, in this process: verbose of schedulers; `qgface doctor` says why"
        ]
        finders = len(sys.meta_path)
        assert compat.apply(checkout) == [] and len(caplog.records) == 1 and len(sys.meta_path) == finders


def test_repairs_have_names_of_their_own_and_reasons(tmp_path: Path) -> None:
    repairs = compat.repairs(tmp_path)
    assert len({repair.name for repair in repairs}) == len(repairs) == 7
    assert all(len(repair.reason) > 30 for repair in repairs)


def test_hook_runs_around_the_checkouts_module_only(tmp_path: Path) -> None:
    ours, other = tmp_path / "ours", tmp_path / "other"
    write_checkout(ours, hooked="value = 1\nseen = before\n", plain="value = 1\n")
    write_checkout(other, hooked="value = 1\n")
    with importing_from(ours):
        around_import(ours.resolve(), "hooked", note_the_name)
        assert is_around_import(ours.resolve(), "hooked", note_the_name)
        import hooked
        import plain

        assert hooked.seen and hooked.after == 2 and not hasattr(plain, "after")
    with importing_from(other):
        around_import(ours.resolve(), "hooked", note_the_name)
        import hooked

        assert not hasattr(hooked, "after")


def test_hook_reaches_modules_within_packages(tmp_path: Path) -> None:
    write_checkout(tmp_path, {"box/__init__": "", "box/inner": "value = 5\n"})
    with importing_from(tmp_path):
        around_import(tmp_path.resolve(), "box.inner", note_the_name)
        from box import inner

        assert inner.after == 6


def test_too_late_is_said(tmp_path: Path) -> None:
    write_checkout(tmp_path, hooked="value = 1\n")
    with importing_from(tmp_path):
        import hooked

        assert hooked.value == 1
        with pytest.raises(ConfigError, match="hooked.py was imported before it could be repaired"):
            around_import(tmp_path.resolve(), "hooked", note_the_name)


@needs_verbose
def test_schedulers_accept_verbose_in_the_checkouts_module_only(tmp_path: Path) -> None:
    before = lr_scheduler._LRScheduler, lr_scheduler.LRScheduler
    checkout = write_checkout(tmp_path, lr_scheduler=SCHEDULE).resolve()
    repair = lr_scheduler_module.repair(checkout)
    with importing_from(checkout):
        assert repair.needed()
        repair.apply()
        assert not repair.needed()
        from lr_scheduler import PolynomialLRWarmup

        schedule = PolynomialLRWarmup(optimizer())
        assert schedule.get_last_lr() == [0.5] and isinstance(schedule, lr_scheduler.LRScheduler)
    assert (lr_scheduler._LRScheduler, lr_scheduler.LRScheduler) == before
    with pytest.raises(TypeError, match="verbose"):
        lr_scheduler.LRScheduler(optimizer(), verbose=False)


def test_schedulers_are_restored_when_the_module_fails(tmp_path: Path) -> None:
    before = lr_scheduler._LRScheduler
    checkout = write_checkout(tmp_path, lr_scheduler=SCHEDULE + "raise RuntimeError('broken')\n").resolve()
    with importing_from(checkout):
        lr_scheduler_module.repair(checkout).apply()
        with pytest.raises(RuntimeError, match="broken"):
            __import__("lr_scheduler")
    assert lr_scheduler._LRScheduler is before


def test_schedulers_of_older_torch_need_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Older:
        def __init__(self, optimizer, last_epoch=-1, verbose=False): ...

    monkeypatch.setattr(lr_scheduler, "LRScheduler", Older)
    assert not lr_scheduler_module.repair(write_checkout(tmp_path, lr_scheduler=SCHEDULE)).needed()


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "1.24.0", reason="this NumPy has the names")
def test_names_of_numpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's own, about the names that it had
        for name in ("int", "float", "object"):
            monkeypatch.setattr(np, name, None, raising=False)  # to be put back
            delattr(np, name)
        monkeypatch.setattr(np, "bool", np.bool_, raising=False)
    repair = renamed.repair_numpy_names(write_checkout(tmp_path, eval_ijbc="x = y.astype(np.int)\n"))
    assert repair.needed()
    repair.apply()
    assert all(getattr(np, name) is kind for name, kind in (("int", int), ("float", float), ("object", object)))
    assert np.bool is np.bool_  # one that is there is kept
    assert np.array([1.7]).astype(vars(np)["int"]).tolist() == [1]
    assert not repair.needed()


def test_names_of_numpy_are_not_given_to_a_checkout_that_uses_others(tmp_path: Path) -> None:
    assert not renamed.repair_numpy_names(
        write_checkout(tmp_path, a="np.int64(3), np.float32(2), np.bool_(1)\n")
    ).needed()


@pytest.fixture
def amp_checkout(tmp_path: Path) -> Path:
    return write_checkout(tmp_path, partial_fc_v2="with torch.cuda.amp.autocast(True): ...\n")


def test_exactly_the_two_warnings_are_silenced(amp_checkout: Path) -> None:
    repair = renamed.repair_amp_names(amp_checkout)
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("error")
        with pytest.raises(FutureWarning, match="deprecated"):
            torch.cuda.amp.autocast(False)
        assert repair.needed()
        repair.apply()
        assert not repair.needed()
        torch.cuda.amp.autocast(False)
        torch.cuda.amp.grad_scaler.GradScaler(growth_interval=100, enabled=False)
        with pytest.raises(FutureWarning, match="something else"):
            warnings.warn("something else is deprecated", FutureWarning, stacklevel=1)
        with pytest.raises(FutureWarning, match="custom_fwd"):
            warnings.warn("`torch.cuda.amp.custom_fwd(args...)` is deprecated.", FutureWarning, stacklevel=1)


def test_missing_names_of_mixed_precision_are_given(amp_checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "amp", torch.cuda.amp)  # to be put back
    monkeypatch.delattr(torch.cuda, "amp")
    for name in ("torch.cuda.amp", "torch.cuda.amp.grad_scaler"):
        monkeypatch.delitem(sys.modules, name)
    repair = renamed.repair_amp_names(amp_checkout)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert repair.needed()
        repair.apply()
        assert not repair.needed()
        with torch.cuda.amp.autocast(False):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
        scaler = torch.cuda.amp.grad_scaler.GradScaler(growth_interval=100, enabled=False)
        assert scaler.get_scale() == 1.0 and torch.cuda.amp.GradScaler is torch.cuda.amp.grad_scaler.GradScaler
    for name in ("torch.cuda.amp", "torch.cuda.amp.grad_scaler"):
        sys.modules.pop(name)
