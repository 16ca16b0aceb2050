"""Page of one model: everything that its saved results say, as one HTML file without anything outside it.

Figures are SVG in data URIs, so the page can be mailed, printed and read on a phone; it needs no script.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ...utils.errors import DataError
from ...utils.files import read_regular, shown
from ...utils.outputs import text_with
from .details import QUALITY_HEAD, THRESHOLD_HEAD, ThresholdRow, quality_rows, threshold_rows
from .html_figures import cmc_figure, discard_figure, histogram_figure, image_uri, roc_figure
from .results import Result, read_results
from .table import report

NUMBER = re.compile(r"-|[-+]?[\d.,]+(?:e[-+]\d+)?|[\d,]+ of [\d,]+|[\d.]+ to [\d.]+")  # cells to the right
MARK = "<!DOCTYPE html>\n<!-- written by qgface report -->\n"
HTML = text_with([MARK], (".html", ".htm"), "page of a model")
PICTURES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg"}
LARGEST = 20_000_000  # bytes of the picture of pairs
TITLES = {
    "pairs": "Pair sets (1:1)", "scface": "SCface", "tinyface": "TinyFace", "ijbb": "IJB-B", "ijbc": "IJB-C",
    "quality": "Quality: error versus discard",
}  # fmt: skip
STYLE = """
:root { color-scheme: light; --ink: #1d232a; --soft: #5a6672; --line: #d9dee4; --band: #f4f6f8; --mark: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; color: var(--ink); background: #fff;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; padding-bottom: .2rem; border-bottom: 2px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p, li { max-width: 46rem; }
.soft, figcaption { color: var(--soft); font-size: .9rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; -webkit-overflow-scrolling: touch; margin: .5rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { background: var(--band); font-weight: 600; }
th.w, td.w { text-align: left; }
tbody tr:hover { background: var(--band); }
.figures { display: flex; flex-wrap: wrap; gap: .8rem; }
figure { margin: 0; flex: 0 1 27.5rem; min-width: 0; }
figure.wide { flex-basis: 100%; }
figure img { width: 100%; height: auto; display: block; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .5rem 0; font-size: .95rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
.cards { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1rem 0; padding: 0; list-style: none; }
.cards li { flex: 1 1 7rem; background: var(--band); border-left: 3px solid var(--mark); padding: .4rem .7rem; }
.cards b { display: block; font-size: 1.2rem; white-space: nowrap; }
.warnings li { margin: .2rem 0; overflow-wrap: anywhere; }
@media (max-width: 30rem) { body { padding: .7rem; font-size: 15px; } .cards b { font-size: 1.05rem; }
  .cards li { padding: .3rem .5rem; } ul { padding-left: 1.2rem; } dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .4rem; } }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } .scroll { overflow: visible; }
  table { font-size: 8pt; } th, td { padding: .15rem .35rem; white-space: normal; }
  figure, tr, h2, h3 { break-inside: avoid; } h2, h3 { break-after: avoid; } figure { flex-basis: 48%; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""


def model_page(run: str | Path, pairs: str | Path | None = None) -> str:
    """The page of one run.

    Args:
        run: folder of the run, or NAME=FOLDER, as `report` takes it.
        pairs: a PNG or JPEG of pairs of views, such as `qgface figures pairs` draws; None: none is shown.

    Raises:
        DataError: as `report`, a result that is damaged, or a picture that is none.
        ConfigError: matplotlib is not installed.
    """
    table = report([run])
    (row,) = table.rows
    found = read_results(row.runs[0])
    results = {key: found[key] for key in sorted(found, key=_place)}
    first = next(iter(results.values()))
    parts = [
        f"<h1>{_text(row.name)}</h1>",
        _facts(first, results),
        _cards({column: cell.mean for column, cell in zip(table.columns, row.cells, strict=True) if cell is not None}),
        _thresholds(threshold_rows(row.name, row.runs[0], results)),
    ]
    for protocol, result in results.items():
        try:
            parts += [f"<h2>{_text(_title(protocol))}</h2>", *_section(protocol, result, row.name, row.runs[0])]
        except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise DataError(
                f"{row.runs[0]}: the saved result of {protocol} is damaged ({type(error).__name__}: {error}); run that "
                "evaluation again"
            ) from error
    if pairs is not None:
        parts += [
            "<h2>Pairs of views</h2>",
            _figure(_picture(pairs), "Original views above their degraded views, with their quality", wide=True),
        ]
    if table.notes:
        parts += ["<h2>What to know</h2>", f'<ul class="warnings">{"".join(map(_item, table.notes))}</ul>']
    body = "\n".join(part for part in parts if part)
    return (
        f'{MARK}<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(row.name)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _section(protocol: str, result: Result, name: str, folder: Path) -> Iterator[str]:
    """The parts of a protocol's section."""
    yield f'<p class="soft">{_text(result.data)}{_with_gallery(result)}</p>'
    results = result.results
    if protocol == "pairs":
        yield from _pairs(results)
    elif protocol.startswith("scface"):
        yield from _scface(results)
    elif protocol.startswith("tinyface"):
        yield from _tinyface(results)
    elif protocol.startswith("ijb"):
        yield from _ijb(results)
    elif protocol == "quality":
        rows = quality_rows(name, folder, {protocol: result})
        yield "<p>The pairs of lowest quality are discarded; FNMR is that of the others, at a threshold fixed before. "
        yield "Normalised area: 1 is discarding at random. Gain: 1 is a perfect quality, 0 is chance.</p>"
        yield _table(QUALITY_HEAD, [row.cells() for row in rows])
        for set_name, found in results["sets"].items():
            sources = {Path(source).name: entry for source, entry in found["sources"].items()}
            curves = next(iter(sources.values()))["curves"]
            yield f"<h3>{_text(set_name)}</h3>"
            yield _figures([
                (discard_figure(sources, at), f"{set_name}: FNMR against the discarded share, FMR {curve['fmr']:g}")
                for at, curve in enumerate(curves) if curve["fnmr"] is not None
            ])  # fmt: skip
    else:
        yield "<p>This page has no section for that protocol; its JSON has the numbers.</p>"


def _pairs(results: Mapping[str, Any]) -> Iterator[str]:
    head = ["Set", "Pairs", "Accuracy %", "±", "No flip %", "AUC", "Norm", "Norm order"]
    rows = []
    for name, found in results["sets"].items():
        order = found.get("norm_order")
        rows.append([
            name, f"{found['pairs']:,}", _percent(found["accuracy"], 3), _percent(found["std"], 3),
            _percent(found["single_accuracy"], 3), f"{found['auc']:.5f}", f"{found['norms']['mean']:.2f}",
            "-" if order is None else f"{order['share']:.3f}, {order['verdict']}",
        ])  # fmt: skip
    yield _table(head, rows)
    curves = {name: found["curves"] for name, found in results["sets"].items() if "curves" in found}
    if not curves:
        yield "<p>The results are of an earlier version, which kept no curves: evaluate again for figures.</p>"
        return
    figures = [(roc_figure({name: curve["roc"] for name, curve in curves.items()}), "ROC, with flip fusion")]
    for name, curve in curves.items():
        points = results["sets"][name]["thresholds"]["points"]
        lines = {f"FAR {p['far']:g}": p["threshold"] for p in points if p["threshold"] is not None}
        bars = curve["histogram"]
        figures.append((histogram_figure(bars["edges"], bars["genuine"], bars["impostor"], lines), f"{name}: cosines"))
    yield _figures(figures)


def _scface(results: Mapping[str, Any]) -> Iterator[str]:
    distances = list(results["rank1"])
    rows = [["all cameras", *(_percent(results["rank1"][d]) for d in distances)]]
    for camera, rates in results["rank1_camera"].items():
        rows.append([camera, *(_percent(rates[d]) for d in distances)])
    rows.append(["probes", *(f"{results['mated_probes'][d]:,}" for d in distances)])
    yield _table(["Rank-1 %", *distances], rows)
    figures = []
    for distance in distances:
        part = results["similarity"][distance]
        uri = histogram_figure(results["histogram_edges"], part["same"]["histogram"], part["other"]["histogram"])
        figures.append((uri, f"{distance}: cosines of probes and frontal photographs"))
    yield _figures(figures)


def _tinyface(results: Mapping[str, Any]) -> Iterator[str]:
    ranks = list(results["rank"])
    rows = [
        [label, *(_percent(part["rank"][k]) for k in ranks), _percent(part["map"])]
        for label, part in (("with distractors", results), ("without", results["without_distractors"]))
    ]
    yield _table(["Found %", *(f"rank-{k}" for k in ranks), "mAP"], rows)
    yield _figures([(cmc_figure({"with distractors": results["cmc"]}), "Cumulative match characteristic")])


def _ijb(results: Mapping[str, Any]) -> Iterator[str]:
    modes = results["one_to_one"]
    fars = [point["far"] for point in modes[0]["tar_at_far"]]
    rows = [
        [mode["mode"], *(_percent(point["nearest"]) for point in mode["tar_at_far"]), _percent(mode["auc"], 3)]
        for mode in modes
    ]
    yield _table(["1:1, TAR % at FAR", *(f"{far:.0e}" for far in fars), "AUC"], rows)
    if results.get("one_to_n"):
        rows = []
        for mode in results["one_to_n"]:
            for gallery in mode["galleries"]:
                tpir = [_percent(point["tpir"]) for point in gallery["tpir"]]
                rows.append([f"{mode['mode']} {gallery['name']}", *map(_percent, gallery["top"].values()), *tpir])
        first = results["one_to_n"][0]["galleries"][0]
        tops = [f"top-{k}" for k in first["top"]]
        yield _table(["1:N, %", *tops, *(f"TPIR@{100 * point['fpir']:g}%" for point in first["tpir"])], rows)
    curves = {mode["mode"]: mode["curves"] for mode in modes if "curves" in mode}
    if curves:
        figures = [(roc_figure({name: curve["roc"] for name, curve in curves.items()}), "ROC of templates")]
        name, curve = next(iter(curves.items()))
        bars = curve["histogram"]
        figures.append((histogram_figure(bars["edges"], bars["genuine"], bars["impostor"]), f"{name}: cosines"))
        yield _figures(figures)


def _facts(first: Result, results: Mapping[str, Result]) -> str:
    settings = first.settings
    facts = {
        "Model": first.model,
        "SHA-256": settings.get("sha256"),
        "Network": settings.get("network") or settings.get("name"),
        "Feature": f"{settings['dim']} numbers" if settings.get("dim") else None,
        "Channels": str(settings["color"]).upper() if settings.get("color") else None,
        "Evaluated on": ", ".join(_title(protocol) for protocol in results),
    }
    rows = "".join(f"<dt>{_text(key)}</dt><dd>{_text(value)}</dd>" for key, value in facts.items() if value)
    return f"<dl>{rows}</dl>"


def _title(protocol: str) -> str:
    base = protocol.removesuffix("_gallery")
    return TITLES.get(base, base) + (", gallery of another model" if base != protocol else "")


def _with_gallery(result: Result) -> str:
    gallery = result.settings.get("gallery_model")
    return f", gallery by {_text(gallery.get('model'))}" if isinstance(gallery, dict) else ""


def _cards(numbers: Mapping[str, float]) -> str:
    items = "".join(f"<li><b>{100 * value:.2f} %</b>{_text(label)}</li>" for label, value in numbers.items())
    return f'<ul class="cards">{items}</ul>' if items else ""


def _thresholds(rows: Sequence[ThresholdRow]) -> str:
    """The thresholds that there are, and in words why there are no others."""
    if not rows:
        return ""
    there = [row.cells() for row in rows if row.threshold is not None]
    absent: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.threshold is None:
            absent.setdefault((row.of, row.reason), []).append(f"{row.rate} {row.at:g}")
    lines = [f"{of}, {', '.join(dict.fromkeys(at))}: {reason}" for (of, reason), at in absent.items()]
    return (
        "<h2>Thresholds</h2>\n<p>A pair is accepted when the cosine of its features is at least the threshold. It "
        "holds for this model, for features made in the same way (flip fusion or not), and for pairs like these.</p>\n"
        + (_table(THRESHOLD_HEAD, there) if there else "")
        + (f'<p class="soft">No threshold:</p><ul class="soft">{"".join(map(_item, lines))}</ul>' if lines else "")
    )


def _place(protocol: str) -> tuple[int, str]:
    """Place of a protocol's section: in the order of TITLES, with another gallery after its own, others last."""
    base = protocol.removesuffix("_gallery")
    return (list(TITLES).index(base) if base in TITLES else len(TITLES)), protocol


def _table(head: list[str], rows: list[list[str]]) -> str:
    words = [any(not NUMBER.fullmatch(row[at]) for row in rows) for at in range(len(head))]
    kinds = [' class="w"' if is_word else "" for is_word in words]
    titles = "".join(f"<th{kind}>{_text(cell)}</th>" for kind, cell in zip(kinds, head, strict=True))
    lines = "".join(
        f"<tr>{''.join(f'<td{kind}>{_text(cell)}</td>' for kind, cell in zip(kinds, row, strict=True))}</tr>\n"
        for row in rows
    )
    return f'<div class="scroll"><table>\n<thead><tr>{titles}</tr></thead>\n<tbody>\n{lines}</tbody>\n</table></div>'


def _figures(figures: list[tuple[str, str]]) -> str:
    return f'<div class="figures">{"".join(_figure(uri, caption) for uri, caption in figures)}</div>'


def _figure(uri: str, caption: str, wide: bool = False) -> str:
    text, kind = _text(caption), ' class="wide"' if wide else ""
    image = f'<img src="{uri}" alt="{text}">'
    return f"<figure{kind}>{image}<figcaption>{text}</figcaption></figure>\n"


def _picture(path: str | Path) -> str:
    try:
        data = read_regular(path, LARGEST)
    except OSError as error:
        raise DataError(f"{path}: the picture cannot be read ({error.strerror or error})") from error
    kind = next((kind for signature, kind in PICTURES.items() if data.startswith(signature)), None)
    if kind is None:
        raise DataError(f"{path}: neither PNG nor JPEG")
    return image_uri(data, kind)


def _item(note: str) -> str:
    return f"<li>{_text(note)}</li>"


def _percent(rate: float | None, digits: int = 2) -> str:
    return "-" if rate is None else f"{100 * rate:.{digits}f}"


def _text(value: object) -> str:
    return escape(shown(str(value)))
