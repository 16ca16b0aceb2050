"""The real arcface_torch, where ARCFACE_TORCH names a checkout: `pytest -m arcface_torch`, or without the long ones
`pytest -m "arcface_torch and not long"`."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import pytest
import torch
from checkouts import ROOT, copy_of, metrics, real_checkout, run, write_recipe
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import write_faces

from qgface_plugin.config import Run
from qgface_plugin.data.bin_files import read_bin, write_bin
from qgface_plugin.evaluation.protocols.pair_sets import verify
from qgface_plugin.models.backbones import get_model

pytestmark = pytest.mark.arcface_torch

REAL = """
from easydict import EasyDict as edict
config = edict(network="{network}", embedding_size=512, rec="data", batch_size=2, num_epoch=1, lr=0.01, num_workers=0,
               frequent=1, val_targets=["dev"], verbose=24, optimizer="{optimizer}")
config.qgface = edict(b=0.5, queue="{queue}", train=edict(features_bias=False, threads=1, pair_grid_every=10))
"""
OWN = """
from easydict import EasyDict as edict
config = edict(margin_list=(1.0, 0.5, 0.0), network="mbf", resume=False, output=None, embedding_size=512,
               sample_rate=1.0, fp16=False, momentum=0.9, weight_decay=5e-4, batch_size=2, lr=0.02, verbose=2000,
               frequent=1, dali=False, rec="data", num_classes=6, num_image=48, num_epoch=1, warmup_epoch=0,
               val_targets=[], num_workers=0)
"""
BACKBONES = (
    ("r18", "sgd"), ("r34", "sgd"), ("r50", "sgd"), ("r100", "sgd"), ("r200", "sgd"), ("mbf", "sgd"),
    ("mbf_large", "adamw"), ("vit_t", "adamw"), ("vit_t_dp005_mask0", "adamw"), ("vit_s", "adamw"),
    ("vit_s_dp005_mask_0", "adamw"), ("vit_b", "adamw"), ("vit_b_dp005_mask_005", "adamw"),
    ("vit_l_dp005_mask_005", "adamw"), ("vit_h", "sgd"),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A user's working directory with data."""
    path = tmp_path_factory.mktemp("user")
    write_faces(path / "data")
    return path


def recipe_in(folder: Path, name: str, extra: str = "", network="mbf", queue="proxy", optimizer="sgd") -> Path:
    text = REAL.format(network=network, queue=queue, optimizer=optimizer)
    return write_recipe(folder, name, f"config.output = 'work_dirs/{name}'\n{extra}", recipe=text)


def trained(folder: Path, recipe: Path, *launcher: str, checkout: Path | None = None, limit: int = 300) -> str:
    """What train_v2.py prints."""
    checkout = checkout or real_checkout()
    done = run(*launcher, ROOT / "train_v2.py", recipe, cwd=folder, limit=limit, ARCFACE_TORCH=str(checkout))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("network", "queue", "optimizer"), [("mbf", "proxy", "sgd"), ("r18", "momentum", "adamw")])
def test_it_trains_and_writes_what_its_users_expect(folder, network, queue, optimizer):
    trained(folder, recipe_in(folder, f"real_{network}", network=network, queue=queue, optimizer=optimizer))
    output = folder / "work_dirs" / f"real_{network}"
    log = (output / "training.log").read_text()
    assert log.count("QGFace's parts are at the 7 seams") == 1 and "Speed " in log and "[dev][24]Accuracy-Flip" in log
    names = {path.name for path in output.iterdir()}
    assert {"checkpoint_gpu_0.pt", "model.pt", "tensorboard"} <= names and len(metrics(output)) == 24


@pytest.mark.long
@pytest.mark.parametrize(("network", "optimizer"), BACKBONES)
def test_every_backbone_trains(tmp_path, network, optimizer):
    """Two steps of two pairs in its own loop. vit_* need timm and torchvision."""
    if network.startswith("vit"):
        pytest.importorskip(
            "timm", reason="timm or the torchvision that it needs does not import", exc_type=ImportError
        )
    write_faces(tmp_path / "data", identities=4, images=1)
    recipe = recipe_in(tmp_path, network, "config.val_targets = []\n", network=network, optimizer=optimizer)
    trained(tmp_path, recipe, limit=1800)
    losses = [line["loss"] for line in metrics(tmp_path / "work_dirs" / network)]
    assert len(losses) == 2 and all(torch.tensor(losses).isfinite())
    weights = torch.load(tmp_path / "work_dirs" / network / "model.pt", weights_only=True)
    assert all(value.isfinite().all() for value in weights.values())


def test_the_loop_computes_what_the_built_in_one_does(folder):
    """20 steps of one recipe, float32, one process. arcface_torch rounds gradients to float16 before DDP adds them up,
    also when there is one process only; a run of both without that rounding must agree."""
    script = (
        "from torch.distributed.algorithms.ddp_comm_hooks import default_hooks as hooks\n"
        "hooks.fp16_compress_hook = hooks.allreduce_hook\n"
        "from qgface_plugin.launch import run_recipe\nrun_recipe('{}')\n"
    )
    for name in ("parity_real", "parity_builtin"):
        recipe_in(folder, name, "config.val_targets = []\n")
    real = run("-c", script.format("parity_real"), cwd=folder, ARCFACE_TORCH=str(real_checkout()))
    ours = run("-c", script.format("parity_builtin"), cwd=folder)
    assert (real.returncode, ours.returncode) == (0, 0), real.stderr + ours.stderr
    curves = [metrics(folder / "work_dirs" / name)[:20] for name in ("parity_real", "parity_builtin")]
    assert len(curves[0]) == 20
    assert [x["loss"] for x in curves[0]] == pytest.approx([x["loss"] for x in curves[1]], rel=1e-4)


@pytest.mark.parametrize("queue", ["proxy", "momentum"])
def test_two_ranks_resume_with_queue_and_statistics(tmp_path, queue):
    """torchrun, two ranks: two epochs and a third one after a resume are three epochs, loss by loss."""
    write_faces(tmp_path / "data", identities=4, images=4)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    steady = "config.val_targets = []\nconfig.qgface.train.update(schedule='step', milestones=(1,))\n"
    for name, extra in (("straight", "config.num_epoch = 3\n"), ("resumed", "config.num_epoch = 2\n")):
        trained(tmp_path, recipe_in(tmp_path, name, steady + extra, queue=queue), *launcher)
    more = "config.num_epoch = 3\nconfig.resume = True\n"
    trained(tmp_path, recipe_in(tmp_path, "resumed", steady + more, queue=queue), *launcher)
    straight, resumed = (metrics(tmp_path / "work_dirs" / name) for name in ("straight", "resumed"))
    assert [line["step"] for line in resumed] == list(range(1, 13))
    for key in ("loss", "contrastive", "norm_mean", "norm_std", "queue_fill", "queue_drift"):
        assert [line[key] for line in resumed] == [line[key] for line in straight], key
    assert straight[-1]["contrastive"] != 0
    shards = [torch.load(tmp_path / "work_dirs" / "resumed" / f"checkpoint_gpu_{r}.pt") for r in (0, 1)]
    assert [len(shard["state_dict_softmax_fc"]["weight"]) for shard in shards] == [2, 2]


def test_its_base_config_has_our_names_and_defaults():
    base = runpy.run_path(str(real_checkout() / "configs" / "base.py"))["config"]
    assert len(base) > 20
    assert {key for key, value in base.items() if getattr(Run(), key) != value} == {"output", "wandb_key"}


def test_its_own_configs_train_the_same_with_and_without_the_plugin(folder, tmp_path):
    """Plain ArcFace: repaired only, through our train_v2.py, and with the line that `attach` writes."""
    checkout = copy_of(real_checkout(), tmp_path / "checkout")
    (checkout / "configs" / "small_mbf.py").write_text(OWN)
    plain = run("-m", "qgface_plugin", "run", checkout / "train_v2.py", "configs/small_mbf", cwd=folder)
    assert plain.returncode == 0, plain.stderr
    output = folder / "work_dirs" / "small_mbf"

    def losses() -> list[float]:
        events = EventAccumulator(str(output / "tensorboard"))
        events.Reload()
        values = [event.value for event in events.Scalars("loss")]
        shutil.rmtree(output)
        return values

    found = losses()
    assert len(found) == 23  # the host's first step only starts its clock
    printed = trained(folder, Path("configs/small_mbf"), checkout=checkout)
    assert "without QGFace" in printed and losses() == found
    attach = run("-m", "qgface_plugin", "attach", checkout, cwd=folder)
    inside = run(checkout / "train_v2.py", "configs/small_mbf", cwd=folder)
    assert (attach.returncode, inside.returncode) == (0, 0), inside.stderr
    assert "QGFace's parts" not in inside.stdout and losses() == found


def test_its_verification_callback_agrees_with_the_built_in_one(tmp_path, lfw):
    """On 200 real pairs: accuracy in TensorBoard, and XNorm in the log, of the weights that it saved then."""
    write_faces(tmp_path / "data", identities=4, images=2)
    pairs = read_bin(lfw / "train" / "lfw_dev.bin")
    chosen = range(0, len(pairs.same), 5)
    images = [pairs.images[2 * pair + side] for pair in chosen for side in (0, 1)]
    write_bin(tmp_path / "data" / "lfw_dev.bin", images, [bool(pairs.same[pair]) for pair in chosen])
    trained(tmp_path, recipe_in(tmp_path, "callback", "config.val_targets = ['lfw_dev']\nconfig.verbose = 4\n"))
    output = tmp_path / "work_dirs" / "callback"
    events = EventAccumulator(str(output / "tensorboard"))
    events.Reload()
    (accuracy,) = events.Scalars("lfw_dev")
    backbone = get_model("mbf", num_features=512, features_bias=False)
    backbone.load_state_dict(torch.load(output / "model.pt", weights_only=True))
    ours = verify(backbone, read_bin(tmp_path / "data" / "lfw_dev.bin"))
    assert accuracy.step == 4 and accuracy.value == pytest.approx(ours.accuracy, abs=1e-6)
    assert 0.4 < ours.accuracy < 1.0 and len(chosen) == 200
    (line,) = [line for line in (output / "training.log").read_text().splitlines() if "[lfw_dev][4]XNorm: " in line]
    assert float(line.rpartition(" ")[2]) == pytest.approx(ours.xnorm, rel=1e-5)
