"""QGPartialFC in a host's own training loop, which calls it with embeddings and labels only."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..errors import TrainingError
from ..momentum_encoder import MomentumEncoder
from ..partial_fc import QGPartialFC


class KeySource:
    """Keys of the momentum queue, made when the host's loop calls its backbone in training.

    The key encoder starts as a copy of the backbone at the first such call, and follows it at the start of every
    later one: by then the loop has made the update of the step before. The backbone's state dict stays as it is.
    every: calls between two updates of the weights (gradient_acc).
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

    def state(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"calls": self._calls, "encoder": None if self.encoder is None else self.encoder.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from `state`; before the first call of the backbone."""
        self._calls, self._saved = state["calls"], state["encoder"]


class GuestPartialFC(QGPartialFC):
    """QGPartialFC that stops the run when losses are not finite: the host's loop would train on them.

    max_bad_steps: losses in a row that are not finite before TrainingError; the loop's float16 scaler can get over
    some, without it the first one has spoilt every weight.
    """

    key_source: KeySource | None = None
    max_bad_steps = 1
    advice = ""

    def forward(self, local_embeddings: Tensor, local_labels: Tensor) -> Tensor:
        """The scalar loss of the global batch, as QGPartialFC has it."""
        keys = self.key_source.take() if self.key_source is not None and self.training else None
        loss = super().forward(local_embeddings, local_labels, keys)
        self._bad_in_a_row = 0 if bool(loss.isfinite()) else getattr(self, "_bad_in_a_row", 0) + 1
        if self._bad_in_a_row >= self.max_bad_steps:
            raise TrainingError(f"{self._bad_in_a_row} loss(es) in a row are not finite. {self.advice}")
        return loss


class MomentumPartialFC(GuestPartialFC):
    """GuestPartialFC whose state dict also holds the key encoder, under torch's key for extra state."""

    def get_extra_state(self) -> dict[str, Any]:
        """The key encoder's state."""
        assert self.key_source is not None
        return self.key_source.state()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over the key encoder's state."""
        assert self.key_source is not None
        self.key_source.load(state)
