"""Recipes in a checkout, our miniature. `test_real_checkout.py` has the real one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from checkouts import MINI, ROOT, copy_of, metrics, run, write_recipe
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import write_faces

from qgface_plugin.arcface_torch.attach import attach, detach
from qgface_plugin.arcface_torch.checkout import find_checkout, is_own_config, missing_parts
from qgface_plugin.arcface_torch.doctor import examine
from qgface_plugin.arcface_torch.run import autoload
from qgface_plugin.utils.errors import ConfigError

IN_A_ROW = """
import sys
from qgface_plugin.launch import run_recipe
before = list(sys.path), list(sys.argv)
for recipe in {recipes}:
    run_recipe(recipe)
    assert (list(sys.path), list(sys.argv)) == before and "losses" not in sys.modules
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A user's working directory with data."""
    path = tmp_path_factory.mktemp("user")
    write_faces(path / "data")
    return path


@pytest.fixture(scope="module")
def trained(folder):
    """The output of a recipe in the miniature, and what was printed."""
    done = run(ROOT / "train_v2.py", write_recipe(folder, "first"), cwd=folder, ARCFACE_TORCH=str(MINI))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "work_dirs" / "first", done.stdout


def test_it_writes_what_its_users_expect(trained):
    output, _ = trained
    names = {path.name for path in output.iterdir()}
    assert names == {
        "checkpoint_gpu_0.pt", "metrics.jsonl", "model.pt", "recipe.json", "tensorboard", "training.log",
    }  # fmt: skip
    log = (output / "training.log").read_text()
    assert "Training: " in log and "Global Step: 12" in log and "[dev][12]Accuracy-Flip" in log
    assert "key_of_the_checkout" not in log and ": num_classes" not in log  # in force or not, it would list all
    assert "queue proxy of 6 entries" in log and "6 steps an epoch, 2 epochs" in log
    assert "verifies on dev every 6 steps (the end of each epoch)" in log and "saves after each epoch" in log
    assert f"next: qgface eval-pairs --model {Path('work_dirs/first/model.pt')} --data" in log
    assert log.index("queue proxy of 6 entries") < log.index("Global Step: 2")
    model = torch.load(output / "model.pt")
    assert set(model) == {
        "layer.weight", "layer.bias", "features.weight", "features.bias", "features.running_mean",
        "features.running_var", "features.num_batches_tracked",
    }  # fmt: skip
    assert (model["features.bias"] == 0).all()


def test_every_seam_is_logged_before_and_in_the_log(trained):
    output, printed = trained
    assert f"QGFace's parts are at the 7 seams of {MINI}" in (output / "training.log").read_text()
    assert printed.count("QGFace's parts are at the 7 seams") == 1
    assert f"training in the arcface_torch checkout {MINI}, named by ARCFACE_TORCH" in printed


def test_terms_are_recorded_beside_the_checkouts(trained):
    output, _ = trained
    steps = metrics(output)
    assert [line["step"] for line in steps] == [2, 4, 6, 8, 10, 12]
    assert all(line["loss"] == pytest.approx(line["classification"] + line["contrastive"], rel=1e-5) for line in steps)
    assert any(line["contrastive"] > 0 for line in steps) and steps[-1]["queue_drift"] > 0
    events = EventAccumulator(str(output / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {
        "loss",
        "loss/classification",
        "loss/contrastive",
        "quality/lq_share_view",
        "quality/norm_order",
        "queue/queue_drift",
    } <= set(tags["scalars"])
    assert tags["images"] == ["quality/pairs"] and tags["histograms"] == ["quality/u"]
    assert [event.step for event in events.Images("quality/pairs")] == [1, 6, 11, 12]


def test_the_first_loss_is_the_built_in_hosts(folder, trained):
    """Same data order, views, class centres; only the network is the miniature's own, so it stands in for both."""
    script = (
        "import sys, runpy; sys.path.insert(0, {tests!r}); sys.path.append({mini!r})\n"
        "import backbones; from qgface_plugin.launch import run_recipe; from qgface_plugin.training import build\n"
        "def get_model(name, num_features, features_bias):\n"
        "    from qgface_plugin.models.backbones.common import freeze_bias\n"
        "    model = backbones.get_model(name, num_features=num_features); freeze_bias(model.features); return model\n"
        "build.get_model = get_model\n"
        "run_recipe('builtin.py')\n"
    ).format(tests=str(ROOT / "tests"), mini=str(MINI))
    write_recipe(folder, "builtin")
    done = run("-c", script, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "training with the built-in loop" in done.stdout
    ours, theirs = metrics(folder / "work_dirs" / "builtin"), metrics(trained[0])
    assert [x["loss"] for x in ours] == pytest.approx([x["loss"] for x in theirs], rel=1e-5)


@pytest.mark.parametrize("queue", ["proxy", "momentum"])
def test_resume_continues_with_queue_and_statistics(folder, queue):
    """Two epochs and a third after a resume are three epochs: every loss, so queue, statistics and key encoder. One
    process runs all three, so nothing of a run may be left to the next."""
    step = f"config.qgface.queue = {queue!r}\nconfig.frequent = 1\nconfig.qgface.key_momentum = 0.9\n"
    step += f"config.output = 'work_dirs/{queue}_two'\n"
    step += "config.qgface.train.update(schedule='step', milestones=(1,))\n"
    for name, extra in (
        ("two", ""),
        ("on", "config.num_epoch = 3\nconfig.resume = True\n"),
        ("three", f"config.num_epoch = 3\nconfig.output = 'work_dirs/{queue}_three'\n"),
    ):
        write_recipe(folder, f"{queue}_{name}", step + extra)
    recipes = [f"{queue}_{name}" for name in ("two", "on", "three")]
    done = run("-c", IN_A_ROW.format(recipes=recipes), cwd=folder, ARCFACE_TORCH=str(MINI))
    assert done.returncode == 0, done.stderr
    resumed, straight = (metrics(folder / "work_dirs" / f"{queue}_{name}") for name in ("two", "three"))
    assert [line["step"] for line in resumed] == list(range(1, 19))
    for key in ("loss", "contrastive", "norm_mean", "norm_std", "queue_fill", "queue_drift"):
        assert [line[key] for line in resumed] == [line[key] for line in straight], key
    assert straight[-1]["contrastive"] != 0


def test_its_own_configs_train_without_qgface(folder):
    script = IN_A_ROW.format(recipes=["first.py", "configs/tiny_r18"])
    done = run("-c", script, cwd=folder, ARCFACE_TORCH=str(MINI))
    assert done.returncode == 0, done.stderr
    own = done.stdout[done.stdout.index("is a config of the checkout: it trains what it says, without QGFace") :]
    assert " QGFace's parts" not in own and "Contrastive" not in own and "Global Step: 2" in own
    assert (folder / "work_dirs" / "tiny_r18" / "model.pt").exists()
    assert not (folder / "work_dirs" / "tiny_r18" / "metrics.jsonl").exists()

    done = run(ROOT / "train_v2.py", "configs/nothing", cwd=folder, ARCFACE_TORCH=str(MINI))
    assert done.returncode == 2 and "has no config configs/nothing" in done.stderr and "Traceback" not in done.stderr


def test_a_checkout_that_version_0_1_has_attached(folder, tmp_path):
    """It trains, and its line's notice names the new one; then it is detached, byte for byte."""
    checkout = copy_of(MINI, tmp_path / "checkout")
    script = checkout / "train_v2.py"
    before = script.read_bytes()
    script.write_bytes(b"import qgface_plugin.hosts.autoload  # added by qgface_plugin attach\n" + before)
    done = run(script, write_recipe(folder, "former", "config.num_epoch = 1\n"), cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "QGFace's parts are at the 7 seams" in done.stdout and "Contrastive" in done.stdout
    assert done.stderr.count("has moved") == 1
    assert f"{script}:1: FutureWarning: qgface_plugin.hosts.autoload has moved" in done.stderr
    assert "write `import qgface_plugin.arcface_torch.autoload`" in done.stderr
    assert examine(str(checkout)).checkout["attached"] == "yes"
    detach(checkout)
    assert script.read_bytes() == before


def test_in_the_checkout_with_one_line_on_top(folder, tmp_path):
    """Its train_v2.py imports autoload; the seams are filled once when our train_v2.py starts the same file."""
    checkout = copy_of(MINI, tmp_path / "checkout")
    script = checkout / "train_v2.py"
    script.write_text("import qgface_plugin.arcface_torch.autoload  # noqa: F401\n" + script.read_text())
    recipe = write_recipe(folder, "inside", "config.num_epoch = 1\n")
    for command in ([script], [ROOT / "train_v2.py"]):
        done = run(*command, recipe, cwd=folder, ARCFACE_TORCH=str(checkout))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("QGFace's parts are at the 7 seams") == 1 and "Contrastive" in done.stdout
    own = run(script, "configs/tiny_r18", cwd=tmp_path)
    assert own.returncode == 0 and " QGFace's parts" not in own.stdout and "Global Step: 2" in own.stdout
    assert own.stdout.count("trains what it says, without QGFace") == 1
    wrong = run(script, write_recipe(folder, "wrong", "config.qgface.quue = 1\n"), cwd=folder)
    assert wrong.returncode == 2 and "config.qgface.quue is unknown" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    assert run(script, "--help", cwd=tmp_path).returncode == 0


def test_torchrun_with_two_ranks(folder, trained):
    recipe = write_recipe(folder, "two_ranks", "config.batch_size = 4\nconfig.num_epoch = 1\nconfig.frequent = 1\n")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    done = run(*launcher, ROOT / "train_v2.py", recipe, cwd=folder, ARCFACE_TORCH=str(MINI))
    assert done.returncode == 0, done.stderr
    output = folder / "work_dirs" / "two_ranks"
    assert {"checkpoint_gpu_0.pt", "checkpoint_gpu_1.pt", "model.pt"} <= {path.name for path in output.iterdir()}
    shards = [torch.load(output / f"checkpoint_gpu_{r}.pt")["state_dict_softmax_fc"]["weight"] for r in (0, 1)]
    assert [len(shard) for shard in shards] == [3, 3] and not torch.equal(*shards)
    assert len(metrics(output)) == 6


def test_the_checkout_is_found_in_this_order(tmp_path, monkeypatch):
    one, two, three = (copy_of(MINI, tmp_path / name) for name in ("one", "two", "three"))
    monkeypatch.chdir(three)
    assert find_checkout(str(one), {"ARCFACE_TORCH": str(two)}) == (one, "config.host")
    assert find_checkout(None, {"ARCFACE_TORCH": str(two)}) == (two, "ARCFACE_TORCH")
    assert find_checkout(None, {"ARCFACE_TORCH": ""}) == (three, "the working directory")
    monkeypatch.chdir(tmp_path)
    assert find_checkout("one", {}) == (one, "config.host")
    assert find_checkout(None, {}) is None


def test_this_project_is_no_checkout():
    assert missing_parts(ROOT)


def test_a_folder_that_is_no_checkout_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"ARCFACE_TORCH names .* \(train_v2.py is not there\): name the folder of"):
        find_checkout(None, {"ARCFACE_TORCH": str(tmp_path)})
    copy_of(MINI, tmp_path / "insightface" / "recognition" / "arcface_torch")
    with pytest.raises(ConfigError, match=r"config.host names .*did you mean .*recognition/arcface_torch\?"):
        find_checkout(str(tmp_path / "insightface"), {})


def test_own_configs_are_named_as_its_users_do():
    assert is_own_config("configs/ms1mv3_r50", MINI) and is_own_config("configs/ms1mv3_r50.py", MINI)
    assert not is_own_config("recipes/qgface_r34.py", MINI) and not is_own_config("/data/configs/mine.py", MINI)


def test_a_file_where_the_user_stands_comes_before_the_checkouts_of_that_name(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(MINI)
    assert is_own_config("configs/tiny_r18", MINI) and is_own_config("configs/tiny_r18.py", MINI)
    (folder / "configs").mkdir()
    recipe = write_recipe(folder / "configs", "tiny_r18", "config.num_epoch = 1\nconfig.output = 'work_dirs/of_user'\n")
    monkeypatch.chdir(folder)
    assert not is_own_config("configs/tiny_r18", MINI) and not is_own_config("configs/tiny_r18.py", MINI)
    done = run(ROOT / "train_v2.py", "configs/tiny_r18", cwd=folder, ARCFACE_TORCH=str(MINI))
    assert done.returncode == 0, done.stderr
    assert "Contrastive" in done.stdout and (folder / "work_dirs" / "of_user" / "recipe.json").exists()
    recipe.unlink()


@pytest.mark.parametrize("inside", [False, True])
def test_a_recipe_among_the_checkouts_own_configs_is_refused(folder, tmp_path, inside):
    checkout = copy_of(MINI, tmp_path / "checkout")
    write_recipe(checkout / "configs", "mine")
    if inside:
        attach(checkout)
    script = checkout / "train_v2.py" if inside else ROOT / "train_v2.py"
    done = run(script, "configs/mine.py", cwd=checkout if inside else folder, ARCFACE_TORCH=str(checkout))
    assert done.returncode == 2 and "configs/mine.py sets config.qgface" in done.stderr, done.stderr
    assert "move the file out of" in done.stderr and "Traceback" not in done.stderr
    assert not (checkout / "work_dirs").exists()


def test_what_the_scripts_own_optimizer_ignores_is_named(folder):
    recipe = write_recipe(folder, "momentum", "config.num_epoch = 1\nconfig.momentum = 0.5\n")
    done = run(ROOT / "train_v2.py", recipe, cwd=folder, ARCFACE_TORCH=str(MINI))
    assert done.returncode == 0, done.stderr
    line = "config.momentum = 0.5 has no effect in this checkout: its script trains with 0.9"
    assert done.stdout.count(line) == 1 and "config.lr = " not in done.stdout


def test_autoload_is_for_a_checkouts_train_v2(monkeypatch):
    with pytest.raises(ConfigError, match="is for the train_v2.py of an arcface_torch checkout, not "):
        autoload()
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    with pytest.raises(ConfigError, match="checkout, not -"):
        autoload()
