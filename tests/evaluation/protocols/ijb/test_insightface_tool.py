"""InsightFace's own ijb_evals.py of the checkout that ARCFACE_TORCH names, and a miniature of it where none is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from checkouts import real_checkout
from ijb_sets import FlatModel, write_set

from qgface_plugin.evaluation.feature_cache import FeatureCache
from qgface_plugin.evaluation.protocols.ijb import insightface_child
from qgface_plugin.evaluation.protocols.ijb.evaluation import evaluate
from qgface_plugin.evaluation.protocols.ijb.features import extract
from qgface_plugin.evaluation.protocols.ijb.insightface_tool import AGREE, ToolResult, find_tool, run_tool
from qgface_plugin.evaluation.protocols.ijb.metadata import find_folder, read_images
from qgface_plugin.evaluation.protocols.ijb.synthetic import make_set
from qgface_plugin.evaluation.protocols.ijb.templates import ALL_MODES
from qgface_plugin.models.embeddings import Embeddings
from qgface_plugin.utils.errors import ConfigError, DataError

NUMBERS = 8 * 7 + 2 * 5  # TAR at six FARs and AUC in eight modes; three ranks and two FPIRs on two galleries


def compare(folder: Path, features: Embeddings, tools: Path) -> ToolResult:
    """Ours and the tool's on the same features, all modes and 1:N, equal to `AGREE`."""
    before = sorted(path for path in folder.rglob("*"))
    ours = evaluate(read_images(folder, "IJBB"), features, ALL_MODES, one_to_n=True)
    theirs = run_tool(tools, folder, "IJBB", features, all_modes=True, one_to_n=True)
    differences = theirs.differences(ours)
    assert len(differences) == NUMBERS
    assert max(map(abs, differences.values())) <= AGREE, differences
    assert sorted(path for path in folder.rglob("*")) == before  # it leaves nothing in the data
    return theirs


@pytest.mark.arcface_torch
def test_real_faces(lfw: Path, tmp_path: Path) -> None:
    folder = find_folder(lfw / "ijb", "IJBB")
    images = read_images(folder, "IJBB")
    features, _ = extract(FlatModel(), images, FeatureCache(tmp_path, "ijbb", {}, len(images)))
    tables = compare(folder, features, real_checkout().parents[1]).tables
    assert "N1D0F1" in tables and "mean_tpir" in tables


@pytest.mark.long
@pytest.mark.arcface_torch
def test_full_size(tmp_path: Path) -> None:
    tools = real_checkout().parents[1]
    compare(tmp_path, make_set(tmp_path), tools)


@pytest.mark.arcface_torch
def test_made_up_set(tmp_path: Path) -> None:
    compare(tmp_path, make_set(tmp_path, scale=0.02, dim=24), real_checkout().parents[1])


def test_find_tool(tmp_path: Path) -> None:
    place = tmp_path / "recognition" / "_evaluation_" / "ijb"
    place.mkdir(parents=True)
    with pytest.raises(ConfigError, match="no ijb_evals.py .*recognition/_evaluation_/ijb"):
        find_tool(tmp_path)
    (place / "ijb_evals.py").write_text("")
    assert find_tool(tmp_path) == find_tool(place) == place


def test_a_tool_that_fails(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set")
    (tmp_path / "ijb_evals.py").write_text("import sys\nraise RuntimeError('no such luck')\n")
    zeros = np.zeros((12, 4), np.float32)
    with pytest.raises(DataError, match="(?s)ijb_evals.py ended with status 1 on .*RuntimeError: no such luck"):
        run_tool(tmp_path, folder, "IJBB", Embeddings(zeros, zeros))


def test_stand_in_for_pandas(tmp_path: Path) -> None:
    table = insightface_child.Table({"a": [0.5, 1.0], "b": [0.25, 0.75]}, index=[0.1, 0.01]).T
    table["AUC"] = {"a": 0.9, "b": 0.8}
    table.columns.name = "Methods"
    assert table[0.01] == [1.0, 0.75] and table["AUC"] == [0.9, 0.8]
    lines = table.to_markdown().splitlines()
    assert lines[0] == "| Methods | 0.1  | 0.01 | AUC |" and lines[2] == "| a       | 0.5  | 1    | 0.9 |"
    assert "| 5.0 | 6 |" in insightface_child.Table({"far": [5.0], "x": [6.0]}).set_index("far").to_markdown()
    (tmp_path / "t.txt").write_text("a.jpg 1 2\nb.jpg 3 4\n")
    assert insightface_child.read_csv(tmp_path / "t.txt", sep=" ").values[:, 1].astype("int").tolist() == [1, 3]
    (tmp_path / "t.csv").write_text("TEMPLATE,SUBJECT\n5,6\n")
    assert insightface_child.read_csv(tmp_path / "t.csv", skiprows=1).values.tolist() == [[5, 6]]
