"""Event files of TensorBoard, whose readers take them in the order of their names: the newest has to come last.

A name begins with the second of its making, then come the machine, the process and a counter. Two of the same second
(a run started again by torchrun) may so stand in any order ("10" before "9"), and after the clock went back an old one
stands last: its steps, which the newer one has taken the place of, would come back.
"""

from __future__ import annotations

import logging
import os
import re
import time
from pathlib import Path

LOGGER = logging.getLogger(__name__)
NAME = re.compile(r"events\.out\.tfevents\.(\d{1,18})\.(.+)", re.DOTALL)


def make_room(folder: str | Path, now: float | None = None) -> None:
    """Rename event files so that the next one comes after all of them; their own order stays.

    Only files of this second or of later ones, which stand in the way, get an earlier second in their names.

    Args:
        folder: of the run's events; nothing happens where there is none.
        now: the time, in seconds since 1970.
    """
    latest = int(time.time() if now is None else now) - 1
    try:
        names = sorted(os.listdir(folder), reverse=True)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        match = NAME.fullmatch(name)
        if match is None:
            continue
        if int(match[1]) > latest:
            earlier = f"events.out.tfevents.{latest:010d}.{match[2]}"
            os.replace(Path(folder, name), Path(folder, earlier))
            LOGGER.info("%s is %s now, so that TensorBoard reads what follows after it", name, earlier)
        latest = min(latest, int(match[1])) - 1
