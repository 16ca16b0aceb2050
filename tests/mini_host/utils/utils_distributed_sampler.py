"""Seeds and samplers."""

import torch
from torch import distributed
from torch.utils.data import DistributedSampler  # noqa: F401 - dataset.py takes it from here


def setup_seed(seed, cuda_deterministic=True):
    torch.manual_seed(seed)


def sync_random_seed(seed=None, device="cuda"):
    value = torch.tensor(seed or 0, device=device)
    distributed.broadcast(value, src=0)
    return int(value)
