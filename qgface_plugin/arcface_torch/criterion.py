"""Criterion for a checkout's training loop, which calls it with embeddings and labels only."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..loss.partial_fc import QGPartialFC
from ..models.momentum_encoder import MomentumEncoder
from ..training.rollback import Rollback, advice, skip_bad_step
from ..utils import distributed
from ..utils.torch_before_2_6 import get_total_norm


class KeySource:
    """Keys of the momentum queue, made when the checkout's loop calls its backbone in training.

    The key encoder starts as a copy of the backbone at the first such call, and follows it at the start of every
    later one: by then the loop has made the update of the step before. The backbone's state dict stays as it is.

    Args:
        backbone: the checkout's.
        momentum: m of the key encoder, in [0, 1].
        every: calls between two updates of the weights (gradient_acc).

    Example:
        >>> source = KeySource(nn.Linear(2, 2), momentum=0.9)
        >>> _ = source.backbone(torch.ones(4, 2))  # what the loop does
        >>> source.take().shape, source.take()
        (torch.Size([4, 2]), None)
    """

    def __init__(self, backbone: nn.Module, momentum: float, every: int = 1) -> None:
        self.backbone, self.momentum, self.every = backbone, momentum, every
        self.encoder: MomentumEncoder | None = None
        self._calls, self._saved, self._keys = 0, None, None

        def before(called: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if called is backbone and called.training:  # the encoder is a copy and has this hook too
                self._make(inputs[0])

        backbone.register_forward_pre_hook(before)

    def _make(self, images: Tensor) -> None:
        if self.encoder is None:
            self.encoder = MomentumEncoder(self.backbone, self.momentum)
            if self._saved is not None:
                self.encoder.load_state_dict(self._saved)
        if self._calls and self._calls % self.every == 0:
            self.encoder.update(self.backbone)
        self._calls += 1
        self._keys = self.encoder(images)

    def take(self) -> Tensor | None:
        """Keys (2B, d) of the images that the backbone has seen last, once."""
        keys, self._keys = self._keys, None
        return keys

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"calls": self._calls, "encoder": None if self.encoder is None else self.encoder.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`; before the first call of the backbone."""
        self._calls, self._saved = state["calls"], state["encoder"]


class CheckoutPartialFC(QGPartialFC):
    """QGPartialFC that skips steps that are not finite and ends the run after too many: the loop would train on them.

    Attributes:
        key_source: where the keys of the rows come from, as the loop hands over none; None without a momentum queue.
        quality_source: the same for the quality scores.
        max_bad_steps: steps that are not finite, in a row, before TrainingError.
        checkpoint: the file that the checkout saves this rank's checkpoints in.
        rollback: of a step that is not finite; made at the first step.
        bad_in_a_row: steps that were not finite, up to now.
    """

    key_source: KeySource | None = None
    quality_source: Callable[[], Tensor | None] = staticmethod(lambda: None)
    max_bad_steps = 1
    checkpoint: Path | None = None
    rollback: Rollback | None = None
    bad_in_a_row, _bad_loss, _judged_later = 0, False, False

    # A checkout's loop hands over embeddings and labels alone; the rest comes from the two sources.
    def forward(self, local_embeddings: Tensor, local_labels: Tensor) -> Tensor:  # type: ignore[override]
        """The scalar loss of the global batch, as QGPartialFC has it."""
        keys = self.key_source.take() if self.key_source is not None and self.training else None
        loss = super().forward(local_embeddings, local_labels, keys, self.quality_source())
        self._bad_loss = not bool(loss.isfinite())  # the loss is global: every rank decides alike
        if self._bad_loss:
            self._skip("loss")
        elif not self._judged_later:
            self.bad_in_a_row = 0
        return loss

    def watch(self, backbone: nn.Module, optimizer: torch.optim.Optimizer, *, scaled: bool) -> None:
        """Remember what a forward pass in training changes, and let no gradient that is not finite into the weights.

        Args:
            backbone: the checkout's.
            optimizer: its optimiser of backbone and criterion.
            scaled: the checkout's float16 scaler looks at the gradients, so only losses are looked at here. Else every
                rank must call `optimizer.step` alike; one all-reduce of one number per step.
        """

        def before_forward(called: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if called is backbone and called.training:
                self.rollback = self.rollback or Rollback((backbone,), self)
                self.rollback.remember(len(inputs[0]) * distributed.world_size())

        def before_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            norm = get_total_norm([p.grad for p in parameters])
            if distributed.everywhere(bool(norm.isfinite()) and not self._bad_loss, self.weight.device):
                self.bad_in_a_row = 0
                return
            optimizer.zero_grad(set_to_none=True)  # a parameter without gradient is left as it is
            if not self._bad_loss:
                self._skip("gradient")

        backbone.register_forward_pre_hook(before_forward)
        self._judged_later = not scaled
        if scaled and distributed.world_size() > 1:
            agree_on_overflows()
        if not scaled:
            optimizer.register_step_pre_hook(before_step)

    def _skip(self, what: str) -> None:
        self.bad_in_a_row += 1
        if self.rollback is not None:
            self.rollback.restore()
        skip_bad_step(what, self.bad_in_a_row, self.max_bad_steps, lambda: advice(self.checkpoint))


def agree_on_overflows() -> None:
    """Let a float16 scaler skip a step on all ranks where one of them has a gradient that is not finite.

    A checkout's scaler looks at this rank's gradients only: the class centres of one rank could stay where those of the
    others move, and the ranks' scales would drift apart. One all-reduce of one number per step; once per process.
    """
    unscale = torch.amp.GradScaler.unscale_
    if getattr(unscale, "agreed", False):
        return

    @wraps(unscale)
    def unscale_and_agree(self: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> None:
        unscale(self, optimizer)
        if self.is_enabled():
            for found in self._found_inf_per_device(optimizer).values():
                found.copy_(distributed.maximum(found))

    unscale_and_agree.agreed = True  # type: ignore[attr-defined]
    torch.amp.GradScaler.unscale_ = unscale_and_agree  # type: ignore[method-assign]


class MomentumPartialFC(CheckoutPartialFC):
    """CheckoutPartialFC whose state dict also holds the key encoder, under torch's key for extra state."""

    def get_extra_state(self) -> dict[str, Any]:
        """The key encoder's state."""
        assert self.key_source is not None
        return self.key_source.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over the key encoder's state."""
        assert self.key_source is not None
        self.key_source.load_state_dict(state)
