"""Event files are read in the order in which they were made, whatever the clock and the counters say."""

from __future__ import annotations

import pytest

from qgface_plugin.training.event_files import make_room

PREFIX = "events.out.tfevents."


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["1000000000.vm.7.9"], ["1000000000.vm.7.9"]),  # of another second: nothing to do
        (["1000000009.vm.7.9"], ["1000000008.vm.7.9"]),
        (["1000000009.vm.7.1", "1000000009.vm.7.2"], ["1000000007.vm.7.1", "1000000008.vm.7.2"]),
        (["1000000500.vm.7.1", "1000000900.a.b"], ["1000000007.vm.7.1", "1000000008.a.b"]),  # the clock went back
        (["0999999000.x", "1000000007.y", "1000000008.z", "1000000009.w"],
         ["0999999000.x", "1000000006.y", "1000000007.z", "1000000008.w"]),
    ],
)  # fmt: skip
def test_the_next_one_comes_last_and_the_order_stays(tmp_path, before, after):
    for number, name in enumerate(before):
        (tmp_path / (PREFIX + name)).write_text(str(number))
    (tmp_path / "projector_config.pbtxt").write_text("x")
    make_room(tmp_path, now=1000000009.5)
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == [PREFIX + name for name in after] + ["projector_config.pbtxt"]
    assert [(tmp_path / (PREFIX + name)).read_text() for name in after] == list(map(str, range(len(after))))


def test_no_folder_yet(tmp_path):
    make_room(tmp_path / "tensorboard")
    assert not (tmp_path / "tensorboard").exists()
