"""Figure of a batch on its way through the files: writes flow.svg beside this script.

    python docs/figures/flow.py

Standard library only. File names are below `qgface_plugin/`, or below the project's folder where they are not there;
tests/docs/test_architecture.py sees to it that they exist and that flow.svg is what this script writes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 1020, 1280  # units of the drawing
SANS, MONO = "Helvetica, Arial, 'Liberation Sans', sans-serif", "Menlo, Consolas, 'DejaVu Sans Mono', monospace"
TITLE, WORDS, FILES = 16.5, 15.0, 14.5  # font sizes
LINE = 19.5  # from one line of text to the next
PAD = 11  # from the edge of a box to its text
SIZE = {"title": TITLE, "words": WORDS, "file": FILES}

STYLE = f"""
text {{ fill: #111; font-family: {SANS}; font-size: {WORDS}px; }}
.title {{ font-weight: bold; font-size: {TITLE}px; }}
.file {{ font-family: {MONO}; font-size: {FILES}px; fill: #0b3d66; }}
.box {{ fill: #fff; stroke: #333; stroke-width: 1.3; }}
.state {{ fill: #333; }}
.line {{ fill: none; stroke: #333; stroke-width: 1.8; }}
.follow {{ stroke-dasharray: 5 4; }}
"""


@dataclass(frozen=True)
class Box:
    """One station. What is kept from step to step, and saved in a checkpoint, gets a thick left edge.

    Attributes:
        x, y, width: of the upper left corner, and how wide; the height follows from the text.
        title: first line.
        words: lines that say what happens.
        files: lines of file names; after a comma a name stands in the folder of the one before it.
        state: whether it keeps something.
    """

    x: float
    y: float
    width: float
    title: str
    words: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    state: bool = False

    @property
    def lines(self) -> list[tuple[str, str]]:
        """(kind, text) of each line of text."""
        return [("title", self.title), *(("words", line) for line in self.words), *(("file", f) for f in self.files)]

    @property
    def height(self) -> float:
        return 2 * PAD + LINE * len(self.lines) - 4

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def middle(self) -> float:
        return self.y + self.height / 2

    def svg(self) -> str:
        edge = f'<rect class="box" x="{self.x:g}" y="{self.y:g}" width="{self.width:g}" height="{self.height:g}"/>'
        mark = f'<rect class="state" x="{self.x:g}" y="{self.y:g}" width="6" height="{self.height:g}"/>'
        parts = [edge, mark] if self.state else [edge]
        for number, (kind, line) in enumerate(self.lines):
            parts.append(text(self.x + PAD, self.y + PAD + 11 + LINE * number, line, kind, self.width - 2 * PAD))
        return "\n".join(parts)


def width_of(line: str, kind: str) -> float:
    """Width of a line on the safe side, whatever font is at hand: what does not fit is an error, not an overlap."""
    if kind == "file":
        return 0.605 * SIZE[kind] * len(line)
    advance = sum(
        0.29 if c in " ijltfI.,:;()[]/-'" else 0.87 if c in "mwMW" else 0.7 if c.isupper() else 0.56 for c in line
    )
    return 1.05 * SIZE[kind] * advance * (1.06 if kind == "title" else 1.0)


def text(x: float, y: float, line: str, kind: str = "words", room: float = WIDTH) -> str:
    """One line of text.

    Raises:
        ValueError: it may be wider than `room`.
    """
    if (wide := width_of(line, kind)) > room:
        raise ValueError(f"{line!r} may be {wide:.0f} wide: there is room for {room:.0f}")
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(line)}</text>'


def band(
    x: float, y: float, width: float, height: float, tint: str, room: str, what: str = "", *, indent: float = 14
) -> str:
    """A room of the house behind its boxes, with its name on top."""
    area = f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{tint}"/>'
    if (wide := indent + width_of(room, "title") + width_of(what, "words")) > width:
        raise ValueError(f"{room!r} and {what!r} may be {wide:.0f} wide: there is room for {width:g}")
    name = f'<tspan class="title">{escape(room)}</tspan>'
    return f'{area}\n<text x="{x + indent:g}" y="{y + 22:g}">{name}&#160; {escape(what)}</text>'


def arrow(*points: tuple[float, float], follow: bool = False) -> str:
    """A line with a head at its last point; dashed where one thing only follows another."""
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    return f'<polyline class="line{" follow" * follow}" points="{path}" marker-end="url(#head)"/>'


def paths(line: str) -> list[str]:
    """The files of one line: "loss/quality.py, running_stats.py" names two in loss/."""
    found: list[str] = []
    for name in re.split(r",? +", line):
        folder = found[-1].rpartition("/")[0] + "/" if found and "/" not in name else ""
        found.append(folder + name)
    return found


def stations() -> dict[str, Box]:
    """Every box, by a short name."""
    left, whole, half, second = 30, 692, 331, 391  # x and widths of the main column
    right, narrow = 782, 216  # of the column of who repeats
    boxes = {
        "command": Box(12, 12, 236, "Command", ("qgface train RECIPE",), ("commands/train.py",)),
        "config": Box(290, 12, 432, "Settings, each checked", ("of the recipe, a Python file",), ("config/recipe.py",)),
        "launch": Box(right, 12, narrow, "Who trains?", ("one of the two below",), ("launch.py",)),
        "image": Box(
            left, 146, whole, "Image and label", ("encoded bytes, decoded to 112 × 112 RGB",),
            ("data/sources/records.py, data/recordio/reader.py, data/images.py",),
        ),
        "original": Box(
            left, 244, half, "Original view (k)", ("the image, mirrored or not",), ("data/pair_dataset.py",)
        ),
        "degraded": Box(
            second, 244, half, "Degraded view (q)", ("smaller, JPEG, rotated, at random",),
            ("data/degradation/cpu.py, gpu.py",),
        ),
        "pairs": Box(
            left, 342, whole, "Batch of pairs",
            ("rows 0 to B-1 are the originals, rows B to 2B-1 their degraded views",),
            ("data/pair_batch.py, sampler.py, loader.py",),
        ),
        "encoder": Box(
            left, 476, whole, "Encoder", ("images (2B, 3, 112, 112) become raw embeddings h (2B, d)",),
            ("models/backbones/iresnet.py, mobilefacenet.py, small.py",), state=True,
        ),
        "batch": Box(left, 610, 236, "Global batch", ("rows of all ranks,", "checked"), ("loss/batch.py",)),
        "quality": Box(
            300, 610, 422, "Quality u (eq. 1)",
            ("norm of h or another source, scaled to 0 to 1 by", "its running mean and deviation"),
            ("loss/quality.py, running_stats.py",), state=True,
        ),
        "gate_view": Box(
            left, 728, half, "Gate of a view (eq. 3)", ("sharp, u > b: it is classified",),
            ("loss/gates.py, functional.py",),
        ),
        "gate_pair": Box(
            second, 728, half, "Gate of a pair (eqs. 2, 4)", ("worse view u ≤ b: it is contrasted",),
            ("loss/gates.py, functional.py",),
        ),
        "margin": Box(
            left, 826, half, "Margin head (eqs. 6-10)",
            ("makes the own class harder to reach,", "AdaFace: more so for sharp views"),
            ("loss/heads.py, margin.py",),
        ),
        "queue": Box(
            second, 826, 272, "Queue (section III-C)", ("past embeddings of all views,", "moved with their centres W"),
            ("loss/feature_queue.py",), state=True,
        ),
        "softmax": Box(
            left, 944, half, "Softmax over class centres W", ("each rank has a share of them",),
            ("loss/class_softmax.py",), state=True,
        ),
        "contrast": Box(
            second, 944, half, "Contrast (eqs. 13-14)", ("q near its own k, away from the queue",),
            ("loss/contrast.py",),
        ),
        "loss": Box(
            left, 1042, whole, "Loss (eq. 5): classification + contrast", (), ("loss/partial_fc.py",)
        ),
        "builtin": Box(
            right, 236, narrow, "Built-in loop", ("gradient, update, verify,", "save, resume"),
            ("training/trainer.py", "training/step.py", "training/checkpoints/"),
        ),
        "checkout": Box(
            right, 400, narrow, "Or arcface_torch", ("a checkout of it runs,", "no file of it is changed"),
            ("arcface_torch/run.py", "arcface_torch/seams.py"),
        ),
        "writes": Box(
            right, 560, narrow, "Both write a folder",
            ("model.pt, checkpoints,", "training.log, tensorboard,", "metrics.jsonl, recipe.json"),
            ("training/recorder.py",),
        ),
        "model": Box(
            left, 1180, 222, "Model", ("model.pt, ONNX, packs",), ("models/loading.py",)
        ),
        "embed": Box(270, 1180, 222, "Embeddings", ("image and its mirror",), ("models/embeddings.py",)),
        "protocol": Box(510, 1180, 250, "Protocol", ("pairs, SCface, IJB, ...",), ("evaluation/protocols/",)),
        "metrics": Box(778, 1180, 206, "Metrics and tables", (), ("evaluation/metrics/", "evaluation/report/")),
    }  # fmt: skip
    return boxes


def draw() -> str:
    """The whole figure as SVG."""
    b = stations()

    def down(start: str, end: str, x: float | None = None) -> str:
        """An arrow from the lower edge of a box to the upper edge of the next one, at x, or where both have room."""
        if x is None:
            x = (max(b[start].x, b[end].x) + min(b[start].right, b[end].right)) / 2
        return arrow((x, b[start].bottom), (x, b[end].y))

    def across(start: str, end: str) -> str:
        return arrow((b[start].right, b[start].middle), (b[end].x, b[start].middle))

    rooms = [
        band(14, 110, 724, 324, "#e4edf7", "data/", "an encoded image becomes a batch of two views"),
        band(14, 442, 724, 126, "#e2f1e2", "models/", "encoders: built, loaded, exported"),
        band(14, 576, 724, 539, "#fcecd8", "loss/", "the paper; loss/partial_fc.py calls the others at every step",
             indent=104),
        band(752, 110, 256, 1005, "#ebebeb", "Who repeats it", indent=30),
        band(14, 1146, 994, 122, "#f1e6f4", "Who evaluates",
             "training, on its verification sets; commands/, any model at any time", indent=64),
    ]  # fmt: skip
    arrows = [
        across("command", "config"), across("config", "launch"), arrow((890, b["launch"].bottom), (890, 110)),
        down("image", "original"), down("image", "degraded"), down("original", "pairs"), down("degraded", "pairs"),
        down("pairs", "encoder"), down("encoder", "batch", 96), across("batch", "quality"),
        down("quality", "gate_view", 331), down("quality", "gate_pair"),
        down("gate_view", "margin"), down("margin", "softmax"), down("softmax", "loss"),
        down("gate_pair", "contrast", 692), down("queue", "contrast", 527), down("contrast", "loss"),
        arrow((361, b["softmax"].middle), (376, b["softmax"].middle), (376, b["queue"].middle),
              (391, b["queue"].middle), follow=True),
        across("model", "embed"), across("embed", "protocol"), across("protocol", "metrics"),
        arrow((b["loss"].right, b["loss"].middle), (767, b["loss"].middle), (767, b["image"].middle),
              (b["image"].right, b["image"].middle)),
        arrow((980, b["writes"].bottom), (980, 1129), (54, 1129), (54, b["model"].y)),
    ]  # fmt: skip
    notes = [
        text(782, b["image"].middle + 5, "the next batch"),
        text(782, b["loss"].middle + 5, "gradient and update"),
        text(66, 1144, "model.pt", "file"),
        '<rect class="state" x="782" y="760" width="6" height="34"/>',
        text(796, 773, "kept between steps,"),
        text(796, 792, "saved in checkpoints"),
    ]
    body = "\n".join([*rooms, *arrows, *(box.svg() for box in b.values()), *notes])
    title = "A batch on its way from encoded images to the loss, with the file of each station"
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}">
<title>{title}</title>
<style>{STYLE}</style>
<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0,0 L10,5 L0,10 z" fill="#333"/></marker></defs>
<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>
{body}
</svg>
"""


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(draw(), encoding="utf-8")
