"""docs/troubleshooting.md: the messages that it quotes are the ones that the code gives."""

from __future__ import annotations

import ast
import re

from pages import prose
from paths import ROOT

QUOTES = re.findall(
    r'"([^"\n]+ [^"\n]+ [^"\n]+)"', re.sub(r"`[^`\n]*`", "", prose(ROOT / "docs" / "troubleshooting.md"))
)


def texts() -> list[str]:
    """Every text of the package; what is put into it as "..."."""
    found = []
    for path in (ROOT / "qgface_plugin").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "..." for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"%[sd]|%\.\df", "...", node.value))
    return found


def test_quoted_messages_are_in_the_code():
    everything = "\n".join(texts())
    assert len(QUOTES) > 8
    lost = [quote for quote in QUOTES if not re.search(re.escape(quote).replace(r"\.\.\.", ".*"), everything)]
    assert lost == []
