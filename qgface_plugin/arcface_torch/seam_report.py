"""Report of the seams that a checkout has, by a process of its own that imports the checkout's modules, repaired.

python -m qgface_plugin.arcface_torch.seam_report DIR
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from ..utils.errors import ConfigError

PACKAGES = Path(__file__).resolve().parents[2]  # where qgface_plugin itself is found


def seams_of(checkout: Path) -> dict[str, str | None]:
    """For every seam ("partial_fc_v2.PartialFC_V2"), None when it is as expected, else what is wrong.

    Nothing is imported into this process and nothing written to the checkout, not even bytecode.
    Raises ConfigError with the last line of the other process where it fails altogether.
    """
    path = os.pathsep.join(filter(None, (str(PACKAGES), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-B", "-m", __name__, str(checkout.resolve())],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise ConfigError(f"{checkout}: its modules cannot be looked at: {said[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def _main(checkout: Path) -> None:
    from . import compat, seams
    from .checkout import SCRIPT
    from .script import script_problems

    sys.path.insert(0, str(checkout))
    compat.apply(checkout)
    found: dict[str, str | None] = {}
    for seam in seams.SEAMS:
        try:
            seams.find(checkout, seam)
            problem = None
        except ConfigError as error:
            problem = str(error)
        found[f"{seam.module}.{seam.name}"] = problem
    found |= {f"{SCRIPT}, problem {number}": line for number, line in enumerate(script_problems(checkout), start=1)}
    print(json.dumps(found))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
