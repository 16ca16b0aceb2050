"""Registries: what the project brings and what a recipe adds, each by the name that a setting gives it.

The instances at the end stand here, below everything that registers or asks, so that settings can be checked
without importing the loss or the data pipeline. Only when one is asked for a name is the module imported that brings
the project's own; it is named as text, since this room knows none of those above it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, MutableMapping
from importlib import import_module
from types import FrameType
from typing import Any, Generic, TypeVar

Part = TypeVar("Part")
PACKAGE = __name__.partition(".")[0]
FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class Registry(MutableMapping[str, Part], Generic[Part]):
    """Parts by name. A name of the project's own cannot be taken once `freeze` was called; any other is replaced, as
    when the recipe that registers it is loaded again.

    Args:
        what: one part in words, for messages, such as "margin head".
        brought_by: the module that adds the project's own and freezes them, below the package; it is imported when the
            registry is first looked into. None: the project brings none.

    Example:
        >>> colours = Registry("colour")
        >>> colours.add("red", 0xFF0000) == colours["red"]
        True
        >>> colours.freeze()
        >>> colours.add("red", 0)
        Traceback (most recent call last):
        ValueError: there is a colour 'red' already: choose another name
    """

    def __init__(self, what: str, brought_by: str | None = None) -> None:
        self.what = what
        self._brought_by = brought_by
        self._parts: dict[str, Part] = {}
        self._files: dict[str, str] = {}
        self._own: frozenset[str] = frozenset()

    @property
    def own(self) -> frozenset[str]:
        """The project's own names."""
        self._bring()
        return self._own

    def __getitem__(self, name: str) -> Part:
        self._bring()
        return self._parts[name]

    def __setitem__(self, name: str, part: Part) -> None:
        self._parts[name] = part

    def __delitem__(self, name: str) -> None:
        del self._parts[name]
        self._files.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        self._bring()
        return iter(self._parts)

    def __len__(self) -> int:
        self._bring()
        return len(self._parts)

    def add(self, name: str, part: Part) -> Part:
        """Make `part` known as `name` and return it.

        Raises:
            ValueError: `name` is one of the project's own.
        """
        if name in self._own:  # known by now: the module that brings them has the function that adds others
            raise ValueError(f"there is a {self.what} {name!r} already: choose another name")
        self[name] = part
        self._files[name] = _caller()
        return part

    def file_of(self, name: str) -> str | None:
        """The file that has added a part; None for one of the project's own and for a name that is not known."""
        return None if name in self._own else self._files.get(name)

    def freeze(self) -> None:
        """Make all names so far the project's own."""
        self._own = frozenset(self._parts)

    def _bring(self) -> None:
        if (module := self._brought_by) is not None:
            import_module(f"{PACKAGE}.{module}")  # another thread that asks meanwhile waits here for the same import
            self._brought_by = None


def _caller() -> str:
    """The file outside of the package that something is called from; "" where there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith((FOLDER, "<")):
        frame = frame.f_back
    return "" if frame is None else os.path.realpath(frame.f_code.co_filename)


MARGIN_HEADS: Registry[Any] = Registry("margin head", "loss.heads")
QUALITY_SOURCES: Registry[Any] = Registry("quality source", "loss.quality")
QUEUE_KINDS: Registry[Any] = Registry("queue kind", "loss.feature_queue")
DEGRADATION_STEPS: Registry[Any] = Registry("degradation step")
NETWORKS: Registry[Any] = Registry("network", "models.backbones")
