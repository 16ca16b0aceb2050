"""What `tools/benchmark.py` measures, a file a benchmark: `add_arguments(parser)` and `run(arguments) -> dict`."""
