"""Sources of quality, running thresholds and margin heads: three ranks train as one does, sampled classes or not."""

from __future__ import annotations

import pytest
import torch
from rank_runs import Case, run
from test_ranks import assert_same_run

CASES = {
    "certainty": Case({"quality": "certainty", "b_quantile": 0.4}),
    "certainty_sampled": Case({"quality": "certainty"}, sample_rate=0.4),
    "given": Case({"quality": "sharpness", "b_quantile": 0.3, "margin_quality": "norm"}),
    "curricularface": Case({"margin": "curricularface", "curricular_momentum": 0.2}),
    "curricularface_sampled": Case({"margin": "curricularface", "quality": "certainty"}, sample_rate=0.1),
    "magface": Case({"margin": "magface", "magface_norms": (0.5, 2.0), "b_quantile": 0.4}, accumulate=2),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return run((1, 3), CASES, 6, tmp_path_factory.mktemp("quality"))


@pytest.mark.parametrize("name", CASES)
def test_three_ranks_train_as_one_does(results, name):
    assert_same_run(results[1], results[3], name)


def test_the_cases_are_such(results):
    """Thresholds, statistics and t have moved, and the runs differ."""
    margins = {name: results[1][0][name]["margin"] for name in CASES}
    assert all(values.isfinite().all() and (values != 0).any() for values in margins.values())
    losses = [tuple(results[1][0][name]["losses"]) for name in CASES]
    assert len(set(losses)) == len(CASES)
    assert not torch.equal(margins["curricularface"], margins["curricularface_sampled"])
