"""Procedural faces: drawn persons for the quickstart."""
