"""One check of the acceptance in this process: `python -m ... NAME REPORT CHECKOUT`, CHECKOUT empty for none."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch

from ...utils.files import write_json
from . import checks
from .check import Place
from .running import look


def main(name: str, report: str, checkout: str) -> None:
    """Write what was found to `report`."""
    (one,) = (one for one in checks() if one.name == name)
    with tempfile.TemporaryDirectory(prefix="acceptance_check_") as folder:
        place = Place(torch.device("cuda", 0), Path(folder), checkout=Path(checkout) if checkout else None)
        write_json(Path(report), look(one, place))


if __name__ == "__main__":
    main(*sys.argv[1:])
