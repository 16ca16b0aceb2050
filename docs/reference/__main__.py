"""The generated pages of docs/, written anew from the code.

python -m docs.reference          # in the project's folder; `make docs` does it first
python -m docs.reference --check  # writes nothing; exit status 1 and the names of those that are out of date
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import api, commands, configuration

DOCS = Path(__file__).resolve().parents[1]
PAGES = {"configuration.md": configuration.page, "commands.md": commands.page, "api.md": api.page}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m docs.reference", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, and say which pages are out of date")
    check = parser.parse_args(arguments).check
    stale = []
    for name, make in PAGES.items():
        path, text = DOCS / name, make()
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                path.write_text(text, encoding="utf-8")
    if check and stale:
        print(f"out of date: {', '.join(stale)}; run `python -m docs.reference`", file=sys.stderr)
        return 1
    print(f"{'up to date' if not stale else 'written'}: {', '.join(stale or PAGES)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
