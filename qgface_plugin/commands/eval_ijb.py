"""Evaluation on IJB-B and IJB-C: 1:1 and 1:N of a face model, as insightface's ijb_evals.py measures them.

qgface eval-ijb --model work_dirs/x/model.pt --subset IJBB --data /data/ijb --one-to-n
torchrun --nproc_per_node=4 -m qgface_plugin eval-ijb --model x.onnx --subset IJBC --data /data/ijb --all-modes
qgface eval-ijb --model x.onnx --subset IJBB --data /data/ijb --tool insightface --ijb-tools ~/insightface

Features are kept beside the results, so that another run on the same model and images starts with them, and an
interrupted one goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from ..evaluation.arguments import (
    add_gallery_arguments,
    add_model_arguments,
    gallery_arguments,
    gallery_settings,
    model_from_arguments,
    note_digest,
    with_gallery,
)
from ..evaluation.embed_files import check_comparable
from ..evaluation.protocols.ijb import features, tables
from ..evaluation.protocols.ijb.evaluation import IjbResult, evaluate, modes_of, read_embeddings
from ..evaluation.protocols.ijb.images import check_color_of_templates
from ..evaluation.protocols.ijb.insightface_tool import AGREE, ToolResult, find_tool, run_tool
from ..evaluation.protocols.ijb.metadata import SUBSETS, IjbImages, find_folder, read_images
from ..evaluation.protocols.ijb.templates import ALL_MODES, DEFAULT_MODE
from ..evaluation.report.plots import plot_roc
from ..evaluation.report.results import RESULT, absolute, default_path, write_result
from ..models.embeddings import Embeddings
from ..utils.command_line import add_on_corrupt, command_parser, guarded
from ..utils.errors import ConfigError
from ..utils.outputs import PNG, check_output


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Exit status 0: evaluated; 1: failed on the way, or InsightFace's numbers differ; 2: the input does not fit."""
    given = _parser(front).parse_args(arguments)
    import torch

    from ..utils import distributed

    with distributed.process_group(torch.device("cpu")):  # ranks share files and wait for each other, nothing more
        return guarded(given.program, lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    from ..utils import distributed

    modes = modes_of(given.mode, given.all_modes, ALL_MODES)
    if given.tool and not given.ijb_tools:
        raise ConfigError("--tool insightface needs --ijb-tools DIR, the folder of ijb_evals.py or a checkout of it")
    if given.tool and given.mode:
        raise ConfigError(f"--tool insightface measures {DEFAULT_MODE.name}, or --all-modes: leave --mode out")
    enrolled = gallery_arguments(given)
    if given.tool and enrolled:
        raise ConfigError("--tool insightface has one model for everything: leave --gallery-model out")
    if given.tool:
        find_tool(given.ijb_tools)
    protocol = with_gallery(given.subset.lower(), enrolled)
    json_path = given.json or default_path(given.model, protocol)
    inputs = [given.model, given.embeddings, given.tool_model, given.gallery_model]
    check_output(json_path, RESULT, inputs)
    check_output(json_path.with_suffix(".csv"), tables.CSV, inputs)
    check_output(_picture(json_path), PNG, inputs)
    images = read_images(find_folder(given.data, given.subset), given.subset)
    given.sha256 = None
    if not given.embeddings:
        note_digest(given)
    if enrolled and not given.embeddings:  # what cannot be compared is said before hours of embedding
        check_comparable(model_from_arguments(given), model_from_arguments(enrolled))
    embeddings, bad, warnings, logged = features_of(given, images, json_path.parent)
    gallery = None
    if enrolled:
        note_digest(enrolled)
        enrolled.embeddings = None
        gallery, bad_there, further, logged_there = features_of(enrolled, images, json_path.parent)
        bad, warnings, logged = bad | bad_there, warnings + further, logged + logged_there
    if distributed.rank() != 0:
        return 0
    if bad and given.tool:
        raise ConfigError(f"--tool insightface leaves no image out, and {len(bad)} of {len(images)} cannot be used")
    usable = ~np.isin(np.arange(len(images)), list(bad)) if bad else None
    result = evaluate(images, embeddings, modes, given.one_to_n, usable, progress=not given.quiet, gallery=gallery)
    if enrolled:
        print(f"{given.subset}: probes by {given.model}, gallery by {given.gallery_model}")
    print(tables.verification_table(given.subset, result.verification))
    print(f"\n{tables.threshold_table(given.subset, result.verification)}")
    if result.identification:
        print(f"\n{tables.identification_table(given.subset, result.identification)}")
    print(f"\n{tables.LEGEND}")
    warnings += [_left_out(bad, len(images))] if bad else []
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    warnings += logged
    _save(given, enrolled, result, warnings, json_path, {})
    tables.write_csv(result, json_path.with_suffix(".csv"))
    curves = {f"{one.mode.name}, AUC {100 * one.auc:.3f} %": one.corners for one in result.verification}
    picture = _picture(json_path)
    plot_roc(curves, picture, f"{given.subset} 1:1, {given.model}")
    print(f"saved: {json_path}, {json_path.with_suffix('.csv').name}, {picture.name}")
    if not given.tool:
        return 0
    theirs = run_tool(
        given.ijb_tools,
        images.folder,
        given.subset,
        given.tool_model or embeddings,
        given.all_modes,
        given.one_to_n,
        progress=not given.quiet,
    )
    differences = theirs.differences(result)
    _save(given, enrolled, result, warnings, json_path, {"insightface": theirs.numbers, "differences": differences})
    return _compare(theirs, differences, own_features=given.tool_model is not None)


def _compare(theirs: ToolResult, differences: dict[str, float], own_features: bool) -> int:
    """Print the tool's tables and how far ours are from them. 1 when they should agree and do not."""
    print(f"\ninsightface's ijb_evals.py on {'its own' if own_features else 'the same'} features; fractions:")
    print(theirs.tables)
    largest = max(differences, key=lambda name: abs(differences[name]))
    agree = abs(differences[largest]) <= AGREE
    print(
        f"{len(differences)} numbers {'agree' if agree else 'differ'}; "
        f"largest difference {abs(differences[largest]):.1e} ({largest})"
    )
    return 0 if agree or own_features else 1


def _picture(json_path: Path) -> Path:
    return json_path.with_name(f"{json_path.stem}_roc.png")


def _left_out(bad: dict[int, str], count: int) -> str:
    return f"{len(bad)} of {count} images are left out: {'; '.join(list(bad.values())[:20])}"


def _save(
    given: argparse.Namespace,
    enrolled: argparse.Namespace | None,
    result: IjbResult,
    warnings: list[str],
    path: Path,
    further: dict,
) -> None:
    modes = [one.mode.name for one in result.verification]
    write_result(
        with_gallery(given.subset.lower(), enrolled),
        data=given.data,
        model=given.model,
        settings={
            "sha256": given.sha256,
            "network": given.network,
            "color": given.color,
            "mean": given.mean,
            "std": given.std,
            "modes": modes,
            "embeddings": given.embeddings and absolute(given.embeddings),
            **gallery_settings(enrolled),
        },
        results={**result.as_dict(), **further},
        warnings=warnings,
        path=path,
    )


def features_of(
    given: argparse.Namespace, images: IjbImages, folder: Path
) -> tuple[Embeddings, dict[int, str], list[str], list[str]]:
    """Features, images without any, warnings, and those that the log has already.

    Features are kept where `given.features` says, else in `folder`/features. The order of channels is checked where the
    model has to be loaded.
    """
    from ..utils import distributed

    if given.embeddings:
        return read_embeddings(given.embeddings, images), {}, [], []
    where = given.features or folder / "features"
    cache = features.feature_cache(where, images, given.model, given.network, given.color, given.mean, given.std)
    if cache.complete:
        if distributed.rank() == 0 and not given.quiet:
            print(f"features: {cache.folder}", file=sys.stderr)
        embeddings, bad = cache.load()
        if given.on_corrupt == "error":
            features.refuse(bad, len(images))
        return embeddings, bad, [], []
    model = model_from_arguments(given)
    order = None
    if distributed.rank() == 0:
        order = check_color_of_templates(model, images, given.sample, given.batch_size)
    embeddings, bad = features.extract(
        model, images, cache, given.batch_size, given.on_corrupt, given.workers, progress=not given.quiet
    )
    warnings = [order.warning] if order and order.warning else []
    return embeddings, bad, warnings, list(getattr(model, "warnings", ()))


def _parser(front: str | None) -> argparse.ArgumentParser:
    parser = command_parser("eval-ijb", __doc__, front)
    add_model_arguments(parser)
    add_gallery_arguments(parser)
    data = parser.add_argument_group("data")
    data.add_argument("--subset", choices=SUBSETS, required=True, help="which set DIR holds")
    data.add_argument("--data", metavar="DIR", type=Path, required=True, help="folder with meta/ and loose_crop/")
    add_on_corrupt(data)
    data.add_argument("--workers", metavar="N", type=int, default=4, help="threads that read images [%(default)s]")
    data.add_argument(
        "--sample",
        metavar="N",
        type=int,
        default=128,
        help="pairs on which the order of channels is checked when features are made; 0: no check [%(default)s]",
    )
    measure = parser.add_argument_group("what is measured")
    measure.add_argument("--one-to-n", action="store_true", help="1:N on both galleries too")
    measure.add_argument("--all-modes", action="store_true", help="all eight N/D/F modes")
    measure.add_argument(
        "--mode", metavar="NxDxFx", action="append", help=f"a mode, may be repeated [{DEFAULT_MODE.name}]"
    )
    measure.add_argument("--tool", choices=["insightface"], help="run InsightFace's own ijb_evals.py beside ours")
    measure.add_argument("--ijb-tools", metavar="DIR", type=Path, help="folder of ijb_evals.py, or its checkout")
    measure.add_argument(
        "--tool-model", metavar="FILE", type=Path, help="an .onnx file of which that tool makes its own features"
    )
    files = parser.add_argument_group("files")
    files.add_argument(
        "--json", metavar="FILE", type=Path, help="results; FILE's .csv and _roc.png beside it [results/ by the model]"
    )
    files.add_argument("--features", metavar="DIR", type=Path, help="where features are kept [features/ by the JSON]")
    files.add_argument(
        "--embeddings",
        metavar="FILE",
        type=Path,
        help="an .npz of embs and embs_f instead of the model's features",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser
