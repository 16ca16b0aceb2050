"""GPUs are hidden from ordinary tests."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from gpu_marker import gpus_wanted


@pytest.mark.parametrize(
    "expression, wanted",
    [
        ("not long", False), ("", False), ("long", False), ("gpu", True), ("gpu and not long", True),
        ("not gpu", False), ("long or gpu", True), ("not long and not gpu", False), ("arcface_torch", False),
    ],
)  # fmt: skip
def test_which_expressions_ask_for_gpus(expression, wanted):
    assert gpus_wanted(expression) is wanted


def test_hidden_here_and_in_processes_that_tests_start():
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "" and not torch.cuda.is_available()
    said = subprocess.check_output([sys.executable, "-c", "import os; print(repr(os.environ['CUDA_VISIBLE_DEVICES']))"])
    assert said.decode().strip() == "''"
