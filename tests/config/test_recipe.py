"""Recipes: what is taken from them, and what is refused with the file's name."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
from paths import RECIPES

from qgface_plugin.config import load_config, load_recipe
from qgface_plugin.config.degradation import ADAFACE, OURS
from qgface_plugin.config.method import AUTHORS, QGFaceConfig
from qgface_plugin.utils.errors import ConfigError

HEAD = "from easydict import EasyDict as edict\nconfig = edict()\nconfig.qgface = edict()\n"


def write(folder: Path, body: str, name: str = "try_it.py", head: str = HEAD) -> Path:
    path = folder / name
    path.write_text(head + body)
    return path


def test_an_empty_recipe_is_the_defaults(tmp_path):
    run = load_recipe(write(tmp_path, ""), environ={})
    assert (run.name, run.output, run.rec, run.val_targets) == ("try_it", "work_dirs/try_it", None, ())
    assert run.set_keys == {"qgface"}
    assert run.qgface == QGFaceConfig()


def test_what_a_recipe_sets_is_taken(tmp_path):
    body = """
config.network = "mbf"
config.lr = 0.2
config.output = "elsewhere"
config.rec = ["a", "b"]
config.val_targets = ["lfw_dev"]
config.num_epoch = 12
config.qgface.authors = True
config.qgface.b = 0.3
config.qgface.degradation = "adaface"
config.qgface.data = edict(on_corrupt="skip")
config.qgface.train = edict(schedule="step", milestones=[6, 9], precision="bfloat16")
"""
    run = load_recipe(write(tmp_path, body), environ={})
    assert (run.network, run.lr, run.output, run.rec) == ("mbf", 0.2, "elsewhere", ("a", "b"))
    assert run.val_targets == ("lfw_dev",)
    assert run.qgface == QGFaceConfig(**AUTHORS, b=0.3)
    assert run.degradation == ADAFACE
    assert (run.data.on_corrupt, run.train.milestones, run.train.precision) == ("skip", (6, 9), "bfloat16")
    assert run.set_keys == {"network", "lr", "output", "rec", "val_targets", "num_epoch", "qgface"}


def test_an_arcface_torch_config_loads_and_py_may_be_left_out(tmp_path):
    head = "from easydict import EasyDict as edict\nconfig = edict()\n"
    body = """
config.margin_list = (1.0, 0.5, 0.0)
config.network = "r50"
config.resume = False
config.output = None
config.embedding_size = 512
config.sample_rate = 1.0
config.fp16 = True
config.momentum = 0.9
config.weight_decay = 5e-4
config.batch_size = 128
config.lr = 0.1
config.verbose = 2000
config.dali = False
config.rec = "/train_tmp/ms1m-retinaface-t1"
config.num_classes = 93431
config.num_image = 5179510
config.num_epoch = 20
config.warmup_epoch = config.num_epoch // 10
config.val_targets = ['lfw', 'cfp_fp', "agedb_30"]
"""
    write(tmp_path, body, "ms1mv3_r50.py", head)
    run = load_recipe(tmp_path / "ms1mv3_r50", environ={})
    assert (run.name, run.output, run.num_classes, run.warmup_epoch) == ("ms1mv3_r50", "work_dirs/ms1mv3_r50", 93431, 2)


def test_single_views(tmp_path):
    body = "config.qgface.degradation = None\nconfig.qgface.queue = 'none'\n"
    assert load_recipe(write(tmp_path, body), environ={}).degradation is None


def test_data_root_overrides_rec_and_is_logged(tmp_path, caplog):
    path = write(tmp_path, "config.rec = '/train_tmp/faces'\n")
    with caplog.at_level(logging.INFO, logger="qgface_plugin"):
        assert load_recipe(path, environ={"DATA_ROOT": "/data/faces"}).rec == "/data/faces"
    assert "DATA_ROOT = /data/faces takes the place of config.rec = '/train_tmp/faces'" in caplog.text
    assert load_recipe(path, environ={"DATA_ROOT": ""}).rec == "/train_tmp/faces"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("config.batchsize = 2", r"try_it\.py: config\.batchsize .*batch_size"),
        ("config.lr = '0.1'", r"try_it\.py: config\.lr is '0\.1'"),
        ("config.qgface.quue = 'proxy'", r"config\.qgface\.quue .*queue"),
        ("config.qgface.trian = edict()", r"config\.qgface\.trian .*train"),
        ("config.qgface.train = edict(milestone=1)", r"config\.qgface\.train\.milestone .*milestones"),
        ("config.qgface.train = 'step'", r"config\.qgface\.train is 'step'"),
        ("config.qgface = 5", r"config\.qgface is 5"),
        ("config.b = 0.2", r"config\.b .* belongs in config\.qgface$"),
        ("config.train = edict()", r"config\.train .* belongs in config\.qgface$"),
        ("config.qgface.gamma = 0.1", r"config\.qgface\.gamma .* belongs in config\.qgface\.train$"),
        ("config.qgface.data = edict(gamma=0.1)", r"config\.qgface\.data\.gamma .* belongs in config\.qgface\.train$"),
        ("config.qgface.lr = 0.1", r"config\.qgface\.lr .* belongs in config$"),
        ("config.name = 'x'", r"config\.name is unknown"),
    ],
)
def test_keys_and_values_that_do_not_fit_name_the_file(tmp_path, body, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe(write(tmp_path, body), environ={})


@pytest.mark.parametrize("name", ["absent.py", "absent"])
def test_a_recipe_that_is_not_there(tmp_path, name):
    with pytest.raises(ConfigError, match=rf"there is no recipe .*{name}: name a Python file"):
        load_recipe(tmp_path / name)


def test_a_folder_is_no_recipe(tmp_path):
    with pytest.raises(ConfigError, match="there is no recipe"):
        load_recipe(tmp_path)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", r"try_it\.py has no `config`"),
        ("config = 5", r"try_it\.py has a `config` of type int"),
        ("x = 1\ny = x / 0", r"try_it\.py fails: ZeroDivisionError: division by zero \(line 2\)"),
        ("x = 1\nif x\n", r"try_it\.py fails: SyntaxError: .* \(line 2\)"),
        ("import qgface_no_such_module", r"try_it\.py fails: ModuleNotFoundError: .*qgface_no_such_module"),
        ("raise SystemExit(3)", r"try_it\.py fails: SystemExit: 3"),
    ],
)
def test_a_recipe_that_fails_or_has_no_config(tmp_path, body, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe(write(tmp_path, body, head=""))


def test_the_original_error_is_kept(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_recipe(write(tmp_path, "1 / 0"))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_recipe_starts_from_another_one_and_leaves_it_alone(tmp_path):
    base = write(tmp_path, "config.lr = 0.2\nconfig.qgface.b = 0.3\n", "base.py")
    head = "from qgface_plugin.config import load_config\nconfig = load_config(__file__, 'base.py')\n"
    derived = write(tmp_path, "config.lr = 0.4\nconfig.qgface.b = 0.1\n", "derived.py", head)
    run = load_recipe(derived, environ={})
    assert (run.name, run.output, run.lr, run.qgface.b) == ("derived", "work_dirs/derived", 0.4, 0.1)
    assert (load_recipe(base, environ={}).lr, load_recipe(base, environ={}).qgface.b) == (0.2, 0.3)


def test_load_config_is_fresh_each_time(tmp_path):
    base = write(tmp_path, "config.lr = 0.2\n", "base.py")
    first = load_config(base, "base.py")
    first.lr, first.qgface.b = 1.0, 1.0
    assert load_config(base, "base.py") == {
        "lr": 0.2,
        "qgface": {"data": {}, "train": {}, "finetune": {}, "verify": {}},
    }


@pytest.mark.parametrize("groups", ["", "config.qgface = edict()\n", "config.qgface = dict(b=0.3, data={})\n"])
def test_load_config_makes_the_groups_that_the_other_recipe_lacks(tmp_path, groups):
    head = "from easydict import EasyDict as edict\nconfig = edict(lr=0.2)\n"
    write(tmp_path, groups, "base.py", head)
    body = "config.qgface.data.source = 'folder'\nconfig.qgface.train.device = 'cpu'\nconfig.qgface.m = 0.5\n"
    head = "from qgface_plugin.config import load_config\nconfig = load_config(__file__, 'base.py')\n"
    run = load_recipe(write(tmp_path, body, "derived.py", head), environ={})
    assert (run.lr, run.data.source, run.train.device, run.qgface.m) == (0.2, "folder", "cpu", 0.5)
    assert run.degradation == OURS


def test_load_config_leaves_the_degradation_as_it_is(tmp_path):
    write(tmp_path, "config.qgface.degradation = None\nconfig.qgface.queue = 'none'\n", "base.py")
    head = "from qgface_plugin.config import load_config\nconfig = load_config(__file__, 'base.py')\n"
    assert load_recipe(write(tmp_path, "", "derived.py", head), environ={}).degradation is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("config.lr = 0.1\nconfig.qgface.data.source = 'folder'", r"no group config\.qgface yet: .* \(line 4\)$"),
        ("config.qgface = edict()\nconfig.qgface.data.source = 1", r"no group config\.qgface\.data yet: .*\(line 4\)$"),
        (
            "config.qgface = edict()\ntrain = config.qgface.train\n",
            r"no group config\.qgface\.train yet: write `config\.qgface\.train = EasyDict\(\)` .*\(line 4\)$",
        ),
        (
            "config.qgface = edict()\nconfig.qgface.degradation.policy = 'ours'",
            r"no group config\.qgface\.degradation yet: .*\(line 4\)$",
        ),
        ("config.warmup_epoch = config.num_epoch // 10", r"config\.num_epoch is read, but not set before \(line 3\)$"),
    ],
)
def test_a_group_or_key_that_is_not_set_yet_is_named_with_file_and_line(tmp_path, body, message):
    head = "from easydict import EasyDict as edict\nconfig = edict()\n"
    with pytest.raises(ConfigError, match=rf"try_it\.py fails: .*{message}"):
        load_recipe(write(tmp_path, body, head=head), environ={})


def test_a_recipe_that_starts_from_itself(tmp_path):
    head = "from qgface_plugin.config import load_config\nconfig = load_config(__file__, '{}')\n"
    one = write(tmp_path, "", "one.py", head.format("two.py"))
    write(tmp_path, "", "two.py", head.format("one.py"))
    with pytest.raises(ConfigError, match=r"one\.py starts from itself, directly or by way of another recipe"):
        load_recipe(one)


def test_an_error_in_the_other_recipe_names_both(tmp_path):
    write(tmp_path, "1 / 0", "base.py")
    head = "from qgface_plugin.config import load_config\nconfig = load_config(__file__, 'base.py')\n"
    with pytest.raises(ConfigError, match=r"derived\.py: .*base\.py fails: ZeroDivisionError"):
        load_recipe(write(tmp_path, "", "derived.py", head))


@pytest.mark.parametrize("line", ["from beside import config", "from {folder}.beside import config"])
def test_imported_modules_beside_a_recipe_are_forgotten(tmp_path, line):
    folder = tmp_path / "recipes_of_a_test"
    folder.mkdir()
    write(folder, "config.lr = 0.2\n", "beside.py")
    path, modules = list(sys.path), set(sys.modules)
    derived = write(folder, "config.lr = config.lr * 2\n", "derived.py", line.format(folder=folder.name) + "\n")
    assert load_recipe(derived, environ={}).lr == 0.4
    assert load_recipe(derived, environ={}).lr == 0.4
    assert sys.path == path
    assert set(sys.modules) == modules


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.py")), ids=lambda path: path.stem)
def test_the_projects_recipes_are_valid(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a recipe may make its data
    monkeypatch.setenv("INIT_FROM", "model.pt")  # of those that start from an encoder
    run = load_recipe(path, environ={})
    assert run.output == f"work_dirs/{path.stem}"
