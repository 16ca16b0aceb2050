"""Ranks that differ: each difference is refused by all, by key, host and both values, before anything is written."""

from __future__ import annotations

import json
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from tiny import tiny_model, tiny_run, write_faces

from qgface_plugin.config.method import QGFaceConfig
from qgface_plugin.config.options import DataOptions, TrainOptions
from qgface_plugin.config.run import Run
from qgface_plugin.training import agreement, build
from qgface_plugin.training.trainer import train
from qgface_plugin.utils import distributed
from qgface_plugin.utils.errors import ConfigError, DataError

OTHERS = {  # what rank 1 has: (fields of its run, what the message says)
    "lr": (dict(lr=0.5), "config.lr is 0.05 on rank 0 ({host}) and 0.5 on rank 1 ({host})"),
    "momentum": (dict(momentum=0.0), "config.momentum is 0.9 on rank 0 ({host}) and 0.0 on rank 1"),
    "seed": (dict(seed=4), "config.seed is 3 on"),
    "accumulate": (dict(gradient_acc=2), "config.gradient_acc is 1 on"),
    "method": (dict(qgface=QGFaceConfig(s=12.0)), "config.qgface.s is 64.0 on"),
    "queue": (dict(qgface=QGFaceConfig(queue_size=10)), "config.qgface.queue_size is None on"),
    "single views": (
        dict(degradation=None, qgface=QGFaceConfig(queue="none")),
        "config.qgface.degradation is absent on rank 0 ({host}) and None on rank 1",
    ),
    "steps": (dict(train=TrainOptions(max_steps=2)), "config.qgface.train.max_steps is None on"),
    "source": (dict(data=DataOptions(source="folder")), "config.qgface.data.source is 'recordio' on"),
    "resume": (dict(resume=True), "config.resume is False on"),
    "output": (dict(output="elsewhere"), "config.output is "),
    "weights": (dict(init_from="model.pt"), "SHA-256 of config.init_from is absent on"),
    "fewer images": (dict(rec="fewer"), "bytes of train.rec is "),
    "other property": (dict(rec="property"), "property beside train.rec is absent on rank 0 ({host}) and 7,112,112"),
}


def work(rank: int, name: str) -> None:
    torch.set_num_threads(1)
    folder, said = Path(name), {}
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    build.get_model = tiny_model
    for case, (changes, _) in OTHERS.items():
        changes = {k: str(folder / v) if k in ("output", "rec", "init_from") else v for k, v in changes.items()}
        run = tiny_run(folder, **changes) if rank else tiny_run(folder)
        try:
            train(run)
            said[case] = "trained"
        except (ConfigError, DataError) as error:
            said[case] = str(error)
        distributed.barrier()
        said[case + " left"] = sorted(path.name for path in folder.glob("out*")) + sorted(folder.glob("elsewhere"))
    same = (
        tiny_run(folder, num_epoch=1, output=str(folder / "." / "out")) if rank == 0 else tiny_run(folder, num_epoch=1)
    )
    if rank:  # the same data at another path, more threads of the loader and another name: hosts may have their own
        same = replace(same, rec=str(folder / "copy"), num_workers=1, name="other")
    train(same)
    said["same"] = (folder / "out" / "model.pt").exists()
    torch.distributed.destroy_process_group()
    (folder / f"said{rank}.json").write_text(json.dumps(said))


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("agreement")
    write_faces(folder / "data")
    write_faces(folder / "fewer", images=7)
    for name in ("copy", "property"):
        shutil.copytree(folder / "data", folder / name)
    (folder / "property" / "property").write_text("7,112,112\n")
    (folder / "model.pt").write_bytes(b"weights")
    mp.spawn(work, args=(str(folder),), nprocs=2)
    return [json.loads((folder / f"said{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("case", OTHERS)
def test_a_difference_is_refused_by_all_ranks_with_both_values(said, case):
    expected = OTHERS[case][1].format(host=socket.gethostname())
    assert said[0][case].startswith("the ranks do not agree: ") and expected in said[0][case]
    assert said[1][case] == said[0][case]
    assert said[0][case + " left"] == said[1][case + " left"] == []


def test_what_hosts_may_have_their_own_of_is_no_difference(said):
    assert said[0]["same"] and said[1]["same"]


def everyone(monkeypatch, *others):
    """What other ranks say; `None`: the same as this one."""

    def gather(value):
        return [
            value,
            *(value if other is None else (other[0], {**value[1], **other[1]}, value[2]) for other in others),
        ]

    monkeypatch.setattr(agreement.distributed, "gather_objects", gather)


def test_another_version_on_another_host_is_named(monkeypatch):
    everyone(monkeypatch, None, ("far", {"version of torch": "1.0"}))
    with pytest.raises(ConfigError, match=r"version of torch is .* and 1\.0 on rank 2 \(far\)"):
        agreement.check_recipes(Run())


def test_many_differences_are_counted(monkeypatch):
    everyone(monkeypatch, ("far", {f"key {i}": str(i) for i in range(9)}))
    with pytest.raises(ConfigError, match=r"key 4 is absent on .*; and 4 more on rank 1"):
        agreement.check_recipes(Run())
