"""docs/own_parts.md and docs/guide.md: the parts are recipes that train, and the table of thresholds is right."""

from __future__ import annotations

import re
import shutil
from statistics import NormalDist

import pytest
import torch
from paths import ROOT
from recipe_runs import two_steps
from tiny import tiny_model, write_faces

from qgface_plugin.config.recipe import load_recipe
from qgface_plugin.experiments.plan import plan, unique_runs
from qgface_plugin.loss.feature_queue import FeatureQueue, QueueKind, queue_kind
from qgface_plugin.training import build
from qgface_plugin.training.trainer import train
from qgface_plugin.utils.registry import DEGRADATION_STEPS, MARGIN_HEADS, NETWORKS, QUALITY_SOURCES, QUEUE_KINDS

GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
PARTS = (ROOT / "docs" / "own_parts.md").read_text(encoding="utf-8")
BLOCKS = {m[1]: m[0] for m in re.finditer(r"(?<=```python\n)# (my_\w+)\.py\n.*?(?=```)", PARTS, re.DOTALL)}


@pytest.fixture(autouse=True)
def _forget():
    """Names that recipes have added are gone afterwards."""
    tables = (MARGIN_HEADS, QUALITY_SOURCES, QUEUE_KINDS, DEGRADATION_STEPS, NETWORKS)
    before = [dict(table) for table in tables]
    yield
    for table, kept in zip(tables, before, strict=True):
        table.clear()
        table.update(kept)


def test_there_is_one_for_each_part():
    assert set(BLOCKS) == {"my_margin", "my_quality", "my_queue", "my_degradation", "my_step", "my_network"}


@pytest.mark.parametrize("name", BLOCKS)
def test_it_trains(name, tmp_path, monkeypatch):
    if name != "my_network":
        monkeypatch.setattr(build, "get_model", tiny_model)
    write_faces(tmp_path / "data")
    shutil.copy(ROOT / "recipes" / "lfw_mbf.py", tmp_path)
    path = tmp_path / f"{name}.py"
    path.write_text(BLOCKS[name])
    train(two_steps(path, tmp_path))
    train(two_steps(path, tmp_path))  # loaded again in the same process
    saved = torch.load(tmp_path / "out" / "checkpoint_gpu_0.pt", weights_only=True)["state_dict_softmax_fc"]
    run = load_recipe(path, {})
    method, plain = run.qgface, load_recipe(tmp_path / "lfw_mbf.py", {})
    assert (method, run.degradation, run.network) != (plain.qgface, plain.degradation, plain.network)
    assert int(saved["queue.enqueued"]) == (4 if name == "my_queue" else 8)  # two steps of two pairs


@pytest.mark.parametrize("name", BLOCKS)
def test_an_ablation_finds_it_again(name, tmp_path):
    """The flat recipe of a run, loaded where nobody has seen the part before, as the training's process is."""
    path = tmp_path / f"{name}.py"
    path.write_text(BLOCKS[name])
    (table,) = plan(
        [], [path], folder=tmp_path / "out", paper_recipes=tmp_path, data=tmp_path, seeds=[1], changes={"lr": 0.5}
    )
    (planned,) = unique_runs([table])
    planned.write()
    before = load_recipe(path, {})
    for registry in (MARGIN_HEADS, QUALITY_SOURCES, QUEUE_KINDS, DEGRADATION_STEPS, NETWORKS):
        for part in [part for part in registry if registry.file_of(part)]:
            del registry[part]
    found = load_recipe(planned.recipe, {})
    assert (found.qgface, found.degradation, found.network) == (before.qgface, before.degradation, before.network)
    assert found.imports == before.imports == (() if name == "my_degradation" else (str(path),))
    assert found.lr == 0.5


def test_ours_are_not_replaced():
    with pytest.raises(ValueError, match="there is a queue kind 'proxy' already"):
        queue_kind("proxy", QueueKind(lambda size, dim: FeatureQueue(size, dim)))


def test_the_table_of_thresholds():
    rows = re.findall(r"^\| (0\.\d) \|.*\| ([\d.]+) % \|$", GUIDE, re.MULTILINE)
    assert len(rows) == 5
    for b, share in rows:
        expected = 100 * NormalDist().cdf((2 * float(b) - 1) / 0.333)
        assert float(share) == pytest.approx(expected, abs=0.051)
