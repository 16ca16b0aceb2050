"""Teacher: a frozen encoder that embeds the originals of each batch beside the one that is trained."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Teacher:
    """A frozen encoder in evaluation mode. No module: no state dict, checkpoint or optimiser ever sees it.

    On CUDA it runs on a stream of its own, so that its batch and the student's share the device.

    Args:
        encoder: images (N, 3, 112, 112) -> raw embeddings (N, d), on `device`; nothing else may train it.
        source: the file of its weights.
        digest: SHA-256 of that file.
        device: that it runs on.

    Example:
        >>> teacher = Teacher(nn.Linear(2, 1, bias=False), "old.pt", "", torch.device("cpu"))
        >>> embeddings = teacher.begin(torch.ones(3, 2))  # the student's forward pass may come in between
        >>> embeddings().shape, embeddings().requires_grad
        (torch.Size([3, 1]), False)
    """

    def __init__(self, encoder: nn.Module, source: str, digest: str, device: torch.device) -> None:
        self.encoder = encoder.eval().requires_grad_(False)
        self.source, self.digest = source, digest
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    @torch.no_grad()
    def begin(self, images: Tensor) -> Callable[[], Tensor]:
        """Start embedding images (N, 3, 112, 112), under the autocast of now.

        Returns:
            What gives the embeddings (N, d) to the stream of whoever asks for them; without gradient.
        """
        if self._stream is None:
            embeddings = self.encoder(images)
            return lambda: embeddings
        stream = self._stream
        stream.wait_stream(torch.cuda.current_stream(images.device))  # the images are made there
        with torch.cuda.stream(stream):
            embeddings = self.encoder(images)
            images.record_stream(stream)
            done = stream.record_event()

        def arrived() -> Tensor:
            current = torch.cuda.current_stream(embeddings.device)
            current.wait_event(done)
            embeddings.record_stream(current)
            return embeddings

        return arrived
