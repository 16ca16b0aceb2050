"""Which runs an ablation has, which data it is evaluated on, and when a training counts as done."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from identification_sets import write_scface, write_tinyface
from ijb_sets import write_set
from paths import RECIPES
from tiny import write_faces

from qgface_plugin.config.recipe import load_recipe
from qgface_plugin.experiments.evaluations import find_evaluations
from qgface_plugin.experiments.plan import plan, unique_runs
from qgface_plugin.utils.errors import ConfigError, DataError

PAPER = RECIPES / "paper"


def planned(tmp_path, tables=("1", "2", "3"), recipes=(), **changes):
    common = dict(folder=tmp_path / "out", paper_recipes=PAPER, data=tmp_path, seeds=(1, 2), changes=changes, epochs=4)
    return plan(tables, recipes, **common)


def test_rows_that_train_the_same_share_their_runs(tmp_path):
    tables = planned(tmp_path, network="mbf")
    assert [len(table.rows) for table in tables] == [6, 4, 4]
    runs = unique_runs(tables)
    assert len(runs) == 2 * 12 and [run.seed for run in runs] == [1] * 12 + [2] * 12
    e, proxy, b02 = (table.rows[place].runs for table, place in zip(tables, (5, 3, 2), strict=True))
    assert e == proxy == b02 and not (tmp_path / "out").exists()


def test_tables_share_runs(tmp_path):
    second = planned(tmp_path, ["2"])[0].rows[3].runs[0]
    second.write()
    assert second.folder.name.startswith("table2_proxy-") and second.folder.name.endswith("-seed1")
    assert planned(tmp_path, ["1"])[0].rows[5].runs[0].folder == second.folder


def test_the_flat_recipe(tmp_path):
    run = planned(tmp_path, ["1"], network="mbf", lr=0.02)[0].rows[0].runs[1]
    run.write()
    found = load_recipe(run.recipe, {})
    assert (found.network, found.lr, found.seed, found.num_epoch, found.resume) == ("mbf", 0.02, 2, 4, True)
    assert (found.output, found.rec) == (str(run.folder), str(tmp_path.resolve()))
    assert found.train.milestones == (2, 3) and found.degradation is None


def test_further_recipes_are_a_table_of_their_own(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("from easydict import EasyDict\nconfig = EasyDict(network='mbf')\n")
    (table,) = planned(tmp_path, [], [mine])
    assert (table.title, table.rows[0].row.label, dict(table.rows[0].row.paper)) == ("Further recipes", "mine", {})
    with pytest.raises(ConfigError, match="mine: two of the recipes"):
        planned(tmp_path, [], [mine, tmp_path / "b" / "mine.py"])
    with pytest.raises(ConfigError, match="nothing is asked for"):
        planned(tmp_path, [])


def test_a_change_that_no_recipe_can_have(tmp_path):
    run = planned(tmp_path, ["1"], batchsize=3)[0].rows[0].runs[0]
    with pytest.raises(ConfigError, match="config.batchsize is unknown"):
        run.write()


def test_trained(tmp_path):
    run = planned(tmp_path, ["1"], **{"qgface.train.max_steps": 7})[0].rows[0].runs[0]
    run.folder.mkdir(parents=True)
    for epoch, step, done in ((3, 6, False), (4, 6, True), (0, 7, True)):
        torch.save({"epoch": epoch, "global_step": step}, run.folder / "checkpoint_gpu_0.pt")
        run.model.unlink(missing_ok=True)
        assert not run.trained()
        run.model.touch()
        assert run.trained() is done
    (run.folder / "checkpoint_gpu_0.pt").write_bytes(b"cut")
    assert not run.trained()


def test_what_can_be_evaluated(tmp_path):
    write_faces(tmp_path / "all" / "train")
    write_scface(tmp_path / "all" / "scface")
    write_tinyface(tmp_path / "all" / "tinyface")
    write_set(tmp_path / "all" / "ijb" / "IJBB")
    found = find_evaluations([tmp_path / "all"])
    assert [(e.protocol, e.data.name) for e in found] == [
        ("ijbb", "ijb"), ("pairs", "train"), ("scface", "scface"), ("tinyface", "tinyface"),
    ]  # fmt: skip
    one = find_evaluations([tmp_path / "all" / "scface", tmp_path / "all" / "train"])
    assert [e.protocol for e in one] == ["pairs", "scface"] and find_evaluations([]) == []
    assert found[0].command(Path("m.pt"))[1:] == [
        "--model", "m.pt", "--data", str(tmp_path / "all" / "ijb"), "--subset", "IJBB", "--quiet",
    ]  # fmt: skip


def test_folders_without_anything_to_evaluate(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        find_evaluations([tmp_path / "absent"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="neither it nor a folder in it"):
        find_evaluations([tmp_path / "empty"])
    for name in "ab":
        write_faces(tmp_path / name)
    with pytest.raises(DataError, match="pairs is in .*a and in .*b"):
        find_evaluations([tmp_path / "a", tmp_path / "b"])
