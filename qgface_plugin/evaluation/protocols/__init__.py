"""Protocols, from an encoder and a data set to the numbers that papers report: pair sets, SCface, TinyFace, IJB."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...utils.lazy import lazy_names

if TYPE_CHECKING:
    from .pair_sets import DecodedPairs, VerificationResult, verify
else:
    __getattr__, __dir__ = lazy_names(__name__, {".pair_sets": ["DecodedPairs", "VerificationResult", "verify"]})

__all__ = ["DecodedPairs", "VerificationResult", "verify"]
