"""The doctor: what it finds, what it calls missing, and that it changes nothing."""

from __future__ import annotations

import json
import shutil
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from compat_tools import write_checkout
from golden.make_golden import draw
from paths import TESTS
from tiny import write_faces

from qgface_plugin.arcface_torch import compat, doctor
from qgface_plugin.arcface_torch.attach import attach
from qgface_plugin.arcface_torch.doctor import examine, versions
from qgface_plugin.arcface_torch.seam_report import seams_of
from qgface_plugin.data.images import encode_png
from qgface_plugin.data.packing.inspection import data_found
from qgface_plugin.utils.errors import ConfigError

SEAM = "partial_fc_v2.PartialFC_V2"


@pytest.fixture
def mini_host(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TESTS / "mini_host", tmp_path / "host", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARCFACE_TORCH", raising=False)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")


@pytest.fixture
def all_seams(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """What `seams_of` says, without the process that finds out."""
    found: dict[str, str | None] = {SEAM: None}
    monkeypatch.setattr(doctor, "seams_of", lambda checkout: found)
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_without_a_checkout_the_built_in_loop_is_examined() -> None:
    report = examine()
    assert report.checkout is None and report.can_train and not report.seams and not report.repairs
    assert "none looked at: the built-in loop trains" in report.as_text()
    assert report.as_text().endswith("Nothing is missing: this can train.")


def test_an_empty_folder_is_no_checkout(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    report = examine(str(empty), str(empty))
    assert not report.can_train and report.checkout == {"folder": str(empty), "arcface_torch": "no"}
    assert [problem.split(":")[0] for problem in report.problems] == [str(empty)] * 2
    assert "no train_v2.py in it" in report.problems[0] and "no sub-folder in it" in report.problems[1]
    assert list(empty.iterdir()) == []
    text = report.as_text()
    assert "Missing\n" in text and "Seams" not in text and "Nothing is missing" not in text


def test_half_a_checkout_is_named(tmp_path: Path) -> None:
    report = examine(str(write_checkout(tmp_path / "half")))
    assert not report.can_train and "no arcface_torch checkout: partial_fc_v2.py" in report.problems[0]


def test_the_miniature_host_in_full(mini_host: Path) -> None:
    before = contents(mini_host)
    report = examine(str(mini_host))
    assert report.problems == [] and report.can_train
    assert report.checkout["attached"] == "no" and report.checkout["arcface_torch"] == "yes"
    assert report.seams[SEAM] == "found" and set(report.seams.values()) == {"found"} and len(report.seams) == 7
    assert set(report.repairs) == {repair.name for repair in compat.repairs(mini_host)}
    assert report.repairs["stand-in for mxnet"] == "not needed"
    assert contents(mini_host) == before
    given = json.loads(report.as_json())
    assert given["can_train"] is True and given["seams"][SEAM] == "found"
    assert given["versions"]["torch"] == torch.__version__
    assert torch.__version__.startswith(metadata.version("torch"))


def test_a_seam_that_is_gone_is_missing(mini_host: Path) -> None:
    file = mini_host / "partial_fc_v2.py"
    file.write_text(file.read_text().replace("PartialFC_V2", "PartialFC_V3"))
    found = seams_of(mini_host)
    assert "partial_fc_v2.py has no PartialFC_V2" in found[SEAM]
    assert [name for name, problem in found.items() if problem] == [SEAM]


def test_what_is_wrong_with_seams_is_a_problem(mini_host: Path, all_seams: dict) -> None:
    all_seams[SEAM] = "partial_fc_v2.py has no PartialFC_V2"
    report = examine(str(mini_host))
    assert report.problems == ["partial_fc_v2.py has no PartialFC_V2"] and not report.can_train
    assert report.seams[SEAM] in report.as_text()


def test_seams_that_cannot_be_looked_at_are_a_problem(mini_host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(checkout: Path) -> dict:
        raise ConfigError(f"{checkout}: its modules cannot be looked at: Killed")

    monkeypatch.setattr(doctor, "seams_of", fails)
    assert examine(str(mini_host)).problems == [f"{mini_host}: its modules cannot be looked at: Killed"]


@pytest.mark.usefixtures("all_seams")
def test_attached_and_where_the_checkout_is_looked_for(mini_host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attach(mini_host)
    assert examine(str(mini_host)).checkout["attached"] == "yes"
    monkeypatch.setenv("ARCFACE_TORCH", str(mini_host))
    assert examine().checkout["folder"] == str(mini_host)
    monkeypatch.delenv("ARCFACE_TORCH")
    monkeypatch.chdir(mini_host)
    assert examine().checkout["folder"] == str(mini_host)


@pytest.mark.usefixtures("all_seams")
def test_needed_repairs_say_why(mini_host: Path) -> None:
    (mini_host / "lr_scheduler.py").write_text("super().__init__(optimizer, verbose=verbose)\n")
    report = examine(str(mini_host))
    state = report.repairs["verbose of schedulers"]
    if torch.__version__ < "2.7":  # whose schedulers take `verbose`
        assert state == "not needed"
    else:
        assert state.startswith("needed: lr_scheduler.py passes `verbose=`")
    assert report.can_train  # a repair is no problem


@pytest.mark.usefixtures("all_seams")
def test_missing_packages_are_named(mini_host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = {"easydict", "scikit-learn", "mxnet", "onnx"}
    version = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in absent else version(name))
    report = examine(str(mini_host))
    assert report.versions["easydict"] == report.versions["scikit-learn"] == "missing"
    assert report.versions["mxnet"] == "missing (has a stand-in)" and report.versions["onnx"] == "missing (for export)"
    assert report.problems == [
        "easydict is not installed: pip install easydict",
        "scikit-learn is not installed, which the checkout's eval/verification.py needs: pip install scikit-learn",
    ]
    assert examine().problems == report.problems[:1]


def test_another_opencv_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"opencv-python": "4.10.0"}
    monkeypatch.setattr(doctor, "_version", known.get)
    assert versions()["opencv-python-headless"] == "4.10.0 (opencv-python)"


def test_a_package_that_does_not_import_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: "1.9.1")
    monkeypatch.setattr(doctor, "import_failure", lambda name: "AttributeError: np.bool" if name == "mxnet" else None)
    found = versions()
    assert found["mxnet"] == "1.9.1, does not import: AttributeError: np.bool" and found["torchvision"] == "1.9.1"
    assert found["timm"] == "1.9.1"


def test_timm_without_its_torchvision_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "1.0")
    monkeypatch.setattr(doctor, "import_failure", lambda name: "no torchvision.ops" if name == "timm" else None)
    assert versions()["timm"] == "1.0, does not import (for backbones vit_*): no torchvision.ops"


def test_records_of_insightface() -> None:
    folder = TESTS / "golden" / "insightface"
    assert data_found(folder) == {
        "folder": str(folder),
        "layout": "train.rec (InsightFace, with header record)",
        "images": "9",
        "identities": "3",
        "property": "3,112,112",
    }


def test_records_of_im2rec_with_pair_sets(tmp_path: Path) -> None:
    found = data_found(write_faces(tmp_path / "faces"))
    assert found["layout"] == "train.rec (im2rec, without header record)" and "property" not in found
    assert (found["images"], found["identities"], found["dev.bin"]) == ("48", "6", "20 pairs, 10 of one identity")


def test_image_folders(tmp_path: Path) -> None:
    (tmp_path / "faces" / "anna").mkdir(parents=True)
    (tmp_path / "faces" / "anna" / "1.png").write_bytes(encode_png(np.ascontiguousarray(draw(0, 0, 112))))
    assert data_found(tmp_path / "faces")["layout"] == "image folders, one per identity"


def test_data_that_training_refuses_is_a_problem(tmp_path: Path) -> None:
    faces = write_faces(tmp_path / "faces")
    (faces / "property").write_text("2,112,112")
    report = examine(data=str(faces))
    assert len(report.problems) == 1 and "outside [0, 2)" in report.problems[0] and not report.can_train
    assert examine(data=str(tmp_path / "none")).problems == [f"{tmp_path / 'none'}: no such folder"]


def test_real_faces(lfw: Path) -> None:
    found = data_found(lfw / "train")
    assert (found["images"], found["identities"], found["property"]) == ("4803", "629", "629,112,112")
    assert found["lfw_dev.bin"] == "1000 pairs, 500 of one identity"
