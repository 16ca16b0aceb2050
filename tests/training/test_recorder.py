"""What a run leaves behind, read back with the tools that people read it with."""

from __future__ import annotations

import json
import logging
import os
import re
from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from qgface_plugin.data.pair_batch import PairBatch
from qgface_plugin.training.recorder import RunRecorder
from qgface_plugin.training.tags import tag_of
from qgface_plugin.utils import files

RECIPE = {"network": "mbf", "lr": 0.1, "qgface": {"b": 0.2}}
BATCH = PairBatch(torch.zeros(8, 3, 4, 4, dtype=torch.uint8), None, torch.zeros(8, dtype=torch.long))


def recorder(folder, rank: int = 0, **options) -> RunRecorder:
    return RunRecorder(folder, rank, RECIPE, **{"total_steps": 10, "frequent": 2, **options})


def terms(step: int) -> dict:
    return {
        "loss": torch.tensor(float(step), requires_grad=True) * 1,
        "lq_share_view": torch.tensor(step / 100),
        "lq_share_pair": torch.tensor(0.25, dtype=torch.float16),
        "norm_order": 0.75,
        "queue_fill": torch.tensor(1),
    }


def criterion(terms: dict, u: torch.Tensor | None = None) -> SimpleNamespace:
    """What a criterion shows after a step with these terms."""
    return SimpleNamespace(terms=terms, queue=None, u_views=torch.linspace(0, 1, 16) if u is None else u)


def train(folder, steps: range, resume: int | None = None, rank: int = 0, **options) -> None:
    with recorder(folder, rank, **options) as run:
        if resume is not None:
            run.resume(resume)
        for step in steps:
            run.step(step, step // 5, 0.1 / step, criterion(terms(step)), BATCH)


def metrics(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def messages(folder) -> list[str]:
    lines = (folder / "training.log").read_text().splitlines()
    assert all(re.match(r"Training: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}-", line) for line in lines)
    return [line.split("-", 3)[3] for line in lines]


def events(folder) -> EventAccumulator:
    return EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0, "histograms": 0}).Reload()


def test_the_files_of_a_run(tmp_path):
    train(tmp_path / "work_dirs" / "run", range(1, 11))
    folder = tmp_path / "work_dirs" / "run"
    assert sorted(p.name for p in folder.iterdir()) == ["metrics.jsonl", "recipe.json", "tensorboard", "training.log"]
    assert json.loads((folder / "recipe.json").read_text()) == RECIPE


def test_lines_have_the_means_since_the_line_before(tmp_path):
    train(tmp_path, range(1, 10), total_steps=9, frequent=4)
    lines = metrics(tmp_path)
    assert [(line["kind"], line["step"], line["epoch"]) for line in lines] == [("train", s, s // 5) for s in (4, 8, 9)]
    assert [line["loss"] for line in lines] == [2.5, 6.5, 9.0]  # 9: the run's last step is never lost
    assert [line["lq_share_view"] for line in lines] == pytest.approx([0.025, 0.065, 0.09])
    assert [line["lr"] for line in lines] == [0.1 / 4, 0.1 / 8, 0.1 / 9]
    assert all(line["samples_per_second"] > 0 and line["queue_fill"] == 1.0 for line in lines)


def test_the_log_reads_as_arcface_torchs(tmp_path):
    train(tmp_path, range(1, 5))
    found = messages(tmp_path)
    assert found[:3] == [
        ": network                  mbf",
        ": lr                       0.1",
        f": qgface{' ' * 19}{{'b': 0.2}}",
    ]
    pattern = (
        r"Speed \d+\.\d\d samples/sec   Loss 3\.5000   LearningRate 0\.025000   Epoch: 0   Global Step: 4   "
        r"Required: \d+ s   LQ Views: 0\.035   LQ Pairs: 0\.250   Norm Order: 0\.750"
    )
    assert re.fullmatch(pattern, found[-1])


def test_tensorboard_has_every_term_and_the_histogram(tmp_path):
    train(tmp_path, range(1, 11))
    found = events(tmp_path)
    assert set(found.Tags()["scalars"]) == {*map(tag_of, terms(1)), "speed/learning_rate", "speed/samples_per_second"}
    assert [(e.step, e.value) for e in found.Scalars("loss/loss")] == [(s, s - 0.5) for s in (2, 4, 6, 8, 10)]
    histograms = found.Histograms("quality/u")
    assert [h.step for h in histograms] == [2, 4, 6, 8, 10]
    assert all((h.histogram_value.num, h.histogram_value.min, h.histogram_value.max) == (16, 0, 1) for h in histograms)


def test_a_resumed_run_has_every_step_once(tmp_path):
    train(tmp_path, range(1, 9))
    train(tmp_path, range(5, 11), resume=4)
    assert [line["step"] for line in metrics(tmp_path)] == [2, 4, 6, 8, 10]
    assert [e.step for e in events(tmp_path).Scalars("loss/loss")] == [2, 4, 6, 8, 10]
    assert sum(message.startswith("Speed") for message in messages(tmp_path)) == 4 + 3  # the log is only appended to


def test_a_run_from_the_start_takes_the_folders_place(tmp_path):
    train(tmp_path, range(1, 9))
    train(tmp_path, range(1, 5))
    assert [line["step"] for line in metrics(tmp_path)] == [2, 4]
    assert [e.step for e in events(tmp_path).Scalars("loss/loss")] == [2, 4]


def test_starts_within_a_second_are_read_in_their_order(tmp_path):
    """TensorBoard counts the files of a process and reads them by name, where "10" comes before "9"."""
    for start in range(12):
        train(tmp_path, range(1, 9 if start % 2 == 0 else 5))
        if start > 7:
            assert [e.step for e in events(tmp_path).Scalars("loss/loss")] == [
                line["step"] for line in metrics(tmp_path)
            ]


def test_verification(tmp_path):
    result = {"name": "lfw", "accuracy": 0.91, "std": 0.0123, "xnorm": 21.5, "tar_at_far": [{"far": 0.1, "tar": 0.9}]}
    with recorder(tmp_path) as run:
        run.verification("lfw", result, 10)
        run.verification("lfw", {**result, "accuracy": 0.895}, 20)
    assert messages(tmp_path)[3:] == [
        "[lfw][10]XNorm: 21.500000",
        "[lfw][10]Accuracy-Flip: 0.91000+-0.01230",
        "[lfw][10]Accuracy-Highest: 0.91000",
        "[lfw][20]XNorm: 21.500000",
        "[lfw][20]Accuracy-Flip: 0.89500+-0.01230",
        "[lfw][20]Accuracy-Highest: 0.91000",
    ]
    first, second = metrics(tmp_path)
    assert first == {"kind": "verification", "step": 10, **result, "highest": 0.91}
    assert (second["accuracy"], second["highest"]) == (0.895, 0.91)
    assert [(e.step, round(e.value, 3)) for e in events(tmp_path).Scalars("verification/lfw")] == [
        (10, 0.91),
        (20, 0.895),
    ]
    with recorder(tmp_path) as run:
        run.resume(20)
        run.verification("lfw", {**result, "accuracy": 0.9}, 30)
    assert metrics(tmp_path)[-1]["highest"] == 0.91  # the highest of the whole run, not of this process


def test_other_ranks_write_nothing(tmp_path, capsys):
    folder = tmp_path / "run"
    with recorder(folder, rank=1, progress=True) as run:
        run.resume(2)
        for step in range(3, 11):
            run.step(step, 0, 0.1, criterion(terms(step)), BATCH)
        run.verification("lfw", {"accuracy": 0.9, "std": 0.0, "xnorm": 1.0}, 10)
        with run.paused():
            pass
    assert not folder.exists()
    assert capsys.readouterr() == ("", "")


def test_handlers_go_with_the_run_and_an_error_is_recorded(tmp_path):
    logger = logging.getLogger("qgface_plugin")
    before = (logger.level, list(logger.handlers))
    with pytest.raises(ZeroDivisionError):
        with recorder(tmp_path) as run:
            run.step(1, 0, 0.1, criterion(terms(1)), BATCH)
            1 / 0  # noqa: B018
    assert (logger.level, logger.handlers) == before
    assert messages(tmp_path)[-1] == "training stopped: ZeroDivisionError: division by zero"


def test_a_run_that_cannot_begin_leaves_no_handlers(tmp_path):
    logger = logging.getLogger("qgface_plugin")
    before = (logger.level, list(logger.handlers))
    with pytest.raises(TypeError):
        with RunRecorder(tmp_path, 0, {"lr": object()}, total_steps=1) as recorder:
            assert not (tmp_path / "recipe.json").exists()
            recorder.start()
    assert (logger.level, logger.handlers) == before


def test_a_full_disk_leaves_the_recipe_of_before(tmp_path, monkeypatch):
    with RunRecorder(tmp_path, 0, RECIPE, total_steps=1) as recorder:
        recorder.start()
    before = (tmp_path / "recipe.json").read_text()
    monkeypatch.setattr(files.os, "replace", lambda *paths: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space"), RunRecorder(tmp_path, 0, {"lr": 3}, total_steps=1) as recorder:
        recorder.start()
    assert (tmp_path / "recipe.json").read_text() == before


def test_upside_down_norms_are_a_warning_in_the_log(tmp_path):
    with recorder(tmp_path, total_steps=400, frequent=20) as run:
        for step in range(1, 401):
            terms = {"loss": 1.0, "quality_order": torch.tensor(0.25)}
            run.step(step, step // 201, 0.1, criterion(terms), BATCH)
    warnings = [i for i, message in enumerate(messages(tmp_path)) if "the norm is upside down: in only 25%" in message]
    speeds = [i for i, message in enumerate(messages(tmp_path)) if message.startswith("Speed")]
    # after the lines of step 100 (the grace) and 220 (the next epoch's first)
    assert warnings == [speeds[4] + 1, speeds[10] + 1]


def test_progress_bar_and_log_lines_share_a_terminal(tmp_path, capsys):
    train(tmp_path, range(1, 11), progress=True)
    out, err = capsys.readouterr()
    assert "10/10" in err and "loss=9.5" in err and "LQ=9.5%" in err
    assert out.count("Global Step") == 5 and "\r" not in out


def test_what_is_not_finite_does_not_stop_the_recording(tmp_path):
    nan = float("nan")
    with recorder(tmp_path, frequent=1) as run:
        bad = {"loss": torch.tensor(nan), "quality_order": nan}
        run.step(1, 0, 0.1, criterion(bad, torch.tensor([nan, 0.5])), BATCH)
        run.step(2, 0, 0.1, criterion({"loss": torch.tensor(1.0)}, torch.tensor([nan])), BATCH)
        run.step(3, 0, 0.1, criterion({}, torch.zeros(0)), BATCH)
    lines = metrics(tmp_path)
    assert lines[0]["loss"] is None and lines[0]["samples_per_second"] is None and lines[1]["loss"] == 1.0
    assert [h.histogram_value.num for h in events(tmp_path).Histograms("quality/u")] == [1]


def test_paused_time_is_not_training_time(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    with recorder(tmp_path) as run:
        for step in range(1, 5):
            clock[0] += 0.5
            run.step(step, 0, 0.1, criterion(terms(step)), BATCH)
            with run.paused():
                clock[0] += 100.0
    # 8 images in 0.5 s; the first step's time is unknown
    assert [line["samples_per_second"] for line in metrics(tmp_path)] == [16.0, 16.0]


def test_a_resumed_recorder_writes_the_same_line(tmp_path):
    for name, stop in (("whole", None), ("pieces", 4)):
        with RunRecorder(tmp_path / name, 0, {}, 6, frequent=3, progress=False) as run:
            for step in range(1, (stop or 6) + 1):
                run.step(step, 0, 0.1, criterion(terms(step)), BATCH)
            pending = run.state_dict()
    with RunRecorder(tmp_path / "pieces", 0, {}, 6, frequent=3, progress=False) as run:
        run.resume(4, pending)
        for step in (5, 6):
            run.step(step, 0, 0.1, criterion(terms(step)), BATCH)
    found = [[{**line, "samples_per_second": 0} for line in metrics(tmp_path / name)] for name in ("whole", "pieces")]
    assert found[0] == found[1] and [line["step"] for line in found[0]] == [3, 6]
    with RunRecorder(tmp_path / "other", 1, {}, 6) as run:
        assert run.state_dict() is None


def test_stall_is_the_share_of_time_spent_waiting_for_data(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    with recorder(tmp_path) as run:
        for step in range(1, 7):
            clock[0] += 0.5
            run.step(step, 0, 0.1, criterion(terms(step)), BATCH, waited=0.125 * (step % 3))
            with run.paused():
                clock[0] += 100.0
    # the first step's time is unknown: step 2 alone, then steps 3 and 4, 5 and 6, with 0.125 s a unit in 0.5 s a step
    assert [line["data_stall"] for line in metrics(tmp_path)] == [0.5, 0.125, 0.25]
    assert [e.value for e in events(tmp_path).Scalars("speed/data_stall")] == [0.5, 0.125, 0.25]
    assert messages(tmp_path)[-1].endswith("   Norm Order: 0.750   Data Stall: 0.250")


def test_a_folder_whose_name_is_no_utf8(tmp_path):
    folder = tmp_path / os.fsdecode(b"Jos\xe9")
    train(folder, range(1, 5))
    assert [line["step"] for line in metrics(folder)] == [2, 4]
    assert any("no TensorBoard" in line and "Jos\\udce9" in line for line in (folder / "training.log").open())
