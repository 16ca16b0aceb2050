"""qgface ablation as a user types it; one ablation for real, of one tiny recipe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from paths import RECIPES, ROOT
from tiny import write_faces

from qgface_plugin.__main__ import main
from qgface_plugin.commands import ablation
from qgface_plugin.utils.registry import NETWORKS

RECIPE = """
from easydict import EasyDict as edict

config = edict(network="quick", embedding_size=8, batch_size=8, num_epoch=1, num_workers=0, frequent=1, lr=0.02)
config.qgface = edict(degradation="ours", train=edict(device="cpu"))
"""


@pytest.fixture
def typed(tmp_path):
    write_faces(tmp_path / "faces")
    (tmp_path / "mine.py").write_text(RECIPE)
    common = ["--data", str(tmp_path / "faces"), "--eval", str(tmp_path / "faces"), "--output", str(tmp_path / "out")]
    return lambda *more: ablation.main([*common, "--quiet", *more])


def test_one_recipe_for_real(typed, tmp_path, capsys):
    mine = ("--recipes", str(tmp_path / "mine.py"), "--seeds", "1", "--set", "qgface.train.max_steps=2")
    assert typed(*mine) == 0
    shown = capsys.readouterr().out
    assert "## Further recipes" in shown and "| mine | mine | - |" in shown
    found = json.loads((tmp_path / "out" / "tables.json").read_text())
    (row,) = found["tables"][0]["rows"]
    (run,) = row["runs"]
    assert run["trained"] and [step["what"] for step in run["steps"]] == ["train", "pairs"]
    assert row["measured"]["HQ Avg."]["mean"] == run["results"]["pairs"]["average"]["accuracy"]
    lines = (Path(run["folder"]) / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
    assert typed(*mine) == 0 and typed(*mine, "--dry-run") == 0
    assert "1 runs, 0 with something to do; evaluations: pairs" in capsys.readouterr().out
    assert len(json.loads((Path(run["folder"]) / "ablation.json").read_text())["steps"]) == 2


def test_a_dry_run_writes_nothing(typed, tmp_path, capsys):
    assert typed("--tables", "1", "2", "3", "--dry-run", "--network", "mbf", "--epochs", "3", "--seeds", "2") == 0
    shown = capsys.readouterr().out
    assert shown.count("to do: train, pairs\n") == 24 and "24 runs, 24 with something to do" in shown
    assert not (tmp_path / "out").exists()


def test_commands_for_elsewhere(typed, tmp_path, capsys):
    assert typed("--tables", "2", "--seeds", "1", "--print", "torchrun", "--gpus", "4") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and all(line.startswith("torchrun --nproc_per_node=4 ") for line in lines[:4])
    assert all(Path(line.split()[-1]).is_file() for line in lines[:4])
    assert typed("--tables", "2", "--seeds", "1", "--print", "slurm") == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("sbatch --job-name=table2_none-") and "--wrap='torchrun --nproc_per_node=1 " in first


def test_tables_of_nothing(typed, tmp_path, capsys):
    assert typed("--tables", "1", "--only-tables", "--json", str(tmp_path / "x.json")) == 0
    assert "| Baseline | no degraded view | - / 61.69 |" in capsys.readouterr().out
    assert json.loads((tmp_path / "x.json").read_text())["tables"][0]["key"] == "1"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "nothing is asked for: name --tables or --recipes"),
        (["--tables", "1", "--jobs", "0"], "--jobs, --seeds and --gpus must be at least 1"),
        (["--tables", "1", "--set", "lr"], "'lr' sets nothing"),
        (["--tables", "1", "--set", "lrr=1"], "table1_baseline.py: config.lrr is unknown: did you mean"),
        (["--recipes", "absent.py"], "there is no recipe absent.py"),
        (["--tables", "1", "--eval", "absent"], "absent: no such folder"),
        (["--tables", "1", "--data", "absent"], "--data absent: no such folder"),
    ],
)
def test_input_that_does_not_fit(typed, arguments, message, capsys):
    assert typed(*arguments) == 2
    shown = capsys.readouterr().err.replace(f"{RECIPES / 'paper'}/", "")
    assert f"qgface ablation: {message}" in shown


def test_a_failed_run_is_an_exit_status(typed, tmp_path, capsys):
    broken = tmp_path / "broken.py"
    broken.write_text(RECIPE.replace('"quick"', '"quack"'))
    assert typed("--recipes", str(broken), "--seeds", "1") == 1
    assert "train failed (2): qgface train: network is 'quack'" in capsys.readouterr().err


def test_a_network_of_ones_own_is_trained_and_evaluated(typed, tmp_path, capsys):
    """The example of docs/own_parts.md: each step is a process that has never seen the part."""
    page = (ROOT / "docs" / "own_parts.md").read_text(encoding="utf-8")
    block = page.split("```python\n# my_network.py\n")[1].split("```")[0]
    lines = ["config.embedding_size = 8", "config.batch_size = 8", "config.num_workers = 0", "config.frequent = 1"]
    (tmp_path / "mine.py").write_text("\n".join([block, *lines, "config.qgface.train.device = 'cpu'"]))
    changes = ["qgface.train.max_steps=2", "num_epoch=1", "warmup_epoch=0", "val_targets=()"]
    assert typed("--recipes", str(tmp_path / "mine.py"), "--seeds", "1", "--set", *changes) == 0, capsys.readouterr()
    (run,) = json.loads((tmp_path / "out" / "tables.json").read_text())["tables"][0]["rows"][0]["runs"]
    assert run["trained"] and [step["what"] for step in run["steps"]] == ["train", "pairs"]
    recipe = json.loads((Path(run["folder"]) / "recipe.json").read_text())
    assert recipe["network"] == "patches" and recipe["imports"] == [str(tmp_path / "mine.py")]
    NETWORKS.pop("patches", None)  # this process has seen it
    onnx = tmp_path / "mine.onnx"
    assert main(["export", "--model", run["folder"], "-o", str(onnx)]) == 0 and onnx.is_file()
    NETWORKS.pop("patches")
    (tmp_path / "mine.py").rename(tmp_path / "moved.py")
    capsys.readouterr()
    assert main(["export", "--model", run["folder"], "-o", str(onnx)]) == 2
    assert "mine.py, which is not there. Name the file that defines it by --import" in capsys.readouterr().err
    assert main(["export", "--model", run["folder"], "-o", str(onnx), "--import", str(tmp_path / "moved.py")]) == 0
    NETWORKS.pop("patches")
