"""Table of many runs, in the shape of the paper's Table I, from what the evaluation tools saved in their folders.

qgface report work_dirs/adaface_r34 work_dirs/qgface_r34
qgface report AdaFace=work_dirs/a1 AdaFace=work_dirs/a2 QGFace=work_dirs/q1 QGFace=work_dirs/q2
qgface report work_dirs/* --format latex --output table.tex
qgface report work_dirs/qgface_r34 --html qgface_r34.html

A run is a folder with results/<protocol>.json. Runs of one name, or without a name whose recipes differ in the seed
only, are one row: mean and sample standard deviation. A dash: nothing is saved. Bold: the best of a column. Below
stand thresholds and what each quality is worth, where they are saved.

--html writes one page of one model instead, with its tables, curves and histograms, and nothing outside the file.
"""

from __future__ import annotations

import argparse
import sys

from ..evaluation.report.formats import FORMATS, KINDS
from ..evaluation.report.table import report
from ..utils.command_line import command_parser, print_any_name
from ..utils.errors import ConfigError, DataError
from ..utils.files import write_text
from ..utils.outputs import check_output


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Exit status 0: written; 2: a run or its results do not fit."""
    given = _parser(front).parse_args(arguments)
    print_any_name()
    try:
        if given.pairs and not given.html:
            raise ConfigError("--pairs is a picture for the page: add --html FILE")
        if given.html:
            return _page(given)
        table = report(given.runs)
        text = FORMATS[given.format](table)
        check_output(given.output, KINDS[given.format])
        if given.output is None:
            print(text, end="")
        else:
            write_text(given.output, text)
            print(f"saved: {given.output}")
    except (ConfigError, DataError) as error:
        print(f"{given.program}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"{given.program}: {given.html or given.output}: it cannot be written ({error.strerror})", file=sys.stderr
        )
        return 2
    if given.format == "csv":
        for note in table.notes:
            print(f"note: {note}", file=sys.stderr)
    return 0


def _page(given: argparse.Namespace) -> int:
    from ..evaluation.report.html_page import HTML, model_page

    if len(given.runs) > 1:
        raise ConfigError(f"--html writes the page of one model, and {len(given.runs)} runs are named")
    check_output(given.html, HTML, [given.pairs])
    write_text(given.html, model_page(given.runs[0], given.pairs))
    print(f"saved: {given.html}")
    return 0


def _parser(front: str | None) -> argparse.ArgumentParser:
    parser = command_parser("report", __doc__, front)
    parser.add_argument("runs", metavar="[NAME=]RUN", nargs="+", help="folder of a run, and its row's name")
    parser.add_argument("--format", choices=FORMATS, default="markdown", help="(default: markdown)")
    parser.add_argument("--output", metavar="FILE", help="write there instead of printing")
    parser.add_argument("--html", metavar="FILE", help="write a page of the run instead of the table")
    parser.add_argument("--pairs", metavar="PICTURE", help="pairs of views for the page, as `figures pairs` draws them")
    return parser
