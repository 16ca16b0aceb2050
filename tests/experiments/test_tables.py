"""Tables of what was measured beside the paper's numbers, and where each number is from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ablations import planned, save_result, table

from qgface_plugin.experiments.paper import NAMES, QGFACE, TABLES, PaperRow
from qgface_plugin.experiments.plan import begin_record, end_record
from qgface_plugin.experiments.tables import as_markdown, measured_tables


@pytest.fixture
def found(tmp_path):
    one, two, other, absent = (
        planned(tmp_path, name, seed) for name, seed in (("e", 1), ("e", 2), ("d", 1), ("none", 1))
    )
    for run, accuracy in ((one, 0.9), (two, 0.8), (other, 0.7)):
        save_result(run, "pairs", {"sets": {"dev": {"accuracy": accuracy}}}, ("a warning",))
        begin_record(run, {"what": "train", "command": f"qgface train {run.recipe}", "commit": "c0", "started": "T"})
        end_record(run, 60.04, 0)
        begin_record(run, {"what": "pairs", "command": "python x", "commit": "c1", "started": "T"})
    for run, shares in ((one, (0.9, 0.9, 0.9, 0.1)), (two, (0.9, 0.9, 0.9, 0.2))):
        lines = [{"kind": "train", "step": step, "lq_share_pair": share} for step, share in enumerate(shares, 1)]
        (run.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = table(
        (PaperRow("E", "e", "ours", QGFACE), (one, two)), (PaperRow("D", "d", "alone"), (other,)),
        (PaperRow("B", "none", "x"), (absent,)),
    )  # fmt: skip
    return measured_tables([rows], "c2", "python tools/ablation.py --tables 1")


def test_values(found):
    rows = found["tables"][0]["rows"]
    cell = rows[0]["measured"]["HQ Avg."]
    assert (cell["mean"], cell["std"], cell["runs"]) == (pytest.approx(0.85), pytest.approx(0.0707, abs=1e-4), 2)
    assert rows[0]["paper"] == QGFACE and rows[1]["paper"] == {} and rows[1]["measured"]["HQ Avg."]["std"] is None
    assert all(value is None for value in rows[2]["measured"].values())
    run = rows[0]["runs"][1]
    assert (run["seed"], run["steps"][0]["seconds"], run["steps"][1]["seconds"]) == (2, 60.0, None)
    assert run["results"]["pairs"]["sets"]["dev"]["accuracy"] == 0.8 and not run["trained"]
    nothing = {"views below b": None, "quality order": None, "norm order": None}
    assert [one["gates"] for one in rows[0]["runs"]] == [
        {"pairs below b": pytest.approx(share)} | nothing for share in (0.1, 0.2)
    ]
    json.dumps(found, allow_nan=False)


def test_own_recipes_have_no_column_of_the_paper(tmp_path):
    run = planned(tmp_path, "mine", 1)
    save_result(run, "pairs", {"sets": {"dev": {"accuracy": 0.9}}}, ())
    text = as_markdown(measured_tables([table((PaperRow("mine", "mine", "mine"), (run,)))], "c", "x"))
    assert "| mine | mine | - | - | - | - | - | 90.00 | - |" in text
    assert "the paper's" not in text and "?" not in text


def test_for_people(found):
    text = as_markdown(found)
    assert "Command: `python tools/ablation.py --tables 1`" in text
    assert (
        "| E | ours | - / 92.31 | - / 99.54 | - / 100.00 | - / 69.85 | - / 91.05 | 85.00 ± 7.07 / 95.43 | - / 91.36 |"
        in text
    )
    assert "| D | alone | - / ? | - / ? | - / ? | - / ? | - / ? | 70.00 / ? | - / ? |" in text
    assert "`-`: not measured; `?`: the paper has no such number.\n" in text
    assert "- pairs of every run: a warning" in text
    assert "| | pairs below b | views below b |" in text.replace("|  |", "| |")
    assert "| E | 15.0 ± 7.1 | - | - | - |" in text and "| D | - | - |" not in text
    assert "| E | 2 | c0, c1 | T | 60 s | more than 0 s |" in text and "| B | 1 | - | - | - | - |" in text
    assert "train     qgface train RUN/recipe.py" in text


def test_every_row_has_the_papers_numbers():
    rows = [row for one in TABLES.values() for row in one.rows]
    assert len(rows) == 14 and all(list(row.paper) == list(NAMES) for row in rows)
    d, momentum = (next(row.paper for row in rows if row.recipe == name) for name in ("table1_d", "table2_momentum"))
    assert [*d.values()] == [88.62, 99.23, 100.0, 68.80, 89.50, 95.46, 90.27]
    assert [*momentum.values()][:3] == [63.08, 97.85, 99.85] and QGFACE[NAMES[-1]] == 91.36


def test_recipes_name_the_numbers_of_their_row():
    folder = Path(__file__).parents[2] / "recipes" / "paper"
    for row in (row for one in TABLES.values() for row in one.rows):
        text = " ".join((folder / f"{row.recipe}.py").read_text().split('"""')[1].split())
        for name, value in row.paper.items():
            shown = "100.0" if value == 100 else f"{value:.2f}"
            assert shown in text, (row.recipe, name, shown)


def test_nothing_was_run(tmp_path):
    rows = table((PaperRow("E", "e", "ours", QGFACE), (planned(tmp_path, "e", 1),)))
    text = as_markdown(measured_tables([rows], "c", "x"))
    assert "| E | ours | - / 92.31 |" in text and "The gates" not in text
    assert "`-`: not measured.\n" in text and "?" not in text
