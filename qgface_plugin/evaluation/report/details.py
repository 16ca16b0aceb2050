"""Details below the table of runs: the thresholds to decide with, and what each quality is worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...utils.errors import DataError
from .results import Result

SHARE = 0.3  # discarded, at which the table shows the FNMR


@dataclass(frozen=True)
class ThresholdRow:
    """A threshold that a run's result has.

    Attributes:
        run: the row of the table.
        of: set, and mode or gallery.
        rate: "FAR" or "FPIR".
        at: the rate that was asked for.
        threshold: cosine from which on a pair is accepted; None where the data does not tell, which `reason` explains.
        wrong, wrong_of: impostor pairs accepted (false alarms), of how many.
        right: TAR or TPIR.
        low, high: its 95 % interval; None where there is none.
        flip_fusion: whether mirror images went into the features; None where the result does not say.
        reason: why there is no threshold.
    """

    run: str
    of: str
    rate: str
    at: float
    threshold: float | None
    wrong: int
    wrong_of: int
    right: float | None
    low: float | None
    high: float | None
    flip_fusion: bool | None
    reason: str

    def cells(self) -> list[str]:
        """Set, rate, threshold, wrong ones, right ones in percent, interval, flip fusion: for a table for people."""
        start = [self.of, f"{self.rate} {self.at:g}"]
        flip = {True: "yes", False: "no", None: "-"}[self.flip_fusion]
        if self.threshold is None or self.right is None:
            return [*start, "none", self.reason, "-", "-", flip]
        interval = "-" if self.low is None or self.high is None else f"{100 * self.low:.2f} to {100 * self.high:.2f}"
        behind = f"{self.wrong:,} of {self.wrong_of:,}"
        return [*start, f"{self.threshold:.4f}", behind, f"{100 * self.right:.2f}", interval, flip]


THRESHOLD_HEAD = ["Set", "At", "Threshold", "Impostors accepted", "TAR / TPIR %", "95 %", "Flip fusion"]


@dataclass(frozen=True)
class QualityRow:
    """What a quality is worth, as a run's result has it.

    Attributes:
        run: the row of the table.
        of: the set.
        quality: its name.
        fmr: at which the threshold was fixed.
        fnmr: before anything is discarded; None where there is no threshold, which `reason` explains.
        fnmr_left: when 30 % are discarded.
        normalised, gain: as `metrics.discard.DiscardCurve` has them.
        reason: why there is no curve.
    """

    run: str
    of: str
    quality: str
    fmr: float
    fnmr: float | None
    fnmr_left: float | None
    normalised: float | None
    gain: float | None
    reason: str

    def cells(self) -> list[str]:
        """Set, quality, FMR, both FNMRs in percent, normalised area, gain: for a table for people."""
        start = [self.of, self.quality, f"{self.fmr:g}"]
        if self.fnmr is None:
            return [*start, self.reason, "-", "-", "-"]
        percent = ["-" if value is None else f"{100 * value:.2f}" for value in (self.fnmr, self.fnmr_left)]
        return [*start, *percent, *("-" if value is None else f"{value:.3f}" for value in (self.normalised, self.gain))]


QUALITY_HEAD = ["Set", "Quality", "FMR", "FNMR %", f"-{100 * SHARE:g} %", "Normalised area", "Gain"]


def threshold_rows(run: str, folder: Path, results: Mapping[str, Result]) -> list[ThresholdRow]:
    """All thresholds of a run's results, those of 1:1 first.

    Raises:
        DataError: a result that has no numbers where they should be; names run and protocol.
    """
    return [row for protocol, result in results.items() for row in _read(_thresholds, run, folder, protocol, result)]


def quality_rows(run: str, folder: Path, results: Mapping[str, Result]) -> list[QualityRow]:
    """What each quality is worth on each set, of a run's results.

    Raises:
        DataError: as `threshold_rows`.
    """
    return [row for protocol, result in results.items() for row in _read(_qualities, run, folder, protocol, result)]


def _read(rows: Any, run: str, folder: Path, protocol: str, result: Result) -> list[Any]:
    try:
        return list(rows(run, protocol, result.results))
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{folder}: the saved result of {protocol} is damaged ({type(error).__name__}: {error}); run that "
            "evaluation again"
        ) from error


def _thresholds(run: str, protocol: str, results: Mapping[str, Any]) -> Iterator[ThresholdRow]:
    for name, found in results["sets"].items() if protocol == "pairs" else ():
        for key in ("thresholds", "single_thresholds"):
            yield from _of_pairs(run, name, found.get(key))
    if not protocol.startswith("ijb"):
        return
    for mode in results["one_to_one"]:
        yield from _of_pairs(run, f"{protocol} {mode['mode']}", mode.get("thresholds"))
    for mode in results.get("one_to_n", ()):
        for gallery in mode["galleries"]:
            for point in gallery["tpir"]:
                if "unmated" in point:  # else of an earlier version
                    yield ThresholdRow(
                        run, f"{protocol} {mode['mode']} {gallery['name']}", "FPIR", float(point["fpir"]),
                        _number(point["threshold"]), int(point["false_alarms"]), int(point["unmated"]),
                        _number(point["tpir"]), None, None, "F1" in mode["mode"], str(point["reason"]),
                    )  # fmt: skip


def _of_pairs(run: str, of: str, thresholds: Mapping[str, Any] | None) -> Iterator[ThresholdRow]:
    for point in thresholds["points"] if thresholds is not None else ():
        yield ThresholdRow(
            run, of, "FAR", float(point["far"]), _number(point["threshold"]), int(point["false_accepts"]),
            int(point["impostors"]), _number(point["tar"]), _number(point["low"]), _number(point["high"]),
            bool(thresholds["flip_fusion"]) if thresholds is not None else None, str(point["reason"]),
        )  # fmt: skip


def _qualities(run: str, protocol: str, results: Mapping[str, Any]) -> Iterator[QualityRow]:
    for name, found in results["sets"].items() if protocol == "quality" else ():
        for source, entry in found["sources"].items():
            for curve in entry["curves"]:
                left = _at_share(curve["discarded"], curve["errors"])
                yield QualityRow(
                    run, name, Path(source).name, float(curve["fmr"]), _number(curve["fnmr"]), left,
                    _number(curve["normalised"]), _number(curve["gain"]), str(curve["reason"]),
                )  # fmt: skip


def _at_share(discarded: Sequence[float], errors: Sequence[float]) -> float | None:
    return next((float(e) for d, e in zip(discarded, errors, strict=True) if d >= SHARE - 1e-9), None)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
