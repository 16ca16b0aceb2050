"""tools/merge_checkpoint.py: one file of the ranks' ones, ours and arcface_torch's, and what it refuses."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from paths import TOOLS
from tiny import same, tiny_model, tiny_run, write_faces

from qgface_plugin.config.method import QGFaceConfig
from qgface_plugin.config.options import TrainOptions
from qgface_plugin.loss.feature_queue import NEVER
from qgface_plugin.training import build
from qgface_plugin.training.checkpoints.reshard import needed, reshard
from qgface_plugin.training.trainer import train
from qgface_plugin.utils.torch_files import save

TOOL = TOOLS / "merge_checkpoint.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("merge_checkpoint", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def write(folder: Path, ranks: int, step: int = 7, foreign: bool = False) -> None:
    """The checkpoints of `ranks` ranks, with or without what the built-in loop adds."""
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
    monkeypatch.setattr(build, "get_model", tiny_model)
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


# --- N ranks' state cut anew for M ranks, against a whole state that a naive loop cuts in N and in M ------------------


CLASSES, DIM, SLOTS, ENQUEUED, LIMIT = 11, 3, 9, 60, 20
BUFFERS = ("residual", "scale", "labels", "serial")


def owner(cls: int, ranks: int) -> int:
    """The rank that owns a class: the first ones have one more where it does not divide evenly."""
    sizes = [CLASSES // ranks + (rank < CLASSES % ranks) for rank in range(ranks)]
    return next(rank for rank in range(ranks) if cls < sum(sizes[: rank + 1]))


@cache
def whole() -> dict:
    """Numbers for each class, and queue entries (serial, class); those of serial < ENQUEUED - LIMIT are dead."""
    torch.manual_seed(0)
    rows = {name: torch.rand(CLASSES, DIM) for name in ("weight", "momentum", "gradient")}
    entries = [(serial, int(torch.randint(CLASSES, ()))) for serial in range(ENQUEUED - 25, ENQUEUED)]
    return {**rows, "entries": entries, "residual": torch.rand(ENQUEUED, DIM), "scale": torch.rand(ENQUEUED)}


def part(rank: int, ranks: int) -> dict:
    """What rank `rank` of `ranks` saves; its queue is a ring whose oldest entry is somewhere in the middle."""
    all_of, mine = whole(), [cls for cls in range(CLASSES) if owner(cls, ranks) == rank]
    entries = [(serial, mine.index(cls)) for serial, cls in all_of["entries"] if cls in mine]
    entries = entries[3:] + entries[:3]
    queue = {
        "residual": torch.zeros(len(entries) + 2, DIM),
        "scale": torch.zeros(len(entries) + 2),
        "labels": torch.full((len(entries) + 2,), -1),
        "serial": torch.full((len(entries) + 2,), NEVER),
    }
    for i, (serial, label) in enumerate(entries):
        values = (all_of["residual"][serial], all_of["scale"][serial], label, serial)
        for name, value in zip(BUFFERS, values, strict=True):
            queue[name][i] = value
    queue |= {"enqueued": torch.tensor(ENQUEUED), "cursor": torch.tensor(max(len(entries) - 3, 0))}
    return {
        "epoch": 2,
        "global_step": 7,
        "state_dict_backbone": {"layer": torch.ones(4), "running_mean": torch.full((4,), float(rank))},
        "state_dict_softmax_fc": {
            "weight": all_of["weight"][mine],
            "margin_softmax.quality.mean": torch.tensor(2.5),
            **{f"queue.{name}": value for name, value in queue.items()},
        },
        "state_optimizer": {
            "state": {
                0: {"momentum_buffer": torch.ones(4)},
                1: {"momentum_buffer": all_of["momentum"][mine], "step": torch.tensor(7.0)},
            },
            "param_groups": [{"lr": 0.1, "params": [0]}, {"lr": 0.1, "params": [1]}],
        },
        "state_lr_scheduler": {"last_epoch": 7},
        "qgface": {
            "world_size": ranks,
            "gradients": {"backbone": [torch.ones(4)], "criterion": [all_of["gradient"][mine]]},
            "rng": {"rank": rank},
            "skipped": rank,
            "record": {"steps": 1} if rank == 0 else None,
        },
    }


def cut(before: int, rank: int, ranks: int, **options) -> dict:
    parts = {i: part(i, before) for i in needed(CLASSES, before, rank, ranks)}
    return reshard(parts, rank, ranks, before=before, num_classes=CLASSES, **options)


def entries(state: dict) -> list:
    """(serial, label, residual, scale) of the slots in use, in their order."""
    queue = {name: state["state_dict_softmax_fc"][f"queue.{name}"] for name in BUFFERS}
    used = queue["serial"] > NEVER
    columns = (queue[name][used].tolist() for name in ("serial", "labels", "residual", "scale"))
    return list(zip(*columns, strict=True))


@pytest.mark.parametrize("before", [1, 2, 3, 4, 11])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 11])
def test_every_rank_has_what_it_would_have_saved_itself(before, ranks):
    for rank in range(ranks):
        found, expected = cut(before, rank, ranks), part(rank, ranks)
        assert sorted(entries(found)) == sorted(entries(expected))
        assert [entry[0] for entry in entries(found)] == sorted(entry[0] for entry in entries(expected))
        for state in (found, expected):
            for key in [key for key in state["state_dict_softmax_fc"] if "queue" in key]:
                if key != "queue.enqueued":
                    del state["state_dict_softmax_fc"][key]
        for key in ("state_dict_softmax_fc", "state_optimizer", "state_lr_scheduler", "global_step", "epoch"):
            assert same(found[key], expected[key]), key
        assert same(found["qgface"]["gradients"], expected["qgface"]["gradients"])
        assert found["qgface"]["world_size"] == ranks and found["qgface"]["rng"] is None
        assert found["state_dict_backbone"]["running_mean"].tolist() == [0.0] * 4  # rank 0's, as model.pt has it
        assert (found["qgface"]["record"] is None) == (rank > 0) and found["qgface"]["skipped"] == 0


@pytest.mark.parametrize("ranks", [1, 3])
def test_dead_entries_stay_behind(ranks):
    serials = []
    for rank in range(ranks):
        found = cut(4, rank, ranks, queue_size=LIMIT, queue_slots=SLOTS)
        queue = found["state_dict_softmax_fc"]
        live = [entry[0] for entry in entries(found)]
        assert len(queue["queue.serial"]) == max(SLOTS, len(live))
        assert int(queue["queue.cursor"]) == len(live) % len(queue["queue.serial"])
        assert queue["queue.serial"][: len(live)].tolist() == live
        serials += live
    assert sorted(serials) == list(range(ENQUEUED - LIMIT, ENQUEUED))


def test_only_the_owners_of_its_classes_are_needed():
    assert needed(100, 4, 0, 1) == [0, 1, 2, 3]
    assert needed(100, 4, 1, 2) == [0, 2, 3]
    assert needed(100, 2, 3, 4) == [0, 1]
    assert needed(CLASSES, 3, 0, 4) == [0]  # 3 of the first 4 classes


def test_the_result_shares_no_memory_with_what_is_cut():
    parts = {0: part(0, 1)}
    found = reshard(parts, 0, 2, before=1, num_classes=CLASSES)
    found["state_dict_softmax_fc"]["weight"].zero_()
    assert parts[0]["state_dict_softmax_fc"]["weight"].abs().sum() > 0


def test_state_without_queue_gradients_or_our_own_keys():
    parts = {rank: part(rank, 2) for rank in range(2)}
    for state in parts.values():
        del state["qgface"]
        state["state_dict_softmax_fc"] = {"weight": state["state_dict_softmax_fc"]["weight"]}
        state["state_optimizer"]["state"] = {}
    found = reshard(parts, 0, 1, before=2, num_classes=CLASSES)
    assert same(found["state_dict_softmax_fc"], {"weight": whole()["weight"]}) and "qgface" not in found
    assert found["state_optimizer"]["state"] == {}


def test_parts_that_do_not_fit():
    with pytest.raises(ValueError, match=r"ranks \[1\]"):
        reshard({0: part(0, 2)}, 0, 1, before=2, num_classes=CLASSES)
    with pytest.raises(ValueError, match="rank 1 of 2 has 4 centres"):
        reshard({0: part(0, 2), 1: part(1, 3)}, 0, 1, before=2, num_classes=CLASSES)
