"""Numbers of a GPU that are read some steps later: a copy that nobody waits for, once a step lies in between."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class LateRead:
    """The latest tensor that was put in, for the host, without making a GPU idle.

    On CUDA the numbers travel to page-locked memory behind the work that makes them; `take` waits for that work only,
    which a step later is done. On a CPU they are there.

    Example:
        >>> late = LateRead()
        >>> late.take() is None
        True
        >>> late.put(torch.tensor([True, False]))
        >>> late.take(), late.take()
        ([True, False], None)
    """

    def __init__(self) -> None:
        self._numbers: Tensor | None = None
        self._done: torch.cuda.Event | None = None

    def put(self, numbers: Tensor) -> None:
        """Take `numbers`, of any shape; what was put in before and not taken is forgotten."""
        self._numbers, self._done = numbers.detach(), None
        if numbers.is_cuda:
            self._numbers = torch.empty(numbers.shape, dtype=numbers.dtype).pin_memory()
            self._numbers.copy_(numbers.detach(), non_blocking=True)
            self._done = torch.cuda.current_stream(numbers.device).record_event()

    def take(self) -> Any:
        """The numbers that were put in last, as `Tensor.tolist` gives them, once; None where there are none."""
        numbers, self._numbers = self._numbers, None
        if self._done is not None:
            self._done.synchronize()
        return None if numbers is None else numbers.tolist()
