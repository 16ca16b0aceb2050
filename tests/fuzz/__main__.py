"""Damaged and hostile files against every reader: `python tests/fuzz --cases 100000 --seed 1`.

Each case is one file set made from (seed, target, number). It must be read or refused with one of the project's own
errors, in bounded time and memory, and never give a wrong label. Exit code 0: no finding; 1: findings, each with its
files and the command that runs it again; 2: wrong arguments.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:1] = [str(TESTS), str(TESTS / "support"), str(TESTS.parent)]

from fuzz.engine import TARGETS, run_target  # noqa: E402
from tqdm import tqdm  # noqa: E402

# of the cases of a run over all targets
SHARES = {
    "recordio": 0.24, "bin": 0.11, "image": 0.11, "checkpoint": 0.08, "weights": 0.04, "lst": 0.04, "property": 0.02,
    "landmarks": 0.05, "pairs": 0.04, "ijb": 0.05, "scface": 0.04, "mat": 0.06, "features": 0.04, "results": 0.03,
    "metrics": 0.03, "onnx": 0.02,
}  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="tests/fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", choices=["all", *TARGETS], default="all", help="what is read (default: all)")
    parser.add_argument("--cases", type=int, default=100_000, help="how many, over all targets (default: 100000)")
    parser.add_argument("--seed", type=int, default=1, help="of all cases (default: 1)")
    parser.add_argument("--case", type=int, help="only this case of the target, with its traceback")
    parser.add_argument(
        "--keep", type=Path, default=Path("fuzz-findings"), help="folder for failing cases (default: fuzz-findings)"
    )
    parser.add_argument("--json", type=Path, help="write the summary to this file")
    options = parser.parse_args(arguments)
    if options.cases < 1 or options.seed < 0 or (options.case is not None and options.target == "all"):
        parser.error("--cases is at least 1, --seed at least 0, and --case needs one --target")

    print(f"seed {options.seed}")
    results = {}
    for target in TARGETS if options.target == "all" else [options.target]:
        count = max(1, round(options.cases * SHARES[target])) if options.target == "all" else options.cases
        cases = range(count) if options.case is None else range(options.case, options.case + 1)
        with tqdm(total=len(cases), desc=target, unit="case", disable=None) as bar:

            def show(done: int, found: int, bar: tqdm = bar) -> None:
                bar.update(done - bar.n)
                bar.set_postfix(findings=found, refresh=False)

            results[target] = run_target(target, options.seed, cases, options.keep, show)
    report(results)
    if options.json is not None:
        options.json.write_text(json.dumps({"seed": options.seed, "targets": results}, indent=1) + "\n")
    findings = [finding for result in results.values() for finding in result["findings"]]
    for finding in findings[:20]:
        print(
            f"{finding['kind']}: {finding['text'][:300]}\n  {finding['command']}\n  {finding['files']}", file=sys.stderr
        )
        if options.case is not None:
            print((Path(finding["files"]) / "traceback.txt").read_text(), file=sys.stderr)
    return 1 if findings else 0


COLUMNS = {
    "cases": "cases", "refused": "refused", "read": "accepted", "items": "served",
    "slowest s": "cpu_seconds_of_slowest", "seconds": "seconds",
}  # fmt: skip


def report(results: dict) -> None:
    """A row a target; "peak MB" is what one case touched at most."""
    print("".join(f"{name:>11}" for name in ("target", *COLUMNS, "peak MB", "findings")))
    for target, result in results.items():
        numbers = [result[key] for key in COLUMNS.values()]
        numbers += [round(result["peak_bytes"] / 1e6, 1), len(result["findings"])]
        print(f"{target:>11}" + "".join(f"{number:>11}" for number in numbers))


if __name__ == "__main__":
    sys.exit(main())
