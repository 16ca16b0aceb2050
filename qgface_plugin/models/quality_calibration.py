"""Quality calibration: what the norm of a feature means, by the norms of a reference set of images.

A norm of 30.7 says nothing to whoever has not seen the norms of this model. With the percentiles of a reference set (a
firm's own good photographs, a year's probes of a camera) it becomes "better than 62 % of the reference". The numbers
hold for one model, so the calibration names it by its digest; an ONNX file that it is exported into carries it along.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..utils.errors import DataError
from ..utils.files import write_json
from ..utils.outputs import json_with
from ..utils.text import parse_json, read_text

METADATA_KEY = "quality_calibration"
FORMAT = 1
KEYS = ("format", "quality", "norms", "images", "reference", "model_sha256")
CALIBRATION = json_with(KEYS, "quality calibration")
POINTS = 101  # the 0th to the 100th percentile


@dataclass(frozen=True)
class QualityCalibration:
    """Percentiles of the norms of a reference set.

    Attributes:
        norms: (101,) ascending: the 0th, 1st, ..., 100th percentile of the reference's norms.
        images: number of images of the reference.
        reference: its name, for people.
        model_sha256: digest of the model that gave the norms (`models.digest.model_digest`).

    Example:
        >>> calibration = QualityCalibration.of_norms(np.arange(1001) / 10, "the archive", "")
        >>> calibration.percentile(np.array([62.0, 500.0])).tolist()
        [62.0, 100.0]
        >>> calibration.words(62.0)
        'better than 62 % of the archive'
    """

    norms: tuple[float, ...]
    images: int
    reference: str
    model_sha256: str

    @classmethod
    def of_norms(cls, norms: np.ndarray, reference: str, model_sha256: str) -> QualityCalibration:
        """The calibration by the norms (N,) of a reference set.

        Raises:
            DataError: fewer than two norms, or norms that are not finite.
        """
        norms = np.asarray(norms, dtype=np.float64)
        if norms.ndim != 1 or len(norms) < 2 or not np.isfinite(norms).all():
            raise DataError(f"the reference's norms are {norms.shape}: a calibration needs two at least, all finite")
        points = np.percentile(norms, np.linspace(0, 100, POINTS))
        return cls(tuple(points.tolist()), len(norms), reference, model_sha256)

    def percentile(self, norms: np.ndarray) -> np.ndarray:
        """Percent of the reference with a lower norm, (N,) float64 in [0, 100], linear between percentiles.

        A norm that many images of the reference have counts as better than half of them.
        """
        norms = np.asarray(norms, dtype=np.float64)
        points = np.asarray(self.norms)
        values, first, counts = np.unique(points, return_index=True, return_counts=True)
        middles = first + (counts - 1) / 2  # of percentiles with one norm
        found = np.interp(norms, values, middles)
        found = np.where(norms < values[0], 0.0, np.where(norms > values[-1], 100.0, found))
        return np.where(np.isnan(norms), np.nan, found)

    def words(self, norm: float) -> str:
        """The percentile in words, such as "better than 62 % of the archive"."""
        return f"better than {float(self.percentile(np.array([norm]))[0]):.0f} % of {self.reference}"

    def check_model(self, sha256: str, model: str) -> None:
        """See that the calibration is of this model.

        Args:
            sha256: digest of the model's files.
            model: its name, for the message.

        Raises:
            DataError: it is of another one.
        """
        if self.model_sha256 and sha256 != self.model_sha256:
            raise DataError(
                f"the quality calibration by {self.reference} is of another model than {model} "
                f"(SHA-256 {self.model_sha256[:12]}..., not {sha256[:12]}...): calibrate this one, "
                "qgface eval-quality --calibrate"
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, ready for JSON."""
        return {
            "format": FORMAT,
            "quality": "norm",
            "norms": list(self.norms),
            "images": self.images,
            "reference": self.reference,
            "model_sha256": self.model_sha256,
        }

    def as_metadata(self) -> dict[str, str]:
        """What an ONNX file keeps of it, beside its other metadata."""
        return {METADATA_KEY: json.dumps(self.as_dict(), separators=(",", ":"))}

    def save(self, path: str | Path) -> None:
        """Write it as JSON, whole or not at all."""
        write_json(path, self.as_dict())

    @classmethod
    def load(cls, path: str | Path) -> QualityCalibration:
        """Read what `save` has written.

        Raises:
            DataError: unreadable, or no calibration; names the file.
        """
        return cls._read(parse_json(read_text(path, "quality calibration"), path), str(path))

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str = "the metadata") -> QualityCalibration | None:
        """The calibration that an ONNX file carries; None where it carries none.

        Raises:
            DataError: what is there is no calibration.
        """
        text = metadata.get(METADATA_KEY)
        return None if text is None else cls._read(parse_json(text, where), where)

    @classmethod
    def _read(cls, content: object, where: str) -> QualityCalibration:
        if not isinstance(content, dict) or any(key not in content for key in KEYS):
            raise DataError(f"{where}: no quality calibration: it has {', '.join(KEYS)}")
        if content["format"] != FORMAT or content["quality"] != "norm":
            raise DataError(f"{where}: a quality calibration of a later version; install that version")
        norms, images, texts = content["norms"], content["images"], (content["reference"], content["model_sha256"])
        fits = (
            isinstance(norms, list)
            and len(norms) == POINTS
            and all(isinstance(norm, int | float) and not isinstance(norm, bool) for norm in norms)
            and bool(np.isfinite(norms).all())
            and bool((np.diff(norms) >= 0).all())
            and isinstance(images, int)
            and images > 1
            and all(isinstance(text, str) for text in texts)
        )
        if not fits:
            raise DataError(f"{where}: no quality calibration: `norms` are {POINTS} numbers in ascending order")
        return cls(tuple(map(float, norms)), images, *texts)
