"""Figures of the paper, and others that tell how a run went, each drawn from saved runs by one function."""
