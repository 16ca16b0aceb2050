"""Registries: what the project brings and what a recipe adds, each by the name that a setting gives it.

The four instances at the end stand here, below everything that registers or asks, so that settings can be checked
without importing the loss or the data pipeline.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

Part = TypeVar("Part")


class Registry(dict[str, Part], Generic[Part]):
    """Parts by name. A name of the project's own cannot be taken once `freeze` was called; any other is replaced, as
    when the recipe that registers it is loaded again.

    Args:
        what: one part in words, for messages, such as "margin head".

    Example:
        >>> colours = Registry("colour")
        >>> colours.add("red", 0xFF0000) == colours["red"]
        True
        >>> colours.freeze()
        >>> colours.add("red", 0)
        Traceback (most recent call last):
        ValueError: there is a colour 'red' already: choose another name
    """

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.own: frozenset[str] = frozenset()

    def add(self, name: str, part: Part) -> Part:
        """Make `part` known as `name` and return it.

        Raises:
            ValueError: `name` is one of the project's own.
        """
        if name in self.own:
            raise ValueError(f"there is a {self.what} {name!r} already: choose another name")
        self[name] = part
        return part

    def freeze(self) -> None:
        """Make all names so far the project's own."""
        self.own = frozenset(self)


MARGIN_HEADS: Registry[Any] = Registry("margin head")
QUALITY_SOURCES: Registry[Any] = Registry("quality source")
QUEUE_KINDS: Registry[Any] = Registry("queue kind")
DEGRADATION_STEPS: Registry[Any] = Registry("degradation step")
