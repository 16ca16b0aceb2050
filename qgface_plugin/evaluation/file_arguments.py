"""The arguments by which evaluations of image folders say how files are read and where results go."""

from __future__ import annotations

import argparse
from typing import Any

from .image_files import ON_CORRUPT


def add_file_arguments(parser: argparse.ArgumentParser, protocol: str) -> None:
    """--no-flip, --workers, --on-corrupt, --sample, --json and --quiet."""
    parser.add_argument("--no-flip", action="store_true", help="features of the images alone, without mirror images")
    parser.add_argument("--workers", metavar="N", type=int, default=4, help="threads that decode (default: 4)")
    parser.add_argument(
        "--on-corrupt", choices=ON_CORRUPT, default="error", help="an image that cannot be decoded (default: error)"
    )
    parser.add_argument(
        "--sample",
        metavar="N",
        type=int,
        default=128,
        help="pairs on which the order of channels is checked; 0: no check (default: 128)",
    )
    parser.add_argument(
        "--json", metavar="FILE", help=f"where results are saved (default: results/{protocol}.json by MODEL)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def file_options(given: argparse.Namespace, progress: str) -> dict[str, Any]:
    """The keyword arguments of `embed_files` that the arguments say; `progress` labels its bar."""
    return {
        "flip": not given.no_flip,
        "batch_size": given.batch_size,
        "workers": given.workers,
        "on_corrupt": given.on_corrupt,
        "progress": None if given.quiet else progress,
    }
