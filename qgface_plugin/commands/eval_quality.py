"""What a quality is worth: error-versus-discard curves of the norm, of sharpness, of flip consistency, of any file.

qgface eval-quality --model work_dirs/qgface_r34/model.pt --data /data/xqlfw
qgface eval-quality --model model.onnx --data /data/faces/lfw.bin --quality norm ofiq.csv crfiqa.txt
qgface eval-quality --model model.onnx --data /data/ijb --subset IJBC
qgface eval-quality --model model.onnx --data /data/scface --fmr 1e-2 1e-3
qgface eval-quality --data /data/faces/lfw.bin --write-images lfw_images
qgface eval-quality --model model.onnx --calibrate /data/archive_aligned -o calibration.json

Pairs of the lowest quality are discarded, the worst first, and the FNMR of the others is shown at a threshold that was
fixed before. The quality of a pair is the lower one of its two images; that of an IJB template the mean of its images.
--write-images writes a .bin set as files for tools that score files. --calibrate keeps the percentiles of the norms of
a reference set, so that 30.7 becomes "better than 62 % of the reference" (export --calibration).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation.arguments import add_model_arguments, model_from_arguments, model_settings, note_digest
from ..evaluation.embed_files import embed_files
from ..evaluation.protocols.ijb.metadata import SUBSETS, find_folder, read_images
from ..evaluation.protocols.ijb.templates import DEFAULT_MODE, Mode
from ..evaluation.protocols.pair_sets import find_pair_sets
from ..evaluation.protocols.quality import (
    FMRS,
    SHARES,
    XQLFW_PAIRS,
    QualityResult,
    ScoredPairs,
    evaluate_quality,
    pairs_of_bin,
    pairs_of_ijb,
    pairs_of_scface,
    pairs_of_xqlfw,
    write_images,
)
from ..evaluation.protocols.scface_files import read_scface
from ..evaluation.quality_scores import check_sources
from ..evaluation.report.canvas import new_figure, save
from ..evaluation.report.plots import draw_discard
from ..evaluation.report.results import RESULT, default_path, write_result
from ..models.face_model import FaceModel
from ..models.quality_calibration import CALIBRATION, QualityCalibration
from ..utils.command_line import add_on_corrupt, command_parser, guarded, text_table
from ..utils.errors import ConfigError, DataError
from ..utils.outputs import PDF, PNG, check_output

LAYOUTS = ("auto", "bin", "xqlfw", "scface", "ijb")
SOURCES = ["norm", "flip", "sharpness"]


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Exit status 0: evaluated; 1: a file cannot be written; 2: the model, the data or an argument does not fit."""
    given = _parser(front).parse_args(arguments)
    return guarded(given.program, lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    if given.write_images:
        return _write_images(given)
    if not given.model:
        raise ConfigError("--model names the encoder that compares the images, and whose norms are scored")
    if given.calibrate:
        return _calibrate(given)
    if not given.data:
        raise ConfigError("--data names a .bin set or a folder of them, XQLFW's, SCface's or IJB's")
    check_sources(given.quality)
    json_path = Path(given.json or default_path(given.model, "quality"))
    check_output(json_path, RESULT, [given.model, given.data, *given.quality])
    layout = _layout(given)
    names = _names(given, layout)
    for name in names:
        for suffix, kind in ((".png", PNG), (".pdf", PDF)):
            check_output(_figure(json_path, name).with_suffix(suffix), kind)
    note_digest(given)
    warnings: list[str] = []
    results: dict[str, QualityResult] = {}
    settings: dict[str, Any] = {"sha256": given.sha256, "network": given.network, "color": given.color}
    for pairs, further, model in _pairs(given, layout, json_path.parent):
        warnings += further
        results[pairs.name] = evaluate_quality(pairs, given.fmr, given.limit)
        settings |= {} if model is None else model_settings(given, model)
    flips = {result.pairs.flip_fusion for result in results.values()}
    print(f"{given.model}: FNMR in %, {'with' if flips == {True} else 'without'} flip fusion")
    print(quality_table(results))
    warnings = [*dict.fromkeys(warnings), *_remarks(results)]
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    settings |= {"layout": layout, "limit": given.limit, "mode": given.mode if layout == "ijb" else None}
    saved = write_result(
        "quality",
        data=given.data,
        model=given.model,
        settings=settings,
        results={"sets": {name: result.as_dict() for name, result in results.items()}},
        warnings=warnings,
        path=json_path,
    )
    print(f"saved: {saved}")
    for name, result in results.items():
        figure = new_figure(4.6 * len(given.fmr) + 0.4, 4.2)
        draw_discard(figure, result.as_dict()["sources"], name)
        where = _figure(json_path, name)
        print(f"figure: {', '.join(map(str, save(figure, where.parent, where.name)))}")
    return 0


def quality_table(results: dict[str, QualityResult]) -> str:
    """One line per set, FMR and quality: FNMR as it is and when shares are discarded, area, and what it is worth."""
    head = ["set", "FMR", "threshold", "impostors", "quality", "FNMR", *(f"-{100 * share:g} %" for share in SHARES)]
    rows = []
    for name, result in results.items():
        for source, curves in result.curves.items():
            for curve in curves:
                start = [name, f"{curve.at.far:g}"]
                if curve.at.threshold is None:
                    rows.append([*start, "none", "", source, curve.at.reason, *[""] * (len(SHARES) + 3)])
                    continue
                behind = f"{curve.at.false_accepts:,} of {curve.at.impostors:,}"
                errors = [f"{100 * error:.2f}" for error in map(curve.fnmr_at, (0, *SHARES)) if error is not None]
                numbers = (curve.area, curve.normalised, curve.gain)
                areas = ["-" if value is None else f"{value:.4f}" for value in numbers]
                rows.append([*start, f"{curve.at.threshold:.4f}", behind, source, *errors, *areas])
    limit = next(iter(next(iter(results.values())).curves.values()))[0].limit
    rows.sort(key=lambda row: (list(results).index(row[0]), -float(row[1])))
    return text_table([*head, f"area to {100 * limit:g} %", "normalised", "gain"], rows)


def _remarks(results: dict[str, QualityResult]) -> list[str]:
    """What a reader of the numbers has to know, one sentence each."""
    found = []
    for name, result in results.items():
        for source, count in result.failed.items():
            if count:
                found.append(f"{name}: {source} has no score of {count:,} items; they are discarded first")
            if len(np.unique(result.pairs.qualities[source])) == 1:
                found.append(f"{name}: {source} is the same for everything: nothing can be discarded by it")
    return found


def _layout(given: argparse.Namespace) -> str:
    if given.layout != "auto":
        return str(given.layout)
    data = Path(given.data)
    if (data / XQLFW_PAIRS).is_file():
        return "xqlfw"
    if given.subset:
        return "ijb"
    if (data / "aligned").is_dir():
        return "scface"
    if data.is_file() or any(data.glob("*.bin")):
        return "bin"
    raise DataError(
        f"{data}: neither .bin sets, nor {XQLFW_PAIRS}, nor SCface's aligned/; of IJB give --subset, else --layout"
    )


def _names(given: argparse.Namespace, layout: str) -> list[str]:
    """Names of the sets, as far as they are known before anything is embedded."""
    if layout == "bin":
        return [path.stem for path in find_pair_sets(given.data, given.sets)]
    return [{"ijb": (given.subset or "").lower(), "xqlfw": Path(given.data).resolve().name}.get(layout, layout)]


def _pairs(
    given: argparse.Namespace, layout: str, folder: Path
) -> Iterator[tuple[ScoredPairs, list[str], FaceModel | None]]:
    """(pairs, warnings, model or None where features were kept) of each set."""
    if layout == "ijb":
        yield _of_ijb(given, folder)
        return
    paths = find_pair_sets(given.data, given.sets) if layout == "bin" else []
    images = read_scface(given.data) if layout == "scface" else None
    model = model_from_arguments(given)
    flip, show = not given.no_flip, not given.quiet
    logged = list(getattr(model, "warnings", ()))
    for path in paths:
        yield pairs_of_bin(model, path, given.quality, flip, given.batch_size, show), logged, model
    if layout == "xqlfw":
        pairs, warnings = pairs_of_xqlfw(
            model, Path(given.data).resolve(), given.quality, flip, given.batch_size, given.workers, given.on_corrupt,
            show,
        )  # fmt: skip
        yield pairs, warnings + logged, model
    if images is not None:
        pairs = pairs_of_scface(model, images, given.quality, flip, given.batch_size, given.workers, show)
        yield pairs, [*images.inventory.warnings, *logged], model


def _of_ijb(given: argparse.Namespace, folder: Path) -> tuple[ScoredPairs, list[str], None]:
    from .eval_ijb import features_of

    if not given.subset:
        raise ConfigError(f"--subset says which set of IJB it is: {' or '.join(SUBSETS)}")
    mode = Mode.named(given.mode)
    if given.no_flip and mode.flip:
        mode = Mode(mode.normalise, mode.detector, False)
    images = read_images(find_folder(given.data, given.subset), given.subset)
    given.embeddings, given.sample = None, 0
    embeddings, bad, warnings, logged = features_of(given, images, folder)
    usable = ~np.isin(np.arange(len(images)), list(bad)) if bad else None
    if bad:
        warnings.append(f"{len(bad)} of {len(images)} images are left out: {'; '.join(list(bad.values())[:20])}")
    pairs = pairs_of_ijb(images, embeddings, given.quality, mode, usable, given.workers, not given.quiet)
    return pairs, warnings + logged, None


def _figure(json_path: Path, name: str) -> Path:
    """Where the figure of a set goes, without a suffix."""
    return json_path.with_name(f"{json_path.stem}_{name}")


def _write_images(given: argparse.Namespace) -> int:
    if not given.data:
        raise ConfigError("--data names the .bin sets whose images are written")
    folder = Path(given.write_images)
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty: name a new folder")
    for path in find_pair_sets(given.data, given.sets):
        print(f"written: {write_images(path, folder):,} images of {path.name} to {folder}")
    return 0


def _calibrate(given: argparse.Namespace) -> int:
    from ..data.bin_files import read_bin
    from ..data.image_files import list_photos

    if not given.output:
        raise ConfigError("-o FILE names the calibration to write, such as calibration.json")
    check_output(given.output, CALIBRATION, [given.model, given.calibrate])
    reference = Path(given.calibrate)
    progress = None if given.quiet else "reference"
    model = model_from_arguments(given)
    if reference.is_file():
        norms = model.embed(read_bin(reference).decode(progress=progress), given.batch_size, progress).norms
    elif reference.is_dir():
        paths = [reference / name for name in list_photos(reference)]
        if not paths:
            raise DataError(f"{reference}: no image is in it")
        found = embed_files(model, paths, False, given.batch_size, given.workers, given.on_corrupt, progress)
        norms = np.linalg.norm(found.features[found.readable], axis=1)
        if found.problems:
            print(f"warning: {len(found.problems)} images are left out: {found.problems[0]}, ...", file=sys.stderr)
    else:
        raise DataError(f"{reference}: no such folder of aligned faces, nor a .bin set")
    calibration = QualityCalibration.of_norms(norms, given.reference or reference.resolve().name, given.sha256 or "")
    calibration.save(given.output)
    shown = [f"{calibration.norms[percent]:.2f}" for percent in (5, 25, 50, 75, 95)]
    print(f"norms of {calibration.images:,} images, 5, 25, 50, 75, 95 %: {', '.join(shown)}")
    print(f"saved: {given.output}; qgface export --calibration {given.output} lets the ONNX file carry it")
    return 0


def _parser(front: str | None) -> argparse.ArgumentParser:
    parser = command_parser("eval-quality", __doc__, front)
    add_model_arguments(parser)
    for action in parser._actions:
        if action.dest == "model":
            action.required = False  # --write-images does without
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data", metavar="DIR", help="a .bin set or a folder of them, or XQLFW's, SCface's, IJB's folder"
    )
    data.add_argument("--layout", choices=LAYOUTS, default="auto", help="of DIR (default: by what is in it)")
    data.add_argument("--sets", metavar="NAME", nargs="+", default=[], help=".bin sets in DIR (default: all)")
    data.add_argument("--subset", choices=SUBSETS, help="which set of IJB DIR holds")
    data.add_argument("--mode", metavar="NxDxFx", default=DEFAULT_MODE.name, help="of IJB's templates [%(default)s]")
    data.add_argument("--features", metavar="DIR", type=Path, help="where IJB's features are kept [by the results]")
    data.add_argument("--workers", metavar="N", type=int, default=4, help="threads that decode (default: 4)")
    add_on_corrupt(data)
    measure = parser.add_argument_group("what is measured")
    measure.add_argument(
        "--quality",
        metavar="NAME",
        nargs="+",
        default=SOURCES,
        help="norm, flip, sharpness, or FILE[:COLUMN] with a score of each image: OFIQ's CSV, XQLFW's "
        "xqlfw_scores.txt, any CSV, or lines of a name and a number (default: norm flip sharpness)",
    )
    measure.add_argument(
        "--fmr", metavar="FMR", type=float, nargs="+", default=list(FMRS), help="thresholds (default: 0.001 0.0001)"
    )
    measure.add_argument(
        "--limit", metavar="SHARE", type=float, default=0.3, help="of what is discarded, for areas (default: 0.3)"
    )
    measure.add_argument("--no-flip", action="store_true", help="cosines of the images alone, without mirror images")
    other = parser.add_argument_group("other work")
    other.add_argument("--write-images", metavar="DIR", help="write the images of .bin sets as files, and nothing else")
    other.add_argument(
        "--calibrate", metavar="REFERENCE", help="a folder of aligned faces, or a .bin: keep percentiles of its norms"
    )
    other.add_argument("-o", "--output", metavar="FILE", help="the calibration")
    other.add_argument("--reference", metavar="NAME", help="what the reference is called (default: its folder's name)")
    parser.add_argument(
        "--json", metavar="FILE", help="results; figures beside it (default: results/quality.json by MODEL)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser


if __name__ == "__main__":
    sys.exit(main())
