"""Forks whose script does what QGFace cannot serve are refused by name, by doctor and before training."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from checkouts import MINI, ROOT, copy_of, real_checkout, run, write_recipe

from qgface_plugin.arcface_torch.doctor import examine
from qgface_plugin.arcface_torch.script import script_problems

STEP = "            loss = head(backbone(img), local_labels)\n"
WARPED = "            img = warp(backbone=backbone, img=img, criterion=head, ratio=cfg.ratio)\n"


def fork(folder: Path, *more: str) -> Path:
    checkout = copy_of(MINI, folder / "fork")
    script = checkout / "train_v2.py"
    assert STEP in script.read_text()
    script.write_text(script.read_text().replace(STEP, "".join(more) + STEP))
    return checkout


def test_the_miniature_has_no_problem():
    assert script_problems(MINI) == []


def test_the_real_checkout_has_no_problem():
    assert script_problems(real_checkout()) == []


def test_a_criterion_that_goes_elsewhere_and_keys_of_the_forks_own(tmp_path):
    checkout = fork(tmp_path, WARPED)
    script = checkout / "train_v2.py"
    line = script.read_text().splitlines().index(WARPED.rstrip()) + 1
    keys, criterion = script_problems(checkout)
    assert keys.startswith(f"{script} reads config.ratio, which neither {checkout / 'configs' / 'base.py'} nor")
    assert criterion.startswith(f"{script} line {line} hands its criterion to warp(): expected is one call a step")


@pytest.mark.parametrize("setting", ["config.size = 112\n", "config['size'] = 112\n", "config.update(size=112)\n"])
def test_keys_that_the_forks_base_sets_are_its_own_business(tmp_path, setting):
    checkout = fork(tmp_path, "            size = cfg.size\n")
    assert "config.size" in script_problems(checkout)[0]
    base = checkout / "configs" / "base.py"
    base.write_text(base.read_text() + "\n" + setting)
    assert script_problems(checkout) == []


def test_doctor_and_a_recipe_refuse_it(tmp_path):
    checkout = fork(tmp_path, WARPED)
    report = examine(str(checkout))
    assert not report.can_train and sum("hands its criterion to warp()" in line for line in report.problems) == 1
    done = run(ROOT / "train_v2.py", write_recipe(tmp_path, "recipe"), cwd=tmp_path, ARCFACE_TORCH=str(checkout))
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr


@pytest.mark.long
@pytest.mark.parametrize(("variable", "said"), [("AROFACE", "hands its criterion to adversarial_img_warping()")])
def test_real_forks_are_refused(variable, said):
    if variable not in os.environ:
        pytest.skip(f"{variable} names no checkout")
    assert any(said in problem for problem in script_problems(Path(os.environ[variable])))
