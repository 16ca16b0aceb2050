"""Tables of IJB results: for people, in percent, and as CSV, in fractions."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from ....utils.files import atomic_write
from ....utils.outputs import text_with
from ...metrics.identification import TpirAtFpir
from .evaluation import IjbResult
from .identification import FPIRS, RANKS, IjbIdentification
from .templates import Mode
from .verification import FARS, IjbVerification

LEGEND = (
    "N1: image features normalised, N0: their norm used; D1: detector score used; F1: mirror image added "
    "(as ijb_evals.py names them; what eval_ijbc.py calls TestMode(N1) is N0 here)"
)

COLUMNS = ("protocol", "mode", "gallery", "metric", "at", "insightface", "strict")
CSV = text_with([",".join(COLUMNS)], (".csv",), "CSV")


def verification_table(subset: str, results: Sequence[IjbVerification]) -> str:
    """The results of 1:1 in percent, two lines per mode: TAR at the nearest point of the curve, and strictly."""
    lines = [
        f"{subset} 1:1, {results[0].pairs} pairs, {results[0].genuine} genuine; TAR in %",
        f"{'mode':<8}{'at the FAR':<12}" + "".join(f"{far:>9.0e}" for far in FARS) + f"{'AUC':>10}",
    ]
    for result in results:
        nearest = "".join(f"{100 * point.nearest:9.3f}" for point in result.tar_at_far)
        strict = "".join(f"{100 * point.strict:9.3f}" for point in result.tar_at_far)
        lines.append(f"{result.mode.name:<8}{'nearest':<12}{nearest}{100 * result.auc:10.4f}")
        lines.append(f"{'':<8}{'or below':<12}{strict}")
    impostors = results[0].pairs - results[0].genuine
    if impostors * FARS[0] < 1:
        lines.append(f"{impostors} impostor pairs show no FAR between 0 and {1 / impostors:.1e}")
    return "\n".join(lines)


def threshold_table(subset: str, results: Sequence[IjbVerification]) -> str:
    """The thresholds of 1:1 as cosines of templates: a line per mode and FAR, with what is behind it."""
    lines = [
        f"{subset} 1:1, thresholds: a pair of templates is accepted when its cosine is at least that; TAR in %",
        f"{'mode':<8}{'FAR':>8}{'threshold':>11}{'impostors accepted':>26}{'TAR':>9}{'95 %':>18}",
    ]
    for result in results:
        for point in result.thresholds.points:
            if point.threshold is None or point.tar is None or point.low is None or point.high is None:
                lines.append(f"{result.mode.name:<8}{point.far:>8.0e}{'none':>11}  {point.reason}")
                continue
            behind = f"{point.false_accepts:,} of {point.impostors:,}"
            ends = f"{100 * point.low:.2f} to {100 * point.high:.2f}"
            numbers = f"{point.threshold:>11.4f}{behind:>26}{100 * point.tar:>9.2f}{ends:>18}"
            lines.append(f"{result.mode.name:<8}{point.far:>8.0e}{numbers}")
    intervals = dict.fromkeys(result.thresholds.interval for result in results)
    flips = dict.fromkeys(
        f"{result.mode.name}: {'with' if result.thresholds.flip_fusion else 'without'} flip fusion"
        for result in results
    )
    return "\n".join([*lines, *intervals, *flips])


def identification_table(subset: str, results: Sequence[IjbIdentification]) -> str:
    """The results of 1:N in percent, for each mode one line per gallery and one for their mean."""
    columns = [f"top-{k}" for k in RANKS] + [f"TPIR@{100 * fpir:g}%" for fpir in FPIRS]
    lines = [
        f"{subset} 1:N, {results[0].probes} probes; in %; TPIR at the largest FPIR that is not above, and in brackets",
        "as insightface reads it",
        f"{'mode':<8}{'gallery':<12}" + "".join(f"{column:>{9 if 'top' in column else 18}}" for column in columns),
    ]
    thresholds = [
        "thresholds: a gallery entry is an alarm when its cosine is at least the threshold",
        f"{'mode':<8}{'gallery':<12}{'FPIR':>6}{'threshold':>11}{'false alarms':>20}{'found':>20}",
    ]
    for result in results:
        for gallery in result.galleries:
            for point in gallery.tpir:
                thresholds.append(_threshold_line(result.mode, gallery.name, point))
            tpir = [(point.tpir, point.insightface) for point in gallery.tpir]
            name = f"{gallery.name} ({gallery.size})"
            lines.append(_gallery_line(result.mode, name, [gallery.top[k] for k in RANKS], tpir))
        mean = [(point["tpir"], point["insightface"]) for point in result.tpir]
        lines.append(_gallery_line(result.mode, "mean", [result.top[k] for k in RANKS], mean))
    return "\n".join([*lines, *thresholds])


def write_csv(result: IjbResult, path: Path) -> None:
    """Write one number per row: protocol, mode, gallery, metric, at, insightface, strict; fractions."""
    with atomic_write(path, "w") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([result.subset, *row] for row in _rows(result))


def _gallery_line(mode: Mode, name: str, top: Sequence[float], tpir: Sequence[tuple[float, float]]) -> str:
    ranks = "".join(f"{100 * rate:9.3f}" for rate in top)
    rates = "".join(f"{f'{100 * strict:.3f} ({100 * theirs:.3f})':>18}" for strict, theirs in tpir)
    return f"{mode.name:<8}{name:<12}{ranks}{rates}"


def _threshold_line(mode: Mode, gallery: str, point: TpirAtFpir) -> str:
    start = f"{mode.name:<8}{gallery:<12}{f'{100 * point.fpir:g}%':>6}"
    if point.threshold is None:
        return f"{start}{'none':>11}  {point.reason}"
    alarms, found = f"{point.false_alarms:,} of {point.unmated:,}", f"{point.found:,} of {point.mated:,}"
    return f"{start}{point.threshold:>11.4f}{alarms:>20}{found:>20}"


def _rows(result: IjbResult) -> Iterator[list[object]]:
    for verification in result.verification:
        mode = verification.mode.name
        yield [mode, "", "AUC", "", verification.auc, verification.auc]
        for point in verification.tar_at_far:
            yield [mode, "", "TAR@FAR", point.far, point.nearest, point.strict]
    for identification in result.identification:
        mode = identification.mode.name
        for gallery in identification.galleries:
            for k, rate in gallery.top.items():
                yield [mode, gallery.name, "top", k, rate, rate]
            for at in gallery.tpir:
                yield [mode, gallery.name, "TPIR@FPIR", at.fpir, at.insightface, at.tpir]
        for k, rate in identification.top.items():
            yield [mode, "mean", "top", k, rate, rate]
        for mean in identification.tpir:
            yield [mode, "mean", "TPIR@FPIR", mean["fpir"], mean["insightface"], mean["tpir"]]
