"""Digest of a model: by what is in its files, so that a result or a cache of another model is not taken for its own."""

from __future__ import annotations

from pathlib import Path

from ..utils.errors import DataError
from ..utils.files import file_digest, models_folder
from ..utils.listing import files_in, unpacked


def model_files(model: str | Path) -> list[Path]:
    """The files that `--model` names: one, or those of a folder or of a pack in ~/.insightface/models."""
    path = Path(model)
    if not path.exists():
        path = models_folder() / model
    if not path.is_dir():
        return [path]
    return [path / "model.pt"] if (path / "model.pt").is_file() else files_in(unpacked(path, ".onnx"), ".onnx")


def model_digest(model: str | Path) -> str:
    """SHA-256 of the file, or of each of the folder's model files, that `--model` names.

    Raises:
        DataError: a file cannot be read.
    """
    try:
        return " ".join(file_digest(file) for file in model_files(model))
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}; what is saved of a model goes by its content") from error
