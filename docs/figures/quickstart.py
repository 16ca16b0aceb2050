"""Pictures of the first run: drawn_faces.png, quickstart_pairs.png and quickstart_curves.png beside this script.

    make quickstart
    python docs/figures/quickstart.py

The commands that a user would type draw them from `work_dirs/`; here they are only made small enough for a page. Every
face in them is drawn.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RUN, FACES = "work_dirs/quickstart", "work_dirs/procedural_faces"
COLOURS = 128  # of the palette


def commands(folder: str) -> dict[str, tuple[list[str], int]]:
    """Each picture's command, which writes into `folder`, and the width that it gets, in pixels."""
    pairs = ["figures", "pairs", RUN, "--recipe", "recipes/quickstart.py", "--data", FACES]
    sheet = ["inspect", FACES, "--quick", "--rows", "4", "--columns", "8"]
    return {
        "sheet": ([*sheet, "--sheet", f"{folder}/sheet.png"], 760),
        "fig4_pairs_quickstart": ([*pairs, "--output", folder], 1000),
        "training_quickstart": (["figures", "training", RUN, "--output", folder], 1200),
    }


NAMES = {
    "sheet": "drawn_faces",
    "fig4_pairs_quickstart": "quickstart_pairs",
    "training_quickstart": "quickstart_curves",
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, (command, width) in commands(folder).items():
            subprocess.run([sys.executable, "-m", "qgface_plugin", *command], cwd=ROOT, check=True)
            picture = Image.open(Path(folder, f"{name}.png")).convert("RGB")
            size = (width, round(picture.height * width / picture.width))
            small = picture.resize(size, Image.Resampling.LANCZOS).quantize(COLOURS, dither=Image.Dither.NONE)
            small.save(HERE / f"{NAMES[name]}.png", optimize=True)


if __name__ == "__main__":
    main()
