"""Names of the files that figures go to: with the runs in them, so that one run's figure never replaces another's."""

from __future__ import annotations

import hashlib
from pathlib import Path

LONGEST = 120  # characters of a name, without the run's path and the suffix


def named_after(figure: str, *sources: str | Path) -> str:
    """The name of a figure's files, without suffix: what it shows, then what it is drawn from.

    A path below the working directory is in it whole, but for a leading `work_dirs`; of any other path the last part,
    and a digest of the rest. So is the end of a name that would be too long.

    Args:
        figure: what it shows.
        sources: folders of runs, files of models, verification sets.

    Example:
        >>> named_after("fig4_pairs", "work_dirs/qgface_r34")
        'fig4_pairs_qgface_r34'
        >>> named_after("training", "work_dirs/paper/D-seed1", "work_dirs/paper/E-seed1")
        'training_paper-D-seed1_paper-E-seed1'
    """
    name = "_".join([figure, *map(_short, sources)])
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 9]}-{_digest(name)}"


def _short(source: str | Path) -> str:
    path = Path(source).resolve()
    try:
        parts = path.relative_to(Path.cwd().resolve()).parts
    except ValueError:
        return f"{path.name}-{_digest(str(path.parent))}"
    return "-".join(parts[1:] if len(parts) > 1 and parts[0] == "work_dirs" else parts)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]
