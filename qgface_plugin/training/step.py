"""Training step of the built-in loop: forward, backward, update; one that is not finite changes no weight."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..data.pair_dataset import PairBatch, concatenate, normalise
from ..loss.partial_fc import QGPartialFC
from ..loss.quality import of_images, of_teacher
from ..models.momentum_encoder import MomentumEncoder
from ..models.teacher import Teacher
from ..utils import distributed
from ..utils.device import autocast
from ..utils.late_read import LateRead
from ..utils.torch_before_2_6 import clip_grads_with_norm_, get_total_norm
from .moving import Moving
from .rollback import Rollback


@dataclass
class TrainStep:
    """Everything that a step changes, and the step itself.

    Attributes:
        model: what is called: the backbone, wrapped by DDP or torch.compile.
        backbone: the encoder itself.
        criterion: over this rank's share of the classes.
        optimizer: of both.
        scaler: of the loss in float16, disabled otherwise.
        key_encoder: of the momentum queue, None without one.
        teacher: the frozen encoder that views are pulled to or contrasted with, None without one.
        moving: what of the backbone is trained; None: all of it.
        waiting: the whole backbone is frozen at present; see `wait`.
        device: that it trains on.
        dtype: that the backbone computes in.
        channels_last: memory format of the images.
        accumulate: steps whose gradients are summed before an update (arcface_torch's gradient_acc).
        clip: largest norm of the backbone's gradient, 0 for no limit.
        rollback: of a step that is not finite; made at the first step.
        stop_wanted: has this rank been asked to leave?
        leaving: what all ranks agree on at each update, by the all-reduce that tells them whether the gradients are
            finite, so asking costs nothing.
        late: nothing is read of the device while a step is on its way, so that a GPU never waits for the host: whether
            a step was finite decides there, and `verdict` tells it. None: on CUDA. Not with `accumulate` above 1, where
            what a bad step has collected could not be told from what others have, nor with an optimiser that cannot
            leave out a step by a number on the device, as torch's fused ones can.
    """

    model: nn.Module
    backbone: nn.Module
    criterion: QGPartialFC
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    key_encoder: MomentumEncoder | None
    device: torch.device
    dtype: torch.dtype
    channels_last: bool = False
    accumulate: int = 1
    clip: float = 5.0
    rollback: Rollback | None = None
    stop_wanted: Callable[[], bool] = lambda: False
    teacher: Teacher | None = None
    moving: Moving | None = None
    waiting: bool = False
    leaving: bool = False
    late: bool | None = None

    def __post_init__(self) -> None:
        self.criterion.is_rolled_back = True
        self._verdicts: deque[LateRead] = deque()

    @property
    def is_late(self) -> bool:
        """Whether `verdict` tells what became of a step, and not the step itself; see `late`."""
        late = self.device.type == "cuda" if self.late is None else self.late
        return late and self.accumulate == 1 and getattr(self.optimizer, "_step_supports_amp_scaling", False)

    def __call__(self, batch: PairBatch, global_step: int) -> bool | None:
        """Train on this rank's batch as step `global_step` (from 1).

        Returns:
            False when loss or gradient was not finite on any rank: then weights, optimiser, running statistics and
            queue are as before, and the gradients collected so far are dropped. None: `verdict` will tell.
        """
        batch = batch.to(self.device, non_blocking=True)
        images, labels = concatenate(batch)
        images = normalise(images)
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        rollback = self._rollback()
        rollback.remember(len(labels) * distributed.world_size())
        with autocast(self.device, self.dtype):
            taught = self._begin_teacher(images)
            embeddings = self._embed(images)
            keys = self.key_encoder(images) if self.key_encoder is not None else None
        quality = of_images(self.criterion.config.quality, images, batch.strengths())
        teacher = None if taught is None else taught()
        if teacher is not None:
            quality = of_teacher(self.criterion.config.quality, teacher) if quality is None else quality
            teacher = teacher[: len(batch)] if self.criterion.needs_teacher else None
        loss: Tensor = self.criterion(embeddings, labels, keys, quality, teacher)
        if self.is_late:
            self.scaler.scale(loss).backward()
            self._update_late(loss.detach(), rollback)
            return None
        if not bool(loss.isfinite()):  # the loss is global: every rank decides alike
            self.optimizer.zero_grad()
            rollback.restore()
            return False
        self.scaler.scale(loss).backward()
        if global_step % self.accumulate != 0 or self._update():
            return True
        rollback.restore()
        return False

    def verdict(self) -> bool:
        """What `__call__` would have returned of the oldest late step that has not been asked for.

        A step later nobody waits for it. `leaving` is of that step then.
        """
        good, going_on = self._verdicts.popleft().take()
        self.leaving = not going_on
        return bool(good)

    def wait(self, waiting: bool) -> None:
        """Freeze the whole backbone, its BatchNorm included, or let it train again; the class centres train on."""
        if waiting != self.waiting:
            self.waiting = waiting
            for module in (self.backbone, self.key_encoder):
                if module is not None and self.moving is not None:
                    self.moving.set_modes(module, waiting=waiting)

    def _embed(self, images: Tensor) -> Tensor:
        """Raw embeddings (2B, d); without gradient, and without DDP's work, while the backbone waits."""
        if not self.waiting:
            return self.model(images)
        with torch.no_grad():
            return self.backbone(images)

    def _begin_teacher(self, images: Tensor) -> Callable[[], Tensor] | None:
        """The teacher's embeddings of the originals (B, d); of both views where the quality is the teacher's norm."""
        if self.teacher is None:
            return None
        both = self.criterion.config.quality == "teacher"
        return self.teacher.begin(images if both else images[: len(images) // self.criterion.views])

    def _rollback(self) -> Rollback:
        """Made at the first step: modules are on their device and a saved state is loaded into them by then."""
        if self.rollback is None:
            self.rollback = Rollback((self.backbone, self.key_encoder), self.criterion)
        return self.rollback

    def settle(self, images: Tensor) -> None:
        """Let DistributedDataParallel lay out its buckets by a backward pass on any images (2B, 3, h, w).

        To be called before a resumed state is loaded: DDP lays the buckets out anew after its first pass, and where a
        number lies in a bucket decides in which order the ranks' shares are added. A resumed run has to start with the
        later layout.
        """
        with autocast(self.device, self.dtype):
            embeddings = self.model(images)
        embeddings.float().sum().backward()
        self.optimizer.zero_grad()

    def _norms(self) -> Tensor:
        """(2,) of the gradients of backbone and class centres."""
        self.scaler.unscale_(self.optimizer)
        parts = [gradients(module) for module in (self.backbone, self.criterion)]
        none = torch.zeros((), device=self.device)
        return torch.stack([get_total_norm(part) if part else none for part in parts])

    def _update(self) -> bool:
        norms = self._norms()
        going_on = not self.stop_wanted()
        finite, going_on = distributed.all_hold([bool(norms.isfinite().all()), going_on], self.device)
        self.leaving = not going_on
        if finite:
            if self.clip:
                clip_grads_with_norm_(self.backbone.parameters(), self.clip, norms[0])
            self._step(torch.zeros((), device=self.device))
            if self.key_encoder is not None:
                self.key_encoder.update(self.backbone)
        elif self.scaler.is_enabled():
            self._step(torch.ones((), device=self.device))
        self.optimizer.zero_grad()
        return finite

    def _update_late(self, loss: Tensor, rollback: Rollback) -> None:
        norms = self._norms()
        good = (loss.abs() < math.inf) & (norms.abs() < math.inf).all()
        going_on = torch.full((), float(not self.stop_wanted()), device=self.device)  # made there, not sent
        verdict = distributed.minimum(torch.stack([good.float(), going_on]))
        bad = verdict[0] < 0.5
        if self.clip:
            clip_grads_with_norm_(self.backbone.parameters(), self.clip, norms[0])
        self._step(bad.float())
        if self.key_encoder is not None:
            self.key_encoder.update(self.backbone, share=verdict[0])
        rollback.restore_where(bad)
        self.optimizer.zero_grad()
        self._verdicts.append(LateRead())
        self._verdicts[-1].put(verdict)

    def _step(self, bad: Tensor) -> None:
        """Update the weights, unless `bad` () is 1, which a fused optimiser looks at on its device; and the scaler."""
        optimizer: Any = self.optimizer
        if self.is_late or self.scaler.is_enabled():
            start_momentum(optimizer)
        if self.scaler.is_enabled():
            for found in self.scaler._found_inf_per_device(optimizer).values():
                found.copy_(bad)  # the ranks decide together
            self.scaler.step(optimizer)
            self.scaler.update()
        elif self.is_late:
            optimizer.grad_scale, optimizer.found_inf = None, bad
            optimizer.step()
            del optimizer.grad_scale, optimizer.found_inf
        else:
            optimizer.step()


def gradients(module: nn.Module) -> list[Tensor]:
    """The gradients that a module's parameters have now."""
    return [p.grad for p in module.parameters() if p.grad is not None]


def start_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Give SGD the momentum, 0, that its first step would make: a fused one makes it of memory as it finds it, and
    writes nothing there where the step is left out."""
    for group in optimizer.param_groups:
        for parameter in group["params"] if group.get("momentum") else ():
            state = optimizer.state[parameter]
            if parameter.grad is not None and state.get("momentum_buffer") is None:
                state["momentum_buffer"] = torch.zeros_like(parameter)
