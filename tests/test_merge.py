"""tools/merge_checkpoint.py: one file of the ranks' ones, ours and arcface_torch's, and what it refuses."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from paths import TOOLS
from test_reshard import CLASSES, LIMIT, entries, part, whole
from tiny import same, tiny_model, tiny_run, write_faces

from qgface_plugin.config.method import QGFaceConfig
from qgface_plugin.config.options import TrainOptions
from qgface_plugin.hosts import parts
from qgface_plugin.hosts.builtin import train
from qgface_plugin.utils.torch_files import save

TOOL = TOOLS / "merge_checkpoint.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("merge_checkpoint", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def write(folder: Path, ranks: int, step: int = 7, foreign: bool = False) -> None:
    """The checkpoints of `ranks` ranks, with or without what the built-in host adds."""
    for rank in range(ranks):
        state = {**part(rank, ranks), "global_step": step}
        if foreign:
            del state["qgface"]
            state["state_dict_softmax_fc"] = {"weight": state["state_dict_softmax_fc"]["weight"]}
            torch.save(state, folder / f"checkpoint_gpu_{rank}.pt")
            continue
        recipe = {"num_classes": CLASSES, "qgface": {"queue": "proxy", "queue_size": LIMIT}}
        state["qgface"] = {**state["qgface"], "run_id": "a", "recipe": recipe}
        save(folder / f"checkpoint_gpu_{rank}.pt", state)


def test_one_file_of_four(tmp_path, tool, capsys):
    write(tmp_path, 4)
    assert tool([str(tmp_path), "--json", str(tmp_path / "report.json")]) == 0
    merged = torch.load(tmp_path / "checkpoint_merged.pt", weights_only=True)
    assert torch.equal(merged["state_dict_softmax_fc"]["weight"], whole()["weight"])
    assert torch.equal(merged["state_optimizer"]["state"][1]["momentum_buffer"], whole()["momentum"])
    alone = [entry for entry in entries(part(0, 1)) if entry[0] >= 40]
    assert entries(merged) == sorted(alone) and len(alone) == LIMIT
    assert merged["qgface"]["world_size"] == 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["classes"] == CLASSES and report["queue_entries"] == LIMIT and report["global_step"] == 7
    out = capsys.readouterr().out
    assert "merged         4 files" in out and "queue_entries  20" in out


def test_arcface_torchs_files(tmp_path, tool):
    write(tmp_path, 3, foreign=True)
    assert tool([str(tmp_path), "-o", str(tmp_path / "new" / "checkpoint_gpu_0.pt")]) == 0
    merged = torch.load(tmp_path / "new" / "checkpoint_gpu_0.pt", weights_only=True)
    assert same(merged["state_dict_softmax_fc"], {"weight": whole()["weight"]}) and "qgface" not in merged
    assert torch.equal(merged["state_optimizer"]["state"][1]["momentum_buffer"], whole()["momentum"])


def test_a_run_goes_on_from_the_merged_file(tmp_path, tool, monkeypatch):
    monkeypatch.setattr(parts, "get_model", tiny_model)
    write_faces(tmp_path / "data")
    run = tiny_run(tmp_path, batch_size=24, qgface=QGFaceConfig(queue_size=40))
    train(run)
    train(replace(run, output=str(tmp_path / "half"), train=TrainOptions(max_steps=3)))
    assert tool([str(tmp_path / "half"), "-o", str(tmp_path / "moved" / "checkpoint_gpu_0.pt")]) == 0
    train(replace(run, output=str(tmp_path / "moved"), resume=True))
    last = [json.loads((tmp_path / out / "metrics.jsonl").read_text().splitlines()[-1]) for out in ("out", "moved")]
    assert last[0]["step"] == last[1]["step"] == 4
    assert last[1]["loss"] == pytest.approx(last[0]["loss"], rel=1e-5)
    train(replace(run, init_from=str(tmp_path / "moved" / "checkpoint_gpu_0.pt"), output=str(tmp_path / "new")))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: None, "no whole set of checkpoints in .*: it holds none"),
        (lambda folder: write(folder, 3) or (folder / "checkpoint_gpu_1.pt").unlink(), "no step is there of all ranks"),
        (lambda folder: write(folder, 1) or cut_short(folder / "checkpoint_gpu_0.pt"), "checkpoint_gpu_0.pt is cut"),
        (
            lambda folder: write(folder, 3, foreign=True) or (folder / "checkpoint_gpu_1.pt").unlink(),
            r"checkpoints of ranks \[0, 2\]: some are missing",
        ),
        (
            lambda folder: write(folder, 2, foreign=True) or write(folder, 1, step=9, foreign=True),
            "of different steps: checkpoint_gpu_0.pt of 9, checkpoint_gpu_1.pt of 7",
        ),
        (
            lambda folder: write(folder, 2, foreign=True) or write(folder, 1, foreign=True),
            "do not belong together: rank 0 of 2 has 11 centres: of 16 classes it owns 8",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, tool, capsys, spoil, message):
    spoil(tmp_path)
    assert tool([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("merge_checkpoint.py: ") and re.search(message, error), error
    assert not (tmp_path / "checkpoint_merged.pt").exists()


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])


def test_wrong_places(tmp_path, tool, capsys):
    assert tool([str(tmp_path / "nowhere")]) == 2 and "nowhere is no folder" in capsys.readouterr().err
    write(tmp_path, 1)
    assert tool([str(tmp_path), "-o", str(tmp_path / "checkpoint_gpu_0.pt")]) == 2
    assert "is one of the files to merge" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert tool([str(tmp_path), "-o", str(tmp_path / "file" / "merged.pt")]) == 1
    assert capsys.readouterr().err.startswith("merge_checkpoint.py: ")
