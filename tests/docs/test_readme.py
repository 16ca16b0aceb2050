"""README.md: short, its numbers are the tables', and its commands run one after the other on a small set."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from checkouts import MINI, environment
from pages import blocks
from paths import ROOT

from qgface_plugin.__main__ import main
from qgface_plugin.data.bin_files import write_bin
from qgface_plugin.data.images import encode_jpeg
from qgface_plugin.data.procedural.face import draw_face

README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
SHORT = ["qgface.train.max_steps=2", "batch_size=4", "num_workers=0", "frequent=1", "fp16=False"]
SMALL = {"my_recipe.py": ["network=quick", "embedding_size=16"], "finetune": []}


def steps(block: str) -> list[str]:
    return [line.split(" #")[0].strip() for line in block.splitlines() if line.strip()]


def test_somebody_with_a_minute_can_read_it():
    assert len(TEXT.splitlines()) <= 95
    assert steps(blocks(README, "sh")[0])[:2] == ["make quickstart", "make test"]
    assert "](docs/figures/flow.svg)" in TEXT


def test_its_numbers_are_in_the_tables():
    rows = {line.split("|")[1].strip(): line for line in (ROOT / "docs/results.md").read_text("utf-8").splitlines()
            if line.startswith("| ")}  # fmt: skip
    for name, row in {"AdaFace, sharp views only": "Baseline", "QGFace": "E"}.items():
        shown = re.findall(r"[\d.]+ ± [\d.]+", TEXT.split(f"| {name} |", 1)[1].split("\n")[0])
        cells = [cell.strip() for cell in rows[row].split("|")]
        assert shown == [cells[3], cells[6], cells[9]]  # SCface d1, TinyFace, lfw_dev
    alone = [cell.strip().split(" ")[0] for cell in rows["D"].split("|")]
    assert f"({alone[3]}, {alone[6]}, {alone[9]})" in TEXT


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """Types a line of a block, in a folder of its own, with the folders that it names somewhere in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ARCFACE_TORCH", raising=False)
    monkeypatch.delenv("DATA_ROOT", raising=False)

    def type_it(line: str) -> int:
        line = line.replace("/data/", f"{tmp_path}/data/").replace("/src/arcface_torch", str(MINI))
        words, environ = shlex.split(line), {}
        while "=" in words[0]:
            environ.update([words.pop(0).split("=", 1)])
        target = Path(words[words.index(">") + 1]) if ">" in words else None
        words = words[: words.index(">")] if target else words
        if words[1] == "train":
            words += ["--set", *SHORT, *SMALL[words[2]]]
        assert words[0] == "qgface"
        with monkeypatch.context() as now:
            for name, value in environ.items():
                now.setenv(name, value)
            if target is None:
                return main(words[1:])
            with open(target, "w", encoding="utf-8") as file, redirect_stdout(file):
                return main(words[1:])

    return type_it


def draw_people(folder: Path) -> None:
    for person in range(6):
        (folder / f"person_{person}").mkdir(parents=True)
        for number in range(4):
            (folder / f"person_{person}" / f"{number}.jpg").write_bytes(encode_jpeg(draw_face(person, number), 95))


def test_its_commands_run(typed, tmp_path, capsys):
    """My data, and then my existing model, which is the one that was exported."""
    _, data, checkout, model = blocks(README, "sh")
    draw_people(tmp_path / "data" / "faces")
    pairs = [(person, number, person if same else (person + 1) % 6) for person in range(6) for number in range(3)
             for same in (True, False)]  # fmt: skip
    images = [encode_jpeg(draw_face(*one), 95) for a, number, b in pairs for one in ((a, number), (b, number + 1))]
    for line in steps(data):
        assert typed(line) == 0, line
        if line.startswith("qgface pack"):
            write_bin(tmp_path / "data" / "packed" / "lfw.bin", images, [a == b for a, _, b in pairs])
    assert Path("my_encoder.onnx").stat().st_size > 1e6
    for line in steps(model):
        assert typed(line) == 0, line
    shown = capsys.readouterr().out
    assert Path("work_dirs/finetune/model_best.pt").is_file() and shown.count("saved: ") == 2
    export, doctor, train = steps(checkout)
    assert (export.split("=")[0], train) == ("export ARCFACE_TORCH", steps(data)[2])
    assert typed(f"ARCFACE_TORCH={MINI} {doctor}") == 0
    words = [*shlex.split(train)[2:], "--set", *SHORT, "network=r18", "embedding_size=8", "num_epoch=1", "output=there"]
    words += ["qgface.train.schedule=polynomial", "qgface.train.milestones=()", "warmup_epoch=0", "val_targets=['lfw']"]
    done = subprocess.run(
        [sys.executable, "-m", "qgface_plugin", *words], capture_output=True, text=True,
        env=environment(ARCFACE_TORCH=str(MINI), DATA_ROOT=str(tmp_path / "data" / "packed")),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"training in the arcface_torch checkout {MINI}" in done.stdout and Path("there/model.pt").is_file()
