"""Which evaluations the data at hand allows, and whether a run has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..evaluation.protocols.ijb.metadata import find_folder
from ..evaluation.report.results import default_path, read_result
from ..utils.errors import DataError


@dataclass(frozen=True)
class Evaluation:
    """A protocol on a folder: `tools/<tool>.py --model MODEL --data DATA` with `options`."""

    protocol: str
    tool: str
    data: Path
    options: tuple[str, ...] = ()

    def command(self, tools: Path, model: Path) -> list[str]:
        """The arguments of Python that evaluate `model`."""
        script = str(tools / f"{self.tool}.py")
        return [script, "--model", str(model), "--data", str(self.data), *self.options, "--quiet"]

    def done(self, model: Path) -> bool:
        """Whether the result is saved beside the model, of the same data, and not older than the model."""
        path = default_path(model, self.protocol)
        try:
            fresh = path.stat().st_mtime >= model.stat().st_mtime
            return fresh and Path(read_result(path).data).resolve() == self.data.resolve()
        except (OSError, DataError):
            return False


def find_evaluations(folders: Sequence[str | Path]) -> list[Evaluation]:
    """What can be evaluated on the folders and their direct sub-folders, one evaluation a protocol.

    `.bin` files: pair sets; `aligned/` with frontal images: SCface; `tinyface/Testing_Set/`: TinyFace; `meta/` and
    `loose_crop/`: IJB-B. Raises DataError for a folder that is absent or holds none of them, and for a protocol that
    is there twice.
    """
    found: dict[str, Evaluation] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; name folders with evaluation sets")
        places = [folder, *sorted(place for place in folder.iterdir() if place.is_dir())]
        here = [evaluation for place in places if (evaluation := _at(place)) is not None]
        if not here:
            raise DataError(
                f"{folder}: neither it nor a folder in it holds .bin pair sets, SCface (aligned/), TinyFace "
                "(tinyface/Testing_Set/) or IJB-B (meta/ and loose_crop/)"
            )
        for evaluation in here:
            other = found.setdefault(evaluation.protocol, evaluation)
            if other.data.resolve() != evaluation.data.resolve():
                raise DataError(
                    f"{evaluation.protocol} is in {other.data} and in {evaluation.data}: name the folder that is meant"
                )
    return sorted(found.values(), key=lambda evaluation: evaluation.protocol)


def _at(place: Path) -> Evaluation | None:
    if (place / "tinyface" / "Testing_Set").is_dir():
        return Evaluation("tinyface", "eval_tinyface", place)
    if (place / "aligned").is_dir() and next((place / "aligned").glob("*_frontal.*"), None):
        return Evaluation("scface", "eval_scface", place)
    try:
        find_folder(place, "IJBB")
        return Evaluation("ijbb", "eval_ijb", place, ("--subset", "IJBB"))
    except DataError:
        pass
    return Evaluation("pairs", "eval_pairs", place) if next(place.glob("*.bin"), None) else None
