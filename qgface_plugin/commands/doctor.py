"""Doctor: what is there, what is missing and what will be repaired, here, in a checkout and in a data set.

qgface doctor
qgface doctor insightface/recognition/arcface_torch --data /data/vggface2
"""

from __future__ import annotations

from ..utils.command_line import command_parser, guarded


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Exit status 0: it can train; 1: something is missing; 2: a folder does not fit."""
    parser = command_parser("doctor", __doc__, front)
    parser.add_argument(
        "folder", metavar="DIR", nargs="?", help="an arcface_torch folder; else ARCFACE_TORCH, else this one if it is"
    )
    parser.add_argument("--data", metavar="DIR", help="look at a data set too")
    parser.add_argument("--json", action="store_true", help="for programs")
    given = parser.parse_args(arguments)

    def run() -> int:
        from ..arcface_torch.doctor import examine

        report = examine(given.folder, given.data)
        print(report.as_json() if given.json else report.as_text())
        return 0 if report.can_train else 1

    return guarded(given.program, run)
