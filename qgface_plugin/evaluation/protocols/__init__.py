"""One file a protocol: from a backbone and a data set to the numbers that papers report."""

from __future__ import annotations

from .pair_sets import DecodedPairs, VerificationResult, verify

__all__ = ["DecodedPairs", "VerificationResult", "verify"]
