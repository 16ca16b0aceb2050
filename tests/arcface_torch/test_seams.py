"""A seam that is gone or has changed stops before training, with the file, what was expected and what was found."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from checkouts import MINI, copy_of, real_checkout

from qgface_plugin.arcface_torch.replacements import Replacements
from qgface_plugin.arcface_torch.run import _as_script
from qgface_plugin.arcface_torch.seams import SEAMS, find, imports, install
from qgface_plugin.config.run import Run
from qgface_plugin.utils.errors import ConfigError

NAMES = [seam.name for seam in SEAMS]


@pytest.fixture
def checkout(tmp_path) -> Path:
    return copy_of(MINI, tmp_path / "checkout")


def file_of(checkout: Path, seam) -> Path:
    path = checkout.joinpath(*seam.module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def change(file: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, file.read_text())
    assert count, pattern
    file.write_text(text)


@contextmanager
def imported(checkout: Path) -> Iterator[None]:
    with _as_script(checkout, "recipe.py"):
        yield


def test_all_of_the_miniatures_seams_are_found_and_filled(checkout):
    with imported(checkout):
        install(checkout, Replacements(Run()))
        import dataset
        import losses

        assert losses.CombinedMarginLoss(64, 1.0, 0.5, 0.0, 0).config.margin == "adaface"
        assert dataset.get_dataloader.__module__ == "qgface_plugin.arcface_torch.seams"
    assert "dataset" not in sys.modules


@pytest.mark.parametrize("seam", SEAMS, ids=NAMES)
def test_a_renamed_one_is_named(checkout, seam):
    file = file_of(checkout, seam)
    change(file, rf"(def|class) {seam.name}\b", r"\1 Renamed")
    with imported(checkout), pytest.raises(ConfigError) as error:
        install(checkout, Replacements(Run()))
    expected = f"{file} has no {seam.name}({', '.join(seam.parameters)}), it has "
    assert str(error.value).startswith(expected) and "Renamed" in str(error.value)


@pytest.mark.parametrize("seam", SEAMS, ids=NAMES)
def test_another_signature_is_named(checkout, seam):
    file = file_of(checkout, seam)
    first = seam.parameters[0]
    change(file, rf"\b{first}\b", f"other_{first}")
    with imported(checkout), pytest.raises(ConfigError) as error:
        install(checkout, Replacements(Run()))
    assert str(error.value).startswith(f"{file}: expected {seam.name}({first}")
    assert f", found {seam.name}(other_{first}" in str(error.value)


def test_the_call_of_the_logger_is_checked(checkout):
    file = checkout / "utils" / "utils_callbacks.py"
    change(file, "learning_rate, grad_scaler", "grad_scaler, learning_rate")
    with imported(checkout), pytest.raises(ConfigError, match=r"expected CallBackLogging.__call__\(self, global_step"):
        install(checkout, Replacements(Run()))


def test_further_parameters_must_be_optional(checkout):
    file = checkout / "losses.py"
    change(file, "interclass_filtering_threshold=0", "interclass_filtering_threshold=0, extra=1")
    with imported(checkout):
        install(checkout, Replacements(Run()))
    change(file, "interclass_filtering_threshold=0, extra=1", "interclass_filtering_threshold, extra")
    with imported(checkout), pytest.raises(ConfigError, match="found CombinedMarginLoss.*extra"):
        install(checkout, Replacements(Run()))


def test_a_missing_module_is_named(checkout):
    (checkout / "lr_scheduler.py").unlink()
    with (
        imported(checkout),
        pytest.raises(ConfigError, match=r"lr_scheduler.py is not there: QGFace expects Polynomial"),
    ):
        install(checkout, Replacements(Run()))


def test_a_module_that_fails_is_named(checkout):
    (checkout / "losses.py").write_text("import no_such_package\n")
    with imported(checkout), pytest.raises(ConfigError, match="losses.py cannot be imported: ModuleNotFoundError"):
        install(checkout, Replacements(Run()))


def test_a_loop_that_does_not_use_it_is_named(checkout):
    change(checkout / "train_v2.py", "from losses import CombinedMarginLoss", "from losses import ArcFace")
    with (
        imported(checkout),
        pytest.raises(ConfigError, match="does not import CombinedMarginLoss from losses: its loop"),
    ):
        install(checkout, Replacements(Run()))


def test_nothing_is_replaced_when_one_is_missing(checkout):
    change(checkout / "utils" / "utils_callbacks.py", "class CallBackLogging", "class Renamed")
    with imported(checkout):
        with pytest.raises(ConfigError):
            install(checkout, Replacements(Run()))
        assert sys.modules["losses"].CombinedMarginLoss.__module__ == "losses"


def test_a_module_of_that_name_from_elsewhere_is_refused(checkout, tmp_path):
    other = copy_of(MINI, tmp_path / "other")
    with imported(other):
        import losses  # noqa: F401

        with imported(checkout), pytest.raises(ConfigError, match="the module losses is .*other/losses.py, not "):
            find(checkout, next(seam for seam in SEAMS if seam.module == "losses"))


def test_what_a_script_imports(tmp_path):
    (tmp_path / "script.py").write_text("import os\nfrom a.b import c, d as e\ndef f():\n    from g import h\n")
    assert imports(tmp_path / "script.py") == {("a.b", "c"), ("a.b", "d"), ("g", "h")}


@pytest.mark.arcface_torch
def test_the_real_train_v2_imports_every_seam():
    found = imports(real_checkout() / "train_v2.py")
    assert {(seam.module, seam.name) for seam in SEAMS} <= found
