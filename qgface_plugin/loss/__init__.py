"""The loss: what the paper says, from the quality of an embedding to eq. 5."""

from __future__ import annotations

from .feature_queue import FeatureQueue, QueueKind, past_entries, queue_kind
from .heads import MarginHead, margin_head
from .margin import QGFaceMargin
from .partial_fc import QGPartialFC
from .quality import QualitySource, quality_source

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
