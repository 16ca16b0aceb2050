"""Metrics of verification and identification, from features or scores, in plain NumPy."""
