"""The schema of settings: values that fit, and messages about those that do not."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from qgface_plugin.config.schema import as_mapping, check_fields, check_known, from_mapping, near_matches
from qgface_plugin.utils.errors import ConfigError


@dataclass(frozen=True)
class Sample:
    share: float = field(default=0.5, metadata={"low": 0.0, "high": 1.0})
    rate: float = field(default=0.1, metadata={"above": 0.0})
    part: float = field(default=1.0, metadata={"above": 0.0, "high": 1.0})
    count: int | None = field(default=None, metadata={"low": 1})
    kind: str = field(default="a", metadata={"choices": ("a", "b")})
    flag: bool = False
    names: tuple[str, ...] = ()
    triple: tuple[float, float, float] = (1.0, 0.5, 0.0)
    folders: str | list[str] = "here"

    def __post_init__(self) -> None:
        check_fields(self, "config.sample")


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"share": 0, "rate": 1e-9, "part": 1},
        {"share": 1.0, "count": 1, "flag": True},
        {"names": ["x", "y"], "triple": [1, 0, 0.4], "folders": ["x"]},
    ],
)
def test_values_that_fit_are_taken_as_they_are(values):
    sample = from_mapping(Sample, values, "config.sample")
    for key, value in values.items():
        assert getattr(sample, key) == value


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"share": 1.1}, r"config\.sample\.share is 1\.1: it must be in \[0\.0, 1\.0\]"),
        ({"share": -0.1}, r"config\.sample\.share is -0\.1: it must be in \[0\.0, 1\.0\]"),
        ({"rate": 0.0}, r"config\.sample\.rate is 0\.0: it must be above 0\.0"),
        ({"rate": float("nan")}, r"config\.sample\.rate is nan: it must be a finite number"),
        ({"rate": float("inf")}, r"config\.sample\.rate is inf: it must be a finite number"),
        ({"part": 0}, r"config\.sample\.part is 0: it must be in \(0\.0, 1\.0\]"),
        ({"part": 1.5}, r"config\.sample\.part is 1\.5: it must be in \(0\.0, 1\.0\]"),
        ({"count": 0}, r"config\.sample\.count is 0: it must be at least 1"),
        ({"count": 2.0}, r"config\.sample\.count is 2\.0 \(float\): it must be int or None"),
        ({"count": True}, r"config\.sample\.count is True \(bool\): it must be int or None"),
        ({"rate": False}, r"config\.sample\.rate is False \(bool\): it must be float"),
        ({"rate": "0.1"}, r"config\.sample\.rate is '0\.1' \(str\): it must be float"),
        ({"flag": 1}, r"config\.sample\.flag is 1 \(int\): it must be bool"),
        ({"kind": "c"}, r"config\.sample\.kind is 'c': it must be one of 'a', 'b'"),
        ({"kind": None}, r"config\.sample\.kind is None \(NoneType\): it must be str"),
        ({"names": "lfw"}, r"config\.sample\.names is 'lfw' \(str\): it must be a list of str"),
        ({"names": [1]}, r"config\.sample\.names is \[1\] \(list\): it must be a list of str"),
        ({"triple": (1.0, 0.5)}, r"config\.sample\.triple is .*: it must be \(float, float, float\)"),
        ({"triple": (1.0, 0.5, None)}, r"config\.sample\.triple is .*: it must be \(float, float, float\)"),
        ({"folders": 3}, r"config\.sample\.folders is 3 \(int\): it must be str or a list of str"),
    ],
)
def test_values_that_do_not_fit_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        from_mapping(Sample, values, "config.sample")


def test_an_unknown_key_names_its_near_matches():
    with pytest.raises(ConfigError, match=r"^config\.sample\.shere is unknown: did you mean share\?$"):
        from_mapping(Sample, {"shere": 1}, "config.sample")


def test_an_unknown_key_without_near_matches_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"config\.sample\.zzz is unknown: known keys: count, .*share, triple"):
        from_mapping(Sample, {"zzz": 1}, "config.sample")


def test_also_known_keys_are_suggested():
    with pytest.raises(ConfigError, match="did you mean authors"):
        from_mapping(Sample, {"author": 1}, "config.sample", also_known=("authors",))


def test_a_misplaced_key_says_where_it_belongs():
    homes = {"config": ["lr"], "config.sample": ["share"]}
    with pytest.raises(ConfigError, match=r"^config\.sample\.lr is unknown: it belongs in config$"):
        from_mapping(Sample, {"lr": 1}, "config.sample", homes=homes)
    with pytest.raises(ConfigError, match=r"^config\.shere is unknown: did you mean share\?$"):
        check_known({"lr": 1, "shere": 1}, "config", ["lr", "share"], homes)


@pytest.mark.parametrize("values", [5, None, "share", [("share", 1)]])
def test_a_group_that_is_no_mapping_is_named(values):
    with pytest.raises(ConfigError, match=r"config\.sample is .* \(\w+\): it must be an EasyDict"):
        from_mapping(Sample, values, "config.sample")


def test_a_group_is_copied():
    given = {"share": 1}
    taken = as_mapping(given, "config.sample")
    taken["share"] = 2
    assert given == {"share": 1}


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("Batch_Size", "did you mean batch_size?"),
        ("batchsize", "did you mean batch_size?"),
        ("qqqq", "known keys: batch_size, lr"),
    ],
)
def test_near_matches(key, found):
    assert near_matches(key, ["lr", "batch_size"]) == found
