"""Command line of the project: `qgface COMMAND ...`, and `python -m qgface_plugin COMMAND ...`, which is the same."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from importlib import import_module

from . import __version__
from .utils.command_line import PROGRAM

# What a user is after, and for each command its module in `commands/` and what it does.
COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "train": {
        "train": ("train", "train a recipe, with the built-in loop or in an arcface_torch checkout"),
        "recipe": ("recipe", "the recipes that there are, and a copy of one to work on"),
        "settings": ("settings", "the keys of a recipe: default, what each takes and what it means"),
        "plan-memory": ("plan_memory", "GPU memory that class centres, queue and loss will take, without a GPU"),
        "merge-checkpoint": ("merge_checkpoint", "one checkpoint of those that all ranks have saved"),
    },
    "prepare data": {
        "align": ("align", "photographs become faces of 112 x 112 pixels, by five landmarks"),
        "pack": ("pack", "aligned faces become train.rec and train.idx"),
        "make-bin": ("make_bin", "a pairs file and aligned faces become a .bin verification set"),
        "inspect": ("inspect", "counts, identities and a contact sheet of a record set; can everything be read?"),
    },
    "use a model": {
        "embed": ("embed", "embeddings and qualities of a folder of photographs, in one file"),
        "compare": ("compare", "two photographs: same, different or cannot tell, by a measured threshold"),
    },
    "evaluate and export": {
        "eval-pairs": ("eval_pairs", "10-fold accuracy and TAR@FAR on .bin pair sets (LFW, CFP-FP, AgeDB-30, ...)"),
        "eval-scface": ("eval_scface", "SCface: rank-1 at three distances"),
        "eval-tinyface": ("eval_tinyface", "TinyFace: rank-k and mAP among distractors"),
        "eval-ijb": ("eval_ijb", "IJB-B and IJB-C: 1:1 and 1:N"),
        "eval-quality": ("eval_quality", "what a quality is worth: error-versus-discard curves; calibrate the norm"),
        "degradation-gap": ("degradation_gap", "how far degradation policies are from the probes of your cameras"),
        "report": ("report", "one table of what many runs have measured"),
        "import": ("import_model", "an ONNX encoder, as weights that can be trained"),
        "export": ("export", "an ONNX file for InsightFace's model zoo and other runtimes"),
    },
    "an arcface_torch checkout": {
        "doctor": ("doctor", "what is there, what is missing and what will be repaired"),
        "attach": ("attach", "let a checkout's train_v2.py load the plugin: one marked line"),
        "detach": ("detach", "take that line out again, byte for byte"),
        "run": ("run", "a script of a checkout with the repairs that it needs"),
    },
    "the paper, and how quick it is": {
        "ablation": ("ablation", "train, evaluate and tabulate the rows of the paper's tables"),
        "figures": ("figures", "the paper's figures, and curves of saved runs"),
        "benchmark": ("benchmark", "time what is quick beside a plain way of doing the same"),
    },
}
MODULES = {name: module for group in COMMANDS.values() for name, (module, _) in group.items()}


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Exit status 2: there is none of that name; else the command's own."""
    name, *others = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name == "help":  # `qgface help`, `qgface help train`
        name, *others = [*others[:1], "--help"]
    if name in ("-h", "--help"):
        print(overview())
        return 0
    if name == "--version":
        print(f"{PROGRAM} {__version__}")
        return 0
    if name not in MODULES:
        near = get_close_matches(name, MODULES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        print(f"{PROGRAM}: error: {name!r} is no command: {hint}`{PROGRAM}` lists them", file=sys.stderr)
        return 2
    status: int = import_module(f".commands.{MODULES[name]}", __package__).main(others)
    return status


def overview() -> str:
    """All commands by what they are for, a line each."""
    width = max(map(len, MODULES))
    lines = [
        f"usage: {PROGRAM} COMMAND ...",
        "",
        "QGFace for InsightFace's arcface_torch: one face encoder for sharp and blurred images.",
        f"`{PROGRAM} COMMAND --help` says what a command takes; `{PROGRAM} --version` prints the version.",
    ]
    for title, group in COMMANDS.items():
        lines += ["", f"{title}:", *(f"  {name:<{width}}  {about}" for name, (_, about) in group.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
