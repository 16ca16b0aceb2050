"""Experiments of the paper: its tables as runs of recipes, and its figures from saved runs."""
