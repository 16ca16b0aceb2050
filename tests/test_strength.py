"""How strongly a view was degraded: the definition by a loop, and that batches carry it in whatever way they travel."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import write_faces
from torch.utils.data import DataLoader

from qgface_plugin.config.degradation import ADAFACE, OURS, DegradationPolicy
from qgface_plugin.config.method import QGFaceConfig
from qgface_plugin.config.run import Run
from qgface_plugin.data.degrade_batch import both_views
from qgface_plugin.data.draws import Plan, draw, uniforms
from qgface_plugin.data.pairs import PairDataset, collate, worker_init
from qgface_plugin.data.records import FaceRecords
from qgface_plugin.data.strength import strength
from qgface_plugin.utils.errors import ConfigError

NOTHING = DegradationPolicy(rescale_p=0, jpeg_p=0, crop_p=0, photometric_p=0, rotation_p=0, flip_p=0.5)
PLACES = [(0, i) for i in range(12)]


def plans(policy: DegradationPolicy, count: int = 300) -> np.ndarray:
    return draw(policy, uniforms(7, np.zeros(count, np.int64), np.arange(count)))


def by_hand(plan: Plan) -> float:
    rescaled = math.log2(112 / math.sqrt(plan.small_height * plan.small_width))
    cropped = math.log2(112 / math.sqrt(plan.crop_height * plan.crop_width))
    q, jpeg = plan.jpeg_quality, 0.0
    if q:
        jpeg = math.log2(1 + (50 / q if q < 50 else 2 - q / 50))
    factors = (plan.first_factor, plan.second_factor, plan.third_factor)
    light = sum(abs(math.log2(max(f, 1 / 16))) for f in factors) / 2
    return rescaled + cropped + jpeg + light + abs(plan.degrees) / 90


@pytest.mark.parametrize("policy", [OURS, ADAFACE, replace(OURS, jpeg_quality=20, brightness=1.0)], ids=["e", "a", "q"])
def test_it_is_the_loops(policy):
    drawn = plans(policy)
    found = strength(drawn)
    assert found.dtype == np.float32 and (found >= 0).all() and found.std() > 0.1
    np.testing.assert_allclose(found, [by_hand(Plan._make(row)) for row in drawn.tolist()], rtol=1e-5, atol=1e-6)


def test_nothing_drawn_is_nothing_and_each_step_adds():
    assert (strength(plans(NOTHING)) == 0).all()
    for change in ({"rescale_p": 1.0}, {"jpeg_p": 1.0}, {"crop_p": 1.0}, {"photometric_p": 1.0}, {"rotation_p": 1.0}):
        assert (strength(plans(replace(NOTHING, **change))) > 0).mean() > 0.95, change
    sides = strength(plans(replace(NOTHING, rescale_p=1.0, rescale_ratio=(0.25, 0.25))))
    np.testing.assert_allclose(sides, 2.0)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return FaceRecords(str(write_faces(tmp_path_factory.mktemp("faces") / "data")))


@pytest.mark.parametrize("degrade_on", ["cpu", "device"])
@pytest.mark.parametrize("workers", [0, 1])
def test_batches_carry_it(source, degrade_on, workers):
    dataset = PairDataset(source, OURS, 7, degrade_on=degrade_on).for_workers(workers, 6)
    loader = DataLoader(
        dataset, batch_size=6, sampler=PLACES, num_workers=workers, collate_fn=collate, worker_init_fn=worker_init
    )
    expected = torch.from_numpy(strength(plans(OURS, 12)))
    for i, batch in enumerate(loader):
        batch = both_views(batch.to("cpu"), OURS)
        assert torch.equal(batch.strength, expected[6 * i : 6 * i + 6])
        assert batch.strengths().tolist() == [0.0] * 6 + batch.strength.tolist()
        assert any(tensor is batch.strength for tensor in batch.tensors())


def test_single_views_have_none(source):
    batch = PairDataset(source, None, 7).__getitems__(PLACES)
    assert batch.strength is None and batch.strengths() is None
    with pytest.raises(ConfigError, match=r"quality is 'degradation', but config\.qgface\.degradation is None"):
        Run(degradation=None, qgface=QGFaceConfig(quality="degradation", queue="none"))
