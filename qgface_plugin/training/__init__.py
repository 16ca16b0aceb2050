"""Training: the built-in loop."""
