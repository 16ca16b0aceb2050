"""Labels as other data sets have them: whole numbers or names, in a field of its own or in an object."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ....utils.errors import DataError

NAMES = ("label", "labels", "cls", "class", "identity", "id", "person")
_WHOLE = re.compile(r"(\d{1,18})(\.0*)?")
LONGEST = 500  # characters of a name


def identity_of(value: Any, where: str) -> str:
    """The name of an identity: a whole number without zeros before it, or a text as it is.

    Raises:
        DataError: neither; begins with `where`.

    Example:
        >>> identity_of("007", "a"), identity_of(7, "a"), identity_of("n0007", "a")
        ('7', '7', 'n0007')
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise DataError(f"{where}: {value!r:.80} is no label: a whole number or a name")
    text = value.strip() if isinstance(value, str) else str(value)
    if found := _WHOLE.fullmatch(text):
        return str(int(found[1]))
    if not isinstance(value, str) or not text or len(text) > LONGEST or not text.isprintable():
        raise DataError(f"{where}: {value!r:.80} is no label: a whole number or a name")
    return text


def identity_in(content: Any, where: str, key: str | None = None) -> str:
    """The identity in an object, under `key` or the first of NAMES that it has; or a label itself.

    Raises:
        DataError: there is none; begins with `where`.
    """
    if not isinstance(content, Mapping):
        return identity_of(content, where)
    name = key or next((name for name in NAMES if name in content), None)
    if name is None or name not in content:
        wanted = repr(key) if key else f"none of {', '.join(NAMES)}"
        raise DataError(f"{where}: {wanted} among {', '.join(map(str, content))[:200]}: name the one with --label-key")
    return identity_of(content[name], where)
