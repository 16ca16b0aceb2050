"""Checkpoints of the built-in loop: files, whole sets, and sets of another number of ranks."""
