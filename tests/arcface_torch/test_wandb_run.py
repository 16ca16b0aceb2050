"""Weights & Biases in a checkout, by its own package, offline: our miniature, whose script uses it as the real one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkouts import MINI, ROOT, copy_of, metrics, real_checkout, run, write_recipe
from tiny import write_faces
from wandb_files import config, history, run_file

from qgface_plugin.arcface_torch.wandb_run import opened_by_the_script, wandb_settings
from qgface_plugin.config.run import Run
from qgface_plugin.training.tags import tag_of
from qgface_plugin.training.trackers import known_ids

SECRET = "0123456789abcdef0123456789abcdef01234567"
ASKED = f"""
config.output, config.using_wandb, config.wandb_key = "out", True, "{SECRET}"
config.num_epoch, config.frequent, config.val_targets = 1, 1, []
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    """A user's git repository, with a recipe that holds a key and is not committed yet."""
    pytest.importorskip("wandb", reason="the package wandb is not installed (extra `logging`)")
    write_faces(tmp_path / "data")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    return tmp_path


def train(folder: Path, recipe: Path, checkout: Path) -> str:
    """What a run of a recipe prints, in a home of its own."""
    environ = {"HOME": str(folder / "home"), "WANDB_MODE": "offline", "ARCFACE_TORCH": str(checkout)}
    done = run(ROOT / "train_v2.py", recipe, cwd=folder, **environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def written_with(folder: Path, text: str, *but: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file() and path not in but]
    return [path for path in files if text.encode() in path.read_bytes()]


def check_run(folder: Path, recipe: Path, checkout: Path) -> None:
    """Train an epoch, resume for another: one run at W&B, the terms of every step in it, the key nowhere."""
    printed = train(folder, recipe, checkout)
    name, first = known_ids(folder / "out")["wandb"], run_file(folder / "out")
    more = "config.num_epoch, config.resume, config.wandb_resume = 2, True, True\n"
    recipe.write_text(recipe.read_text() + more)
    printed += train(folder, recipe, checkout)
    second = run_file(folder / "out")
    assert first != second and first.name == second.name == f"run-{name}.wandb"
    assert known_ids(folder / "out") == {"wandb": name}

    rows = [row for path in (first, second) for row in history(path)]
    ours = {row["Process/Step"]: row for row in rows if "loss/classification" in row}
    lines = metrics(folder / "out")
    assert len(lines) > 4 and sorted(ours) == [line["step"] for line in lines]
    for line in lines:
        assert all(
            ours[line["step"]][tag_of(key)] == pytest.approx(line[key]) for key in ("loss", "classification", "b")
        )
    assert any("Loss/Step Loss" in row for row in rows)  # the script's own

    assert config(second)["wandb_key"] is None and config(second)["num_classes"] == 6
    assert SECRET not in printed and written_with(folder, "classification")
    assert written_with(folder, SECRET, recipe) == []


def test_one_run_with_our_terms_and_the_key_in_no_file(folder):
    check_run(folder, write_recipe(folder, "tracked", ASKED), MINI)


@pytest.mark.arcface_torch
@pytest.mark.long
def test_the_real_checkout(folder):
    small = "config.network, config.embedding_size, config.batch_size = 'mbf', 512, 8\n"
    check_run(folder, write_recipe(folder, "tracked", ASKED + small), real_checkout())


def test_a_key_in_the_checkouts_own_file_is_written_nowhere(tmp_path):
    folder = tmp_path
    write_faces(folder / "data")
    checkout = copy_of(MINI, folder / "checkout")
    base = checkout / "configs" / "base.py"
    base.write_text(base.read_text().replace('"X" * 40', f'"{SECRET}"').replace('"project"', '"of_base"'))
    printed = train(folder, write_recipe(folder, "plain", "config.output, config.num_epoch = 'out', 1\n"), checkout)
    assert SECRET not in printed and written_with(folder, SECRET, base) == []
    assert "wandb_key" not in (folder / "out" / "training.log").read_text()


def test_what_the_script_gets(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="the package wandb is not installed (extra `logging`)")
    names = {"WANDB_API_KEY", "WANDB_DIR", "WANDB_DISABLE_CODE", "WANDB_RUN_ID"}
    for name in names:
        monkeypatch.setenv(name, "before")  # so that what is set below is undone
        monkeypatch.delenv(name)
    base = {"wandb_key": SECRET, "wandb_entity": "team", "wandb_project": "of_base", "suffix_run_name": None}
    run = Run(
        using_wandb=True, output=str(tmp_path / "out"), wandb_project="mine", set_keys=frozenset({"wandb_project"})
    )
    found = wandb_settings(run, base, resumes=False)
    assert found == {"wandb_key": None, "wandb_entity": "team", "wandb_resume": None, "wandb_log_all": False,
                     "suffix_run_name": None}  # fmt: skip
    told = {name: value for name, value in os.environ.items() if name in names}
    assert told == {"WANDB_API_KEY": SECRET, "WANDB_DIR": str(tmp_path / "out"), "WANDB_DISABLE_CODE": "true"}


def test_a_run_that_the_script_could_not_open_is_a_warning(monkeypatch, caplog):
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    assert opened_by_the_script(Run()) == [] and not caplog.records
    assert opened_by_the_script(Run(using_wandb=True)) == []
    assert "the checkout opened no run at W&B" in caplog.text
