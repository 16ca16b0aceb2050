"""QGFace for InsightFace's arcface_torch: one encoder for sharp and blurred faces. Importing it changes only itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .utils import former_paths
from .utils.lazy import lazy_names

if TYPE_CHECKING:
    from .config import QGFaceConfig, load_config
    from .data.degradation.custom_steps import degradation_step
    from .data.pair_batch import PairBatch
    from .data.pair_loader import pair_loader
    from .loss.feature_queue import FeatureQueue, QueueKind, past_entries, queue_kind
    from .loss.heads import MarginHead, margin_head
    from .loss.margin import QGFaceMargin
    from .loss.partial_fc import QGPartialFC
    from .loss.quality import QualitySource, quality_source
    from .models.backbones.own import network
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            ".config": ["QGFaceConfig", "load_config"],
            ".data.degradation.custom_steps": ["degradation_step"],
            ".data.pair_batch": ["PairBatch"],
            ".data.pair_loader": ["pair_loader"],
            ".loss.feature_queue": ["FeatureQueue", "QueueKind", "past_entries", "queue_kind"],
            ".loss.heads": ["MarginHead", "margin_head"],
            ".loss.margin": ["QGFaceMargin"],
            ".loss.partial_fc": ["QGPartialFC"],
            ".loss.quality": ["QualitySource", "quality_source"],
            ".models.backbones.own": ["network"],
        },
    )

__version__ = "0.1.0"
__all__ = [
    "FeatureQueue",
    "MarginHead",
    "PairBatch",
    "QGFaceConfig",
    "QGFaceMargin",
    "QGPartialFC",
    "QualitySource",
    "QueueKind",
    "__version__",
    "degradation_step",
    "load_config",
    "margin_head",
    "network",
    "pair_loader",
    "past_entries",
    "quality_source",
    "queue_kind",
]

former_paths.install()
