"""Data: an encoded image becomes a batch of two views."""
