"""Figures of the paper, and of how runs went, from saved runs: a PDF for print and a PNG of each, named after the runs.

qgface figures gradient                                             Fig. 2: gradient scaling term
qgface figures queues Momentum=work_dirs/m Proxy=work_dirs/p        Fig. 3b: positives and negatives
qgface figures pairs work_dirs/p --recipe recipes/x.py --data DIR   Fig. 4: pairs framed by their gate
qgface figures similarity QGFace=work_dirs/q AdaFace=work_dirs/a    Fig. 5: SCface, the gain in lead
qgface figures training work_dirs/a work_dirs/q                     losses, pairs below b, norm order, accuracy
qgface figures norms work_dirs/q --data /data/faces/lfw.bin         norm against similarity
qgface figures norm-steps work_dirs/q --data /data/faces/lfw.bin    what the norm follows
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from ..config.method import QGFaceConfig
from ..experiments.figures.file_names import named_after
from ..experiments.run_metrics import read_runs, split_name
from ..utils.command_line import command_parser, guarded
from ..utils.errors import ConfigError


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Exit status 0: drawn; 1: it could not be written; 2: a run or the data does not fit."""
    given = _parser(front).parse_args(arguments)

    def run() -> int:
        print("saved:", *given.draw(given))
        return 0

    return guarded(given.program, run)


def _gradient(given: argparse.Namespace) -> list[Path]:
    from ..experiments.figures.gradient import draw_gradient

    return draw_gradient(given.output, QGFaceConfig(m=given.m, s=given.s, b=given.b))


def _queues(given: argparse.Namespace) -> list[Path]:
    from ..experiments.figures.runs import draw_queues

    return draw_queues(given.output, read_runs(given.runs), named_after("fig3b_queues", *_folders(given)))


def _training(given: argparse.Namespace) -> list[Path]:
    from ..experiments.figures.runs import draw_training

    return draw_training(given.output, read_runs(given.runs), named_after("training", *_folders(given)))


def _pairs(given: argparse.Namespace) -> list[Path]:
    from ..data.sources.folder import FaceFolder
    from ..data.sources.records import FaceRecords
    from ..experiments.figures.pairs import draw_pairs, load_trained

    trained = load_trained(given.run, given.recipe, given.device)
    rec = given.data or trained.run.rec
    if not rec:
        raise ConfigError("the recipe names no data: give --data")
    if trained.run.data.source == "folder":
        source: FaceFolder | FaceRecords = FaceFolder(rec if isinstance(rec, (str, Path)) else rec[0])
    else:
        source = FaceRecords(rec)
    return draw_pairs(given.output, trained, source, given.seed, name=named_after("fig4_pairs", given.run))


def _similarity(given: argparse.Namespace) -> list[Path]:
    from ..experiments.figures.runs import draw_scface

    return draw_scface(given.output, given.runs, named_after("fig5_similarity", *_folders(given)))


def _norms(given: argparse.Namespace) -> list[Path]:
    from ..experiments.figures.norms import draw_norms
    from ..models import load_model

    model, name = load_model(given.run, network=given.network, device=given.device), "norm_similarity"
    return draw_norms(given.output, model, given.data, _of_pairs(name, given))


def _norm_steps(given: argparse.Namespace) -> list[Path]:
    from ..experiments.figures.norms import draw_norm_steps
    from ..models import load_model

    model, name = load_model(given.run, network=given.network, device=given.device), "norm_steps"
    return draw_norm_steps(given.output, model, given.data, _of_pairs(name, given))


def _of_pairs(figure: str, given: argparse.Namespace) -> str:
    return named_after(figure, given.run, given.data.removesuffix(".bin"))


def _folders(given: argparse.Namespace) -> list[str]:
    return [split_name(run)[1] for run in given.runs]


def _parser(front: str | None) -> argparse.ArgumentParser:
    parser = command_parser("figures", __doc__, front)
    figures = parser.add_subparsers(title="figures", metavar="FIGURE", required=True)

    def figure(name: str, draw: Callable[[argparse.Namespace], list[Path]], about: str) -> argparse.ArgumentParser:
        one = figures.add_parser(name, help=about, description=about)
        one.set_defaults(draw=draw)
        one.add_argument(
            "--output", metavar="DIR", type=Path, default=Path("work_dirs/figures"), help="(default: %(default)s)"
        )
        return one

    one = figure("gradient", _gradient, "gradient scaling term over angle and quality: eqs. 11-12, and autograd")
    for name in ("m", "s", "b"):
        default = getattr(QGFaceConfig, name)  # an instance would check its names, hence import PyTorch
        one.add_argument(f"--{name}", metavar="X", type=float, default=default, help="(default: %(default)s)")
    runs = "folder of a run, or NAME=FOLDER"
    one = figure("queues", _queues, "cosines of positives and negatives during training")
    one.add_argument("runs", metavar="RUN", nargs="+", help=runs)
    one = figure("training", _training, "loss terms, share of pairs below b, norm order, accuracy")
    one.add_argument("runs", metavar="RUN", nargs="+", help=runs)
    one = figure("similarity", _similarity, "similarity of SCface's probes and gallery at each distance")
    one.add_argument("runs", metavar="RUN", nargs="+", help=f"{runs}; a second one: what the first gains over it")
    one = figure("pairs", _pairs, "training pairs from the worst to the best, framed orange or green by their gate")
    one.add_argument("run", metavar="RUN", help="folder with model.pt and checkpoint_gpu_0.pt")
    one.add_argument("--recipe", metavar="FILE", help="of the run (default: recipe.py in the folder)")
    one.add_argument("--data", metavar="DIR", help="folder with train.rec (default: the recipe's)")
    one.add_argument("--seed", metavar="N", type=int, default=0, help="of the degraded views (default: 0)")
    one.add_argument("--device", metavar="DEVICE", default="auto", help="(default: auto)")
    for name, draw, about in (
        ("norms", _norms, "heat map of norm and similarity over the pairs of a .bin set"),
        ("norm-steps", _norm_steps, "how norms of a .bin set's images move under each kind of change"),
    ):
        one = figure(name, draw, about)
        one.add_argument("run", metavar="RUN", help="folder with model.pt, or any model that the evaluation tools take")
        one.add_argument("--data", metavar="FILE", required=True, help="the .bin set")
        one.add_argument("--network", metavar="NAME", help="(default: what recipe.json says, else recognised)")
        one.add_argument("--device", metavar="DEVICE", default="auto", help="(default: auto)")
    return parser
