"""IJB-B and IJB-C: 1:1 and 1:N of a face model, as insightface's ijb_evals.py measures them.

python tools/eval_ijb.py --model work_dirs/x/model.pt --subset IJBB --data /data/ijb --one-to-n
torchrun --nproc_per_node=4 tools/eval_ijb.py --model x.onnx --subset IJBC --data /data/ijb --all-modes
python tools/eval_ijb.py --model x.onnx --subset IJBB --data /data/ijb --tool insightface --ijb-tools ~/insightface

Features are kept beside the results, so that another run on the same model and images starts with them, and an
interrupted one goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from qgface_plugin import distributed
from qgface_plugin.command_line import guarded
from qgface_plugin.errors import ConfigError
from qgface_plugin.evaluation.features import Embeddings
from qgface_plugin.evaluation.models import add_model_arguments, model_from_arguments
from qgface_plugin.evaluation.plots import plot_roc
from qgface_plugin.evaluation.protocols import ijb_features, ijb_insightface, ijb_tables
from qgface_plugin.evaluation.protocols.ijb_evaluation import evaluate, modes_of, read_embeddings
from qgface_plugin.evaluation.protocols.ijb_metadata import SUBSETS, IjbImages, find_folder, read_images
from qgface_plugin.evaluation.protocols.ijb_templates import ALL_MODES, DEFAULT_MODE
from qgface_plugin.evaluation.results import default_path, write_result


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0: evaluated; 1: failed on the way, or InsightFace's numbers differ; 2: the input does not fit."""
    given = _parser().parse_args(arguments)
    with distributed.process_group(torch.device("cpu")):  # ranks share files and wait for each other, nothing more
        return guarded("eval_ijb.py", lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    modes = modes_of(given.mode, given.all_modes, ALL_MODES)
    if given.tool and not given.ijb_tools:
        raise ConfigError("--tool insightface needs --ijb-tools DIR, the folder of ijb_evals.py or a checkout of it")
    if given.tool:
        ijb_insightface.find_tool(given.ijb_tools)
    subset = given.subset
    images = read_images(find_folder(given.data, subset), subset)
    json_path = given.json or default_path(given.model, subset.lower())
    embeddings, bad = _features(given, images, json_path.parent)
    if distributed.rank() != 0:
        return 0
    usable = ~np.isin(np.arange(len(images)), list(bad)) if bad else None
    result = evaluate(images, embeddings, modes, given.one_to_n, usable, progress=True)
    warnings = [f"{len(bad)} of {len(images)} images left out: {'; '.join(list(bad.values())[:20])}"] if bad else []
    print(ijb_tables.verification_table(subset, result.verification))
    if result.identification:
        print(f"\n{ijb_tables.identification_table(subset, result.identification)}")
    print(f"\n{ijb_tables.LEGEND}")
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    agrees, theirs = _insightface(given, images, embeddings, result) if given.tool else (True, {})
    settings = {"network": given.network, "color": given.color, "modes": [mode.name for mode in modes]}
    write_result(
        subset.lower(),
        data=given.data,
        model=given.model,
        settings=settings,
        results={**result.as_dict(), **theirs},
        warnings=warnings,
        path=json_path,
    )
    ijb_tables.write_csv(result, json_path.with_suffix(".csv"))
    curves = {f"{one.mode.name}, AUC {100 * one.auc:.3f} %": one.corners for one in result.verification}
    picture = json_path.with_name(f"{json_path.stem}_roc.png")
    plot_roc(curves, picture, f"{subset} 1:1, {Path(given.model).name}")
    print(f"\nwritten: {json_path}, {json_path.with_suffix('.csv').name}, {picture.name}")
    return 0 if agrees else 1


def _features(given: argparse.Namespace, images: IjbImages, folder: Path) -> tuple[Embeddings, dict[int, str]]:
    if given.embeddings:
        return read_embeddings(given.embeddings, images), {}
    where = given.features or folder / "features"
    cache = ijb_features.feature_cache(where, images, given.model, given.network, given.color)
    if cache.complete:
        if distributed.rank() == 0:
            print(f"features: {cache.folder}", file=sys.stderr)
        embeddings, bad = cache.load()
        if given.on_bad == "error":
            ijb_features.refuse(bad, len(images))
        return embeddings, bad
    model = model_from_arguments(given)
    return ijb_features.extract(model, images, cache, given.batch_size, given.on_bad, given.workers, progress=True)


def _insightface(given: argparse.Namespace, images: IjbImages, embeddings: Embeddings, result) -> tuple[bool, dict]:
    """Print the tool's tables and how far ours are from them -> whether they agree, and both for the JSON."""
    if not any(one.mode == DEFAULT_MODE for one in result.verification):
        raise ConfigError(f"--tool insightface measures {DEFAULT_MODE.name} or --all-modes: leave --mode out")
    features = given.tool_model or embeddings
    theirs = ijb_insightface.run_tool(
        given.ijb_tools, images.folder, given.subset, features, given.all_modes, given.one_to_n, progress=True
    )
    differences = theirs.differences(result)
    largest = max(differences, key=lambda name: abs(differences[name]))
    print(f"\ninsightface's ijb_evals.py, {'its own features' if given.tool_model else 'the same features'}; fractions:")
    print(theirs.tables)
    agrees = abs(differences[largest]) <= ijb_insightface.AGREE
    verdict = "agree" if agrees else "differ"
    print(f"{len(differences)} numbers {verdict}; largest difference {abs(differences[largest]):.1e} ({largest})")
    return agrees or bool(given.tool_model), {"insightface": theirs.numbers, "differences": differences}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_arguments(parser)
    data = parser.add_argument_group("data")
    data.add_argument("--subset", choices=SUBSETS, required=True, help="which set DIR holds")
    data.add_argument("--data", metavar="DIR", type=Path, required=True, help="folder with meta/ and loose_crop/")
    data.add_argument(
        "--on-bad",
        choices=ijb_features.ON_BAD,
        default="error",
        help="missing or undecodable images: refuse, or leave them out and name them [%(default)s]",
    )
    data.add_argument("--workers", metavar="N", type=int, default=4, help="threads that read images [%(default)s]")
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
        "--embeddings", metavar="FILE", type=Path, help="features from an .npz of embs and embs_f, in place of a model's"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
