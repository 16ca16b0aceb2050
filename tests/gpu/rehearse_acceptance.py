"""Checks of the acceptance on pretended CUDA, in small, so that none of them breaks when it first meets a GPU."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from rehearsal import main, rehearsal  # isort: skip  # before torch
from pretended_cuda import CUDA, pretended_cuda, torch  # isort: skip

from qgface_plugin.benchmarks import _acceptance  # noqa: E402
from qgface_plugin.benchmarks._acceptance.check import Place  # noqa: E402
from qgface_plugin.data.degradation import gpu  # noqa: E402

# The others need a GPU's clock, profiler or memory, a checkout, ranks, or tests in processes of their own.
NAMES = (
    "criterion, against the CPU", "waits of a steady step", "200 steps in float16, one of them bad",
    "prefetching under a busy stream", "embedding, against the CPU", "resumes", "quickstart",
    "degradation there, against the CPU",
)  # fmt: skip


def rehearse(check: _acceptance.Check) -> None:
    @rehearsal(f"acceptance: {check.name}")
    def _(folder):
        gpu.tables_of.cache_clear()
        with (
            pretended_cuda(),
            mock.patch.multiple(torch.cuda, _sleep=lambda _: None, set_sync_debug_mode=lambda _: None),
        ):
            found = check.look(Place(CUDA, folder, small=True))
        gpu.tables_of.cache_clear()
        assert found.good, found.said
        return found.said


for _check in _acceptance.checks():
    if _check.name in NAMES:
        rehearse(_check)


if __name__ == "__main__":
    sys.exit(main())
