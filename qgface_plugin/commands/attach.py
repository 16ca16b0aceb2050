"""Attach the plugin to an arcface_torch checkout: one marked line lets its train_v2.py load it.

qgface attach insightface/recognition/arcface_torch
"""

from __future__ import annotations

from ..utils.command_line import command_parser, guarded


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Exit status 0: attached; 1: the file cannot be written; 2: the folder does not fit."""
    parser = command_parser("attach", __doc__, front)
    parser.add_argument("folder", metavar="DIR", help="an arcface_torch folder")
    given = parser.parse_args(arguments)

    def run() -> int:
        from ..arcface_torch.attach import attach

        print(attach(given.folder))
        return 0

    return guarded(given.program, run)
