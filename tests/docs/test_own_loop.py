"""docs/own_loop.md: every diff fits the loop that it is against, and all five loops train."""

from __future__ import annotations

import subprocess
import sys

import pytest
from checkouts import environment
from pages import blocks
from paths import ROOT
from tiny import face

from qgface_plugin.data.images import encode_jpeg

PAGE = ROOT / "docs" / "own_loop.md"
LOOPS = {"plain": (), "loss": (0,), "pairs": (0, 1), "momentum": (0, 1, 2), "degradation": (0, 1, 3)}


def patched(source: str, diff: str) -> str:
    """The source with a diff's hunks applied; each hunk's old lines must stand in it exactly once."""
    for hunk in diff.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] in " -")
        new = "".join(line[1:] for line in lines if line[0] in " +")
        assert source.count(old) == 1, (source.count(old), old)
        source = source.replace(old, new)
    return source


def loop(name: str) -> str:
    (source,) = blocks(PAGE, "python")
    diffs = blocks(PAGE, "diff")
    assert len(diffs) == 4
    for number in LOOPS[name]:
        source = patched(source, diffs[number])
    return source


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    for who in range(4):
        (folder / f"p{who}").mkdir()
        for which in range(6):
            (folder / f"p{who}" / f"{which}.jpg").write_bytes(encode_jpeg(face(who, which), 95))
    return folder


@pytest.mark.parametrize("name", LOOPS)
def test_the_loop_trains(name, faces, tmp_path):
    (tmp_path / "loop.py").write_text(loop(name))
    command = [sys.executable, "loop.py", str(faces)]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    losses = [float(line.rpartition(" ")[2]) for line in done.stdout.splitlines() if line.startswith("epoch ")]
    assert len(losses) == 2 and all(0 <= loss < 200 for loss in losses) and losses[0] != losses[1]
    assert (tmp_path / "model.pt").stat().st_size > 10_000
    assert ("QGFaceMargin" in loop(name)) == (name != "plain")


def test_a_hunk_that_does_not_fit_is_noticed():
    with pytest.raises(AssertionError):
        patched("a = 1\n", "-b = 1\n+b = 2\n")
