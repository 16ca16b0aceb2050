"""Benchmarks of `qgface benchmark`, one file each: `add_arguments(parser)` and `run(arguments) -> dict`."""
