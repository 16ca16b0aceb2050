"""What a data set has against its protocol: both numbers, and all names."""

from __future__ import annotations

import pytest

from qgface_plugin.evaluation.protocols.inventory import SHOWN, Inventory, listed


def test_a_difference_is_a_warning_with_both_numbers():
    inventory = Inventory()
    inventory.count("probes", 3728, 3728)
    inventory.count("distractors", 153428, 1500)
    assert inventory.warnings == ["distractors: 153,428 in the protocol, 1,500 here"]
    assert inventory.as_dict()["counts"] == {
        "probes": {"protocol": 3728, "here": 3728},
        "distractors": {"protocol": 153428, "here": 1500},
    }


def test_names_are_all_kept_and_a_few_shown():
    inventory = Inventory()
    names = [f"n{number}" for number in range(1300)]
    inventory.name("missing", iter(names), "{} images of {{this}} are missing")
    inventory.name("surplus", [], "{} images are surplus")
    assert inventory.names == {"missing": names, "surplus": []}
    assert inventory.warnings == ["1,300 images of {this} are missing: n0, n1, n2, n3, n4, n5, n6, n7 and 1,292 more"]


@pytest.mark.parametrize(("count", "end"), [(1, "0"), (SHOWN, "7"), (SHOWN + 1, "7 and 1 more")])
def test_listed(count, end):
    assert listed([str(number) for number in range(count)]).endswith(end)
