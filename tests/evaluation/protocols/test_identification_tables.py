"""Tables of SCface and TinyFace: percent, similarities, and a dash where there is nothing."""

from __future__ import annotations

from qgface_plugin.evaluation.protocols.identification_tables import scface_table, tinyface_table


def part(mean: float | None) -> dict:
    return {"mean": mean, "std": None if mean is None else 0.125}


RESULTS = {
    "rank1": {"d1": 0.12345, "d2": None},
    "rank1_camera": {"cam1": {"d1": 0.5, "d2": None, "all": 0.5}},
    "mated_probes": {"d1": 1650, "d2": 0},
    "similarity": {
        "d1": {"same": part(0.5), "other": part(-0.25), "gap": 0.75, "nearest": part(0.375), "lead": 0.125},
        "d2": {"same": part(None), "other": part(None), "gap": None, "nearest": part(None), "lead": None},
    },
}


def test_scface():
    assert scface_table(RESULTS).splitlines() == [
        "                                      d1  d2",
        "-----------------------  ---------------  --",
        "rank-1 (%)                         12.35   -",
        "  cam1                             50.00   -",
        "probes                             1,650   0",
        "similarity, same person   0.500 +- 0.125   -",
        "similarity, others       -0.250 +- 0.125   -",
        "difference                         0.750   -",
        "most similar other        0.375 +- 0.125   -",
        "lead over it                       0.125   -",
    ]


def test_scface_with_a_gain():
    gain = {
        "d1": {"rank1": 0.05, "same": 0.1, "other": -0.02, "gap": 0.12, "lead": 0.05, "lead_ratio": 6.0},
        "d2": {"rank1": None, "same": None, "other": None, "gap": None, "lead": None, "lead_ratio": None},
    }
    assert [line.split() for line in scface_table(RESULTS, gain).splitlines()[-6:]] == [
        ["gain", "in", "rank-1", "(%)", "+5.00", "-"],
        ["gain,", "same", "person", "+0.100", "-"],
        ["gain,", "others", "-0.020", "-"],
        ["gain,", "difference", "+0.120", "-"],
        ["gain,", "lead", "+0.050", "-"],
        ["gain", "in", "lead", "(%)", "+600.00", "-"],
    ]


def test_tinyface():
    results = {
        "counts": {"probes": 3800, "mated_probes": 3728, "matches": 4443, "distractors": 153428},
        "rank": {"1": 0.5, "5": 0.6, "20": 0.7},
        "map": 0.4567,
        "without_distractors": {"rank": {"1": 0.8, "5": 0.9, "20": 1.0}, "map": 0.75},
    }
    assert tinyface_table(results).splitlines() == [
        "percent           probes  gallery  rank-1  rank-5  rank-20    mAP",
        "----------------  ------  -------  ------  ------  -------  -----",
        "with distractors   3,728  157,871   50.00   60.00    70.00  45.67",
        "without            3,728    4,443   80.00   90.00   100.00  75.00",
    ]
