"""The table of runs: which runs are one row, what their cells hold, and what has to be said about them."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

from qgface_plugin.evaluation.report.formats import as_json, as_markdown
from qgface_plugin.evaluation.report.results import write_result
from qgface_plugin.evaluation.report.table import COLUMNS, group_runs, report
from qgface_plugin.utils.errors import DataError

FIVE = ("lfw", "cfp_fp", "agedb_30", "calfw", "cplfw")


def save(run: Path, protocol: str, results: dict, warnings=(), **changes) -> None:
    given = {"data": f"/data/{protocol}", "model": run / "model.pt", "settings": {}, **changes}
    write_result(protocol, results=results, warnings=warnings, **given)


def scface(d1: float, d2: float, d3: float) -> dict:
    return {"rank1": {"d1": d1, "d2": d2, "d3": d3}}


def pairs(**accuracies: float) -> dict:
    return {"sets": {name: {"accuracy": accuracy} for name, accuracy in accuracies.items()}}


def ijb(value: float, *modes: str) -> dict:
    """As tools/eval_ijb.py saves it; `value` in the last of the modes, others elsewhere."""

    def points(tar):
        return [{"far": 1e-5, "nearest": 0.1, "strict": 0.1}, {"far": 0.0001, "nearest": tar, "strict": tar - 0.01}]

    modes = modes or ("N0D1F1",)
    return {"one_to_one": [{"mode": m, "tar_at_far": points(value if m == modes[-1] else 0.01)} for m in modes]}


def whole_run(run: Path, shift: float = 0.0) -> Path:
    save(run, "scface", scface(0.1 + shift, 0.2 + shift, 0.3 + shift))
    save(run, "tinyface", {"rank": {"1": 0.4 + shift, "5": 0.5}, "map": 0.3})
    save(run, "ijbb", ijb(0.5 + shift))
    save(run, "pairs", pairs(**{name: 0.6 + shift + n / 100 for n, name in enumerate(FIVE)}))
    return run


def recipe(run: Path, **settings) -> None:
    run.mkdir(parents=True, exist_ok=True)
    (run / "recipe.json").write_text(json.dumps({"name": "qg", "seed": 1, "output": str(run), "lr": 0.1, **settings}))


def test_one_run_with_everything(tmp_path):
    table = report([whole_run(tmp_path / "a")])
    assert table.columns == ("SCface d1", "SCface d2", "SCface d3", "TinyFace", "IJB-B", "HQ Avg.", "All Avg.")
    (row,) = table.rows
    assert row.name == "a" and row.runs == (tmp_path / "a",)
    means = [cell.mean for cell in row.cells]
    assert means[:6] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.62]) and means[6] == pytest.approx(sum(means[:6]) / 6)
    assert all(cell.std is None and cell.runs == 1 for cell in row.cells)
    assert table.notes == ["IJB-B: TAR at FAR 0.0001 (nearest point of the curve), mode N0D1F1"]


def test_runs_of_one_name_are_mean_and_deviation(tmp_path):
    shifts = (0.0, 0.02, 0.07)
    table = report([f"QGFace={whole_run(tmp_path / str(n), shift)}" for n, shift in enumerate(shifts)])
    (row,) = table.rows
    assert row.name == "QGFace" and len(row.runs) == 3
    for cell, base in zip(row.cells, (0.1, 0.2, 0.3, 0.4, 0.5, 0.62), strict=False):
        values = [base + shift for shift in shifts]
        assert cell.mean == pytest.approx(statistics.mean(values))
        assert cell.std == pytest.approx(statistics.stdev(values)) and cell.runs == 3


def test_missing_cells(tmp_path):
    whole_run(tmp_path / "a")
    save(tmp_path / "b", "tinyface", {"rank": {"1": 0.8}, "map": 0})
    save(tmp_path / "c", "scface", scface(0.5, None, 0.7))
    table = report([f"x={tmp_path / 'a'}", f"x={tmp_path / 'b'}", tmp_path / "c"])
    first, second = table.rows
    assert first.cells[3].runs == 2 and first.cells[3].mean == pytest.approx(0.6)
    assert first.cells[0].runs == 1 and first.cells[6].runs == 1 and first.cells[0].std is None
    assert "x: SCface d1 is over 1 of 2 runs" in table.notes and "x: TinyFace is over" not in str(table.notes)
    assert [cell and cell.mean for cell in second.cells] == [0.5, None, 0.7, None, None, None, None]


def test_seeds_of_one_recipe_are_one_row(tmp_path):
    for name, settings in {
        "s1": {}, "s2": {"seed": 2, "name": "qg_2", "notes": "again"}, "other": {"lr": 0.2, "name": "slow"},
    }.items():  # fmt: skip
        recipe(tmp_path / name, **settings)
    groups = group_runs([tmp_path / name for name in ("s1", "other", "s2")])
    assert groups == [("qg", [tmp_path / "s1", tmp_path / "s2"]), ("slow", [tmp_path / "other"])]


def test_different_recipes_of_one_name(tmp_path):
    recipe(tmp_path / "a")
    recipe(tmp_path / "b", lr=0.2)
    assert [name for name, _ in group_runs([tmp_path / "a", tmp_path / "b"])] == ["qg (lr=0.1)", "qg (lr=0.2)"]
    recipe(tmp_path / "c", qgface={"queue": "none", "b": 0.2})
    recipe(tmp_path / "d", qgface={"queue": "proxy", "b": 0.2})
    recipe(tmp_path / "d2", qgface={"queue": "proxy", "b": 0.2}, seed=2)
    named = group_runs([tmp_path / name for name in ("c", "d", "d2")])
    assert named == [
        ("qg (qgface.queue=none)", [tmp_path / "c"]),
        ("qg (qgface.queue=proxy)", [tmp_path / "d", tmp_path / "d2"]),
    ]


def test_folders_of_one_name(tmp_path):
    """And recipes that differ in more than a name can hold."""
    for place in ("x/run", "y/run"):
        (tmp_path / place).mkdir(parents=True)
    assert [name for name, _ in group_runs([tmp_path / "x" / "run", tmp_path / "y" / "run"])] == ["x/run", "y/run"]
    recipe(tmp_path / "x" / "run")
    recipe(tmp_path / "y" / "run", lr=1, a=1, b=2, c=3)
    assert [name for name, _ in group_runs([tmp_path / "x" / "run", tmp_path / "y" / "run"])] == [
        "qg (x/run)", "qg (y/run)",
    ]  # fmt: skip


def test_thresholds_and_qualities_stand_below(tmp_path):
    point = {
        "far": 0.01, "threshold": 0.3661, "false_accepts": 5, "impostors": 500, "true_accepts": 9, "genuine": 10,
        "tar": 0.9, "low": 0.6, "high": 0.98, "reason": "",
    }  # fmt: skip
    none = point | {"far": 1e-3, "threshold": None, "tar": None, "low": None, "high": None, "reason": "too few"}
    fused = {"points": [point, none], "flip_fusion": True, "interval": "x"}
    alone = {"points": [point | {"threshold": 0.4}], "flip_fusion": False, "interval": "x"}
    found = pairs(lfw=0.9)
    found["sets"]["lfw"] |= {"thresholds": fused, "single_thresholds": alone}
    save(tmp_path / "a", "pairs", found)
    tpir = {"fpir": 0.1, "threshold": 0.5, "false_alarms": 3, "unmated": 40, "tpir": 0.8, "reason": ""}
    results = ijb(0.5) | {"one_to_n": [{"mode": "N0D1F1", "galleries": [{"name": "S1", "tpir": [tpir]}]}]}
    results["one_to_one"][0]["thresholds"] = fused
    save(tmp_path / "a", "ijbb_gallery", results)
    curve = {
        "fmr": 1e-3, "fnmr": 0.5, "normalised": 0.8, "gain": 0.7, "reason": "", "discarded": [0.0, 0.295, 0.3, 0.9],
        "errors": [0.5, 0.4, 0.3, 0.0],
    }  # fmt: skip
    save(tmp_path / "a", "quality", {"sets": {"lfw": {"sources": {"norm": {"curves": [curve]}}}}})
    table = report([tmp_path / "a"])
    assert [(row.of, row.rate, row.threshold, row.flip_fusion) for row in table.thresholds] == [
        ("ijbb_gallery N0D1F1", "FAR", 0.3661, True), ("ijbb_gallery N0D1F1", "FAR", None, True),
        ("ijbb_gallery N0D1F1 S1", "FPIR", 0.5, True),
        ("lfw", "FAR", 0.3661, True), ("lfw", "FAR", None, True), ("lfw", "FAR", 0.4, False),
    ]  # fmt: skip
    text = as_markdown(table)
    assert "| a | lfw | FAR 0.01 | 0.3661 | 5 of 500 | 90.00 | 60.00 to 98.00 | yes |" in text
    assert "| a | lfw | FAR 0.001 | none | too few | - | - | yes |" in text
    assert "| a | ijbb_gallery N0D1F1 S1 | FPIR 0.1 | 0.5000 | 3 of 40 | 80.00 | - | yes |" in text
    assert "| a | lfw | norm | 0.001 | 50.00 | 30.00 | 0.800 | 0.700 |" in text
    saved = json.loads(as_json(table))
    assert saved["thresholds"][0]["wrong_of"] == 500 and saved["qualities"][0]["gain"] == 0.7
    save(tmp_path / "b", "quality", {"sets": {"lfw": {"sources": {"norm": {"curves": [{"fmr": 1}]}}}}})
    with pytest.raises(DataError, match="b: the saved result of quality is damaged .KeyError: 'discarded'"):
        report([tmp_path / "b"])


def test_names_of_rows(tmp_path, monkeypatch):
    (tmp_path / "a=b").mkdir()
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "recipe.json").write_text("{")  # no recipe: the folder's name
    assert group_runs([tmp_path / "a=b", tmp_path / "c"]) == [
        ("a=b", [tmp_path / "a=b"]), ("c", [tmp_path / "c"]),
    ]  # fmt: skip
    recipe(tmp_path / "d")
    assert group_runs([f"mine={tmp_path / 'd'}"]) == [("mine", [tmp_path / "d"])]
    monkeypatch.chdir(tmp_path / "c")
    assert group_runs(["."]) == [("c", [Path(".")])]
    with pytest.raises(DataError, match="is given twice"):
        group_runs([tmp_path / "c", "."])


def test_notes_name_what_is_not_comparable(tmp_path):
    save(tmp_path / "a", "pairs", pairs(lfw_dev=0.7))
    save(tmp_path / "b", "pairs", pairs(lfw=0.9, cfp_fp=0.8))
    save(tmp_path / "a", "ijbb", ijb(0.5))
    save(tmp_path / "b", "ijbb", ijb(0.5, "N0D0F0"))
    save(tmp_path / "a", "scface", scface(0.1, 0.2, 0.3), ["subjects: 130 in the protocol, 4 here"])
    save(tmp_path / "b", "scface", scface(0.1, 0.2, 0.3), data="/data/scface80/", model=tmp_path / "b" / "model.onnx")
    table = report([tmp_path / "a", tmp_path / "b"])
    five = "lfw, cfp_fp, agedb_30, calfw, cplfw"
    assert table.notes == [
        "scface: the rows are not of the same data: /data/scface, /data/scface80",
        "IJB-B: TAR at FAR 0.0001 (nearest point of the curve), mode N0D1F1, N0D0F0",
        f"HQ Avg. is over lfw_dev, not over {five}",
        f"HQ Avg. is over cfp_fp, lfw, not over {five}",
        f"{tmp_path / 'b'}: its results are of different models: ijbb of {tmp_path / 'b' / 'model.pt'}, pairs of "
        f"{tmp_path / 'b' / 'model.pt'}, scface of {tmp_path / 'b' / 'model.onnx'}",
        f"scface of {tmp_path / 'a'}: subjects: 130 in the protocol, 4 here",
    ]


@pytest.mark.parametrize("modes", [("N1D1F1", "N0D0F1", "N0D1F1"), ("N1D1F1",)])
def test_the_mode_of_the_table(tmp_path, modes):
    """N0D1F1 where it is saved, else the first one; the note says which."""
    save(tmp_path / "a", "ijbb", ijb(0.5, *modes))
    table = report([tmp_path / "a"])
    assert table.rows[0].cells[4].mean == 0.5 and table.notes[0].endswith(f"mode {modes[-1]}")


def test_a_far_that_was_not_evaluated(tmp_path):
    save(tmp_path / "a", "ijbb", {"one_to_one": [{"mode": "x", "tar_at_far": [{"far": 1e-3, "nearest": 0.5}]}]})
    assert report([tmp_path / "a"]).rows[0].cells == (None,) * 7


@pytest.mark.parametrize(
    ("protocol", "results", "title"),
    [
        ("scface", {"rank1": {"d1": 0.5}}, "SCface d2"),
        ("tinyface", {"rank": 0.5}, "TinyFace"),
        ("ijbb", {}, "IJB-B"),
        ("ijbb", {"one_to_one": []}, "IJB-B"),
        ("pairs", {"sets": {"lfw": {"accuracy": "high"}}}, "HQ Avg."),
    ],
)
def test_results_of_another_shape(tmp_path, protocol, results, title):
    save(tmp_path / "a", protocol, results)
    with pytest.raises(DataError, match=f"{protocol} .*{title}"):
        report([tmp_path / "a"])


def test_no_results(tmp_path):
    with pytest.raises(DataError, match="no results are saved in"):
        report([tmp_path])
    with pytest.raises(DataError, match="absent: no such folder"):
        report([tmp_path / "absent"])


def test_every_column_has_its_own_title():
    assert len({column.title for column in COLUMNS}) == len(COLUMNS) == 6
