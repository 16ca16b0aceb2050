"""Checkpoints: which files, which set, cut anew for other numbers of ranks."""
