"""How data workers start, whatever Python's default is."""

from __future__ import annotations

import multiprocessing
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from qgface_plugin.utils.python_3_14 import start_method


@pytest.mark.skipif(sys.platform != "linux", reason="fork is Linux's")
def test_workers_are_forked_and_need_no_pickle():
    class Local(Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return np.int64(10 * index)

    loader = DataLoader(Local(), 2, num_workers=1, multiprocessing_context=start_method(1))
    assert isinstance(loader.multiprocessing_context, type(multiprocessing.get_context("fork")))
    assert [batch.tolist() for batch in loader] == [[0, 10], [20, 30]]


def test_without_workers_there_is_no_method():
    assert start_method(0) is None
    assert torch.equal(next(iter(DataLoader([1], multiprocessing_context=start_method(0)))), torch.tensor([1]))
