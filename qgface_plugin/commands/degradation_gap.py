"""How far degradation policies are from given probes: spectrum of the images, norms under an encoder.

qgface degradation-gap --model encoder.onnx --faces faces --probes probes
qgface degradation-gap --model encoder.onnx --faces data/train --probes scface/aligned --match '*_cam?_1.jpg'
qgface degradation-gap --model model.pt --faces faces --probes probes --policies ours recipes/degradation/camera.py

Faces are sharp ones, as the training set has them: a record set or a folder of aligned images. Probes are what the
cameras give, aligned in the same way. "none" are the faces as they are; the smaller all numbers, the nearer a policy.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from ..config.degradation import PRESETS, DegradationPolicy
from ..config.recipe import load_recipe
from ..data.image_files import list_photos, read_image
from ..data.images import decode, encode_png
from ..data.sources.records import FaceRecords
from ..evaluation.arguments import add_model_arguments, model_from_arguments
from ..evaluation.degradation_gap import degraded, gaps
from ..utils.command_line import command_parser, guarded, text_table
from ..utils.errors import ConfigError, DataError
from ..utils.files import write_bytes, write_json
from ..utils.outputs import PNG, check_output, json_with

SHEET = 12  # images of a row of the sheet
REPORT = json_with(["probe_norms", "gaps"], "report")


def main(arguments: list[str] | None = None, front: str | None = None) -> int:
    """Exit status 0: measured; 1: a file cannot be written; 2: the model, the data or an argument does not fit."""
    given = _parser(front).parse_args(arguments)
    return guarded(given.program, lambda: _run(given))


def _run(given: argparse.Namespace) -> int:
    check_output(given.json, REPORT, [given.model])
    check_output(given.sheet, PNG, [given.model])
    if given.count < 2:
        raise ConfigError(f"--count is {given.count}: at least 2 images are needed")
    policies = {name: _policy(name) for name in dict.fromkeys(["none", *given.policies])}
    faces = _images(given.faces, "*", given.count, given.seed)
    probes = _images(given.probes, given.match, given.count, given.seed)
    model = model_from_arguments(given)

    def with_norms(images: np.ndarray, label: str) -> tuple[np.ndarray, np.ndarray]:
        features = model.embed(images, given.batch_size, progress=f"embed {label}").original
        return images, np.linalg.norm(features, axis=1)

    aim = with_norms(probes, "probes")
    sets = {
        name: with_norms(degraded(faces, policy, given.seed, f"degrade {name}"), name)
        for name, policy in policies.items()
    }
    found = gaps(aim, sets)
    rows = [["probes", "0.0", "0.0", f"{aim[1].mean():.2f}", f"{aim[1].std():.2f}", "0.000"]]
    rows += [
        [name, f"{gap.spectrum_db:.1f}", f"{gap.high_db:+.1f}", f"{gap.norm_mean:.2f}", f"{gap.norm_std:.2f}",
         f"{gap.norm_ks:.3f}"]
        for name, gap in found.items()
    ]  # fmt: skip
    print(f"{given.model}: {len(faces)} faces of {given.faces}, {len(probes)} probes of {given.probes} ({given.match})")
    print(text_table(["", "spectrum, dB", "fine detail, dB", "norm", "+-", "norm, KS"], rows))
    if given.json:
        report: dict[str, Any] = {
            "model": str(given.model), "sha256": given.sha256, "faces": str(given.faces), "probes": str(given.probes),
            "match": given.match, "count": [len(faces), len(probes)], "seed": given.seed,
            "probe_norms": {"mean": float(aim[1].mean()), "std": float(aim[1].std())},
            "gaps": {name: asdict(gap) for name, gap in found.items()},
        }  # fmt: skip
        write_json(given.json, report)
    if given.sheet:
        count = min(SHEET, len(faces), len(probes))
        rows_of = [np.hstack(list(images[:count])) for images, _ in (aim, *sets.values())]
        write_bytes(given.sheet, encode_png(np.vstack(rows_of)))
        print(f"contact sheet: {given.sheet} (rows: probes, {', '.join(sets)})")
    return 0


def _policy(name: str) -> DegradationPolicy | None:
    if name == "none":
        return None
    if name in PRESETS:
        return PRESETS[name]
    if not Path(name).is_file():
        raise ConfigError(f"--policies names {name}: neither a recipe's file nor one of none, {', '.join(PRESETS)}")
    policy = load_recipe(Path(name), {}).degradation
    if policy is not None and policy.steps:
        raise ConfigError(f"{name} has steps of its own ({', '.join(policy.steps)}), which this command does not draw")
    return policy


def _images(where: Path, match: str, count: int, seed: int) -> np.ndarray:
    """At most `count` images of a record set or of a folder, in an order drawn by the seed: uint8 (n, 112, 112, 3)."""
    records = where.suffix == ".rec" or any(where.glob("*.rec"))
    source = FaceRecords(where) if records else None
    names = [] if records else [name for name in list_photos(where) if fnmatch(name.rsplit("/", 1)[-1], match)]
    total = len(names) if source is None else len(source)
    if total < 2:
        raise DataError(f"{where}: {total} images whose names are like {match!r}: at least 2 are needed")
    chosen = np.random.default_rng(seed).permutation(total)[:count].tolist()
    if source is not None:
        return np.stack([decode(source.read(index)[0], source.where(index)) for index in chosen])
    return np.stack([decode(read_image(where / names[index]), str(where / names[index])) for index in chosen])


def _parser(front: str | None) -> argparse.ArgumentParser:
    parser = command_parser("degradation-gap", __doc__, front)
    add_model_arguments(parser)
    group = parser.add_argument_group("images")
    group.add_argument("--faces", metavar="DATA", type=Path, required=True, help="sharp faces: record set or folder")
    group.add_argument("--probes", metavar="DATA", type=Path, required=True, help="probes: record set or folder")
    group.add_argument("--match", metavar="PATTERN", default="*", help="names of probes in the folder [all]")
    group.add_argument("--count", metavar="N", type=int, default=500, help="images of each at most [%(default)s]")
    group.add_argument("--seed", metavar="N", type=int, default=0, help="of choice and degradation [%(default)s]")
    parser.add_argument(
        "--policies",
        metavar="POLICY",
        nargs="+",
        default=list(PRESETS),
        help="ours, adaface, recipes [both presets]",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the numbers for programs too")
    parser.add_argument("--sheet", metavar="FILE", type=Path, help="write a contact sheet as PNG")
    return parser
