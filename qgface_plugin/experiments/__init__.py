"""The paper's experiments: its tables as runs of recipes, and its figures from saved runs."""
