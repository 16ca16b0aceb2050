"""Streams for torch 2.4, which looks at the class behind `torch.cuda.Stream`.

Remove this file once torch >= 2.5 is required.
"""

from __future__ import annotations

import sys
from abc import ABCMeta


def register_stream(kind: type) -> None:
    """Let a class pass for a stream: torch._dynamo looks at `torch.cuda.Stream` when it is first imported.

    Args:
        kind: has the methods of a stream that are called. From torch 2.5 on nothing is checked, nor done here.
    """
    base = getattr(sys.modules.get("torch._streambase"), "_StreamBase", None)
    if isinstance(base, ABCMeta):
        base.register(kind)
