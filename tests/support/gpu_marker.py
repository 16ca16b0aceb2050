"""Which tests are shown a GPU: those that carry the marker `gpu`, where it is asked for; all others run on CPUs."""

from __future__ import annotations

import re

from _pytest.mark.expression import Expression


def gpus_wanted(expression: str) -> bool:
    """Whether pytest's `-m` asks for the marker `gpu`, by name."""
    named = re.search(r"\bgpu\b", expression) is not None
    return named and Expression.compile(expression).evaluate(lambda name, **_: name == "gpu")
