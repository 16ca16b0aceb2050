"""Where the models are that the insightface package has installed."""

from __future__ import annotations

from pathlib import Path


def models_folder() -> Path:
    """insightface's own: ~/.insightface/models, a folder a pack."""
    return Path.home() / ".insightface" / "models"
