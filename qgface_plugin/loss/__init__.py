"""The loss: what the paper says, from the quality of an embedding to eq. 5."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..utils.lazy import lazy_names

if TYPE_CHECKING:
    from .feature_queue import FeatureQueue, QueueKind, past_entries, queue_kind
    from .heads import MarginHead, margin_head
    from .margin import QGFaceMargin
    from .partial_fc import QGPartialFC
    from .quality import QualitySource, quality_source
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            ".feature_queue": ["FeatureQueue", "QueueKind", "past_entries", "queue_kind"],
            ".heads": ["MarginHead", "margin_head"],
            ".margin": ["QGFaceMargin"],
            ".partial_fc": ["QGPartialFC"],
            ".quality": ["QualitySource", "quality_source"],
        },
    )

__all__ = [
    "FeatureQueue",
    "MarginHead",
    "QGFaceMargin",
    "QGPartialFC",
    "QualitySource",
    "QueueKind",
    "margin_head",
    "past_entries",
    "quality_source",
    "queue_kind",
]
