"""Protocols, from an encoder and a data set to the numbers that papers report: pair sets, SCface, TinyFace, IJB."""

from __future__ import annotations

from .pair_sets import DecodedPairs, VerificationResult, verify

__all__ = ["DecodedPairs", "VerificationResult", "verify"]
