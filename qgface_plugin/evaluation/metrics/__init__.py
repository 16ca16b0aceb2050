"""Metrics: verification and identification figures from scores, in plain NumPy."""
