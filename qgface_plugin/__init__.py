"""QGFace for InsightFace's arcface_torch: one encoder for sharp and blurred faces. Importing it changes nothing."""

from __future__ import annotations

from pathlib import Path

from .config import QGFaceConfig, load_config
from .data.degradation.custom_steps import degradation_step
from .loss.feature_queue import queue_kind
from .loss.heads import margin_head
from .loss.margin import QGFaceMargin
from .loss.partial_fc import QGPartialFC
from .loss.quality import quality_source

__version__ = "0.1.0"
__all__ = [
    "QGFaceConfig",
    "QGFaceMargin",
    "QGPartialFC",
    "__version__",
    "degradation_step",
    "load_config",
    "margin_head",
    "quality_source",
    "queue_kind",
]

# Import paths of earlier versions go on working, see that folder.
__path__.append(str(Path(__file__).with_name("utils") / "former_paths"))
