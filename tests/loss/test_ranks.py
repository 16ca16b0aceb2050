"""Quality, thresholds, margin heads, the teacher's terms: several ranks train as one does, sampled classes or not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rank_runs import BASE, INPUTS, PAIRS, Case, run

from qgface_plugin.utils.torch_before_2_8 import GLOO_SCATTERS

CASES = {
    "certainty": Case({"quality": "certainty", "b_quantile": 0.4}),
    "certainty_sampled": Case({"quality": "certainty"}, sample_rate=0.4),
    "given": Case({"quality": "sharpness", "b_quantile": 0.3, "margin_quality": "norm"}),
    "curricularface": Case({"margin": "curricularface", "curricular_momentum": 0.2}),
    "curricularface_sampled": Case({"margin": "curricularface", "quality": "certainty"}, sample_rate=0.1),
    "curricularface_batch_only": Case({"margin": "curricularface", "quality": "certainty"}, sample_rate=0.0),
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


# --- World size: whole runs with a DDP backbone on 1 to 4 gloo ranks agree, and what travels does not grow ------------


RANKS = {
    "accumulated": Case(accumulate=2),
    "sampled": Case(sample_rate=0.4, accumulate=2),
    "batch_only": Case(sample_rate=0.0),
    "float32": Case(dtype=torch.float32),
}
LONG = RANKS | {
    "plain": Case(),
    "sampled_float32": Case(sample_rate=0.4, dtype=torch.float32),
    "sampled_all": Case({"queue_policy": "all"}, sample_rate=0.1),
    "both": Case({"coupling": "both", "detach_key": False, "positive_in_denominator": False}, accumulate=3),
}


def whole(results: list[dict], name: str) -> dict:
    """The ranks' results of a case put together: centres one below the other, the queue by age."""
    parts = [result[name] for result in results]
    for part in parts:
        assert torch.equal(torch.stack(part["losses"]), torch.stack(parts[0]["losses"])), "ranks differ in the loss"
        assert torch.equal(part["weights"], parts[0]["weights"]), "ranks differ in the backbone"
        assert torch.equal(part["margin"], parts[0]["margin"]), "ranks differ in statistics, threshold or head"
    queue = sorted((entry for part in parts for entry in part["queue"]), key=lambda entry: entry[0])
    centres = [torch.cat(shards) for shards in zip(*(part["centres"] for part in parts), strict=True)]
    return {
        "loss": torch.stack(parts[0]["losses"]),
        "backbone": torch.stack(parts[0]["backbone"]),
        "centres": torch.stack(centres),
        "weights": parts[0]["weights"],
        "margin": parts[0]["margin"],
        "serial, label": torch.tensor([entry[:2] for entry in queue]),
        "features": torch.stack([entry[2] for entry in queue]),
    }


def assert_same_run(one: list[dict], many: list[dict], name: str) -> None:
    expected, found = whole(one, name), whole(many, name)
    assert len(expected["features"]) == BASE["queue_size"]
    assert torch.equal(found.pop("serial, label"), expected.pop("serial, label"))
    for key, value in expected.items():
        tolerance = 1e-10 if value.dtype == torch.float64 else 1e-5
        error = (found[key] - value).abs().flatten(1 if value.ndim > 1 else 0).amax(-1)
        size = value.abs().flatten(1 if value.ndim > 1 else 0).amax(-1)
        np.testing.assert_array_less((error / size).numpy(), tolerance, err_msg=f"{name}: {key}")


ALONE = {"classification_weight": 0.0, "teacher_weight": 0.5, "queue": "teacher"}
TAUGHT = {  # by a frozen teacher
    "pull": Case({"teacher_weight": 0.7}, accumulate=2),
    "pull_alone": Case(ALONE | {"contrastive_weight": 0.0}),
    "contrast_sampled": Case({"queue": "teacher", "contrastive_gate": "none"}, sample_rate=0.4),
    "contrast_alone": Case(ALONE | {"contrastive_gate": "none", "coupling": "both"}),
}


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    return run((1, 2, 4), RANKS | TAUGHT, 8, tmp_path_factory.mktemp("short"))


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("name", TAUGHT)
def test_ranks_train_with_a_teacher_as_one_does(short, name, ranks):
    assert_same_run(short[1], short[ranks], name)


@pytest.mark.parametrize("name", RANKS)
def test_four_ranks_train_as_one_does(short, name):
    assert_same_run(short[1], short[4], name)


def test_sampling_leaves_classes_out(short):
    """So that the case is one: fewer classes than all have a gradient in a step, not the same ones in each."""
    touched = [set((step != 0).any(1).nonzero().squeeze(1).tolist()) for step in whole(short[1], "sampled")["centres"]]
    assert all(len(classes) < 11 for classes in touched) and len(set(map(frozenset, touched))) > 1


def test_with_a_rate_of_0_ranks_may_have_no_class_at_all(short):
    """So that the case is one: every third batch has classes 0, 1 and 2 only, and just these have a gradient."""
    for rank, result in enumerate(short[4]):
        gradient = result["batch_only"]["centres"][1]  # of step 2
        assert (gradient != 0).any() == (rank == 0)


def test_collectives_are_those_of_the_docstring(short):
    """Whatever reaches the process group, counted: two all-gathers, two all-reduces, one reduce-scatter."""
    own = 2 * PAIRS // 4  # rows of a rank
    for name, more in (("few", []), ("many", []), ("momentum", [own * INPUTS, own]), ("certain", [])):
        for result in short[4]:
            rows, gathered = result[name]["rows"], [own * INPUTS, own, *more]
            expected = [("allgather_", numbers) for numbers in gathered]
            if name == "certain":
                expected += [("allreduce_", 2 * 2 * PAIRS), ("allreduce_", result[name]["classified"])]
            expected += [("allreduce_", rows), ("allreduce_", 2 * rows)]
            expected += [("reduce_scatter_", own * INPUTS) if GLOO_SCATTERS else ("allreduce_", 2 * PAIRS * INPUTS)]
            assert result[name]["seen"] == expected and 0 < rows < 3 * PAIRS


@pytest.mark.long
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_fifty_steps_on_each_number_of_ranks(ranks, tmp_path):
    results = run((1, ranks), LONG, 50, tmp_path)
    for name in LONG:
        assert_same_run(results[1], results[ranks], name)
