"""Evaluations that the data at hand allows, and whether a run has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.sources.folder import SUFFIXES
from ..evaluation.data_mark import data_mark
from ..evaluation.protocols.ijb.metadata import find_folder
from ..evaluation.report.results import MARK, default_path, read_result
from ..models.digest import model_digest
from ..utils.errors import DataError
from ..utils.listing import entries_in, files_in, walk


@dataclass(frozen=True)
class Evaluation:
    """A protocol on a folder: `qgface COMMAND --model MODEL --data DATA` with `options`.

    Attributes:
        protocol: name of the saved result.
        tool: name of the command.
        data: the folder.
        options: further arguments.

    Example:
        >>> evaluation = Evaluation("pairs", "eval-pairs", Path("faces"))
        >>> " ".join(evaluation.command(Path("run/model.pt")))
        'eval-pairs --model run/model.pt --data faces --quiet'
    """

    protocol: str
    tool: str
    data: Path
    options: tuple[str, ...] = ()

    def command(self, model: Path) -> list[str]:
        """The arguments of `qgface` that evaluate `model`."""
        return [self.tool, "--model", str(model), "--data", str(self.data), *self.options, "--quiet"]

    def done(self, model: Path) -> bool:
        """Whether a result is saved beside the model, of these very weights, by their SHA-256, and of the same data.

        Data are the same under the same path while they look the same (see `evaluation.data_mark`). Results of earlier
        versions do not say what they are of: they are made anew.
        """
        try:
            result = read_result(default_path(model, self.protocol))
            same_data = Path(result.data).resolve() == self.data.resolve()
            same_data = same_data and result.settings.get(MARK, "") == data_mark(self.data, self.protocol)
            return same_data and result.settings.get("sha256") == model_digest(model)
        except (OSError, DataError):
            return False


def find_evaluations(folders: Sequence[str | Path]) -> list[Evaluation]:
    """What can be evaluated on the folders and their direct sub-folders, one evaluation per protocol.

    `.bin` files: pair sets; `aligned/` with frontal images: SCface; `tinyface/Testing_Set/`: TinyFace; `meta/` and
    `loose_crop/`: IJB-B.

    Raises:
        DataError: a folder is absent or holds none of them, or a protocol is there twice.
    """
    evaluations: dict[str, Evaluation] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; name folders with evaluation sets")
        candidates = [folder, *(folder / entry.name for entry in entries_in(folder) if entry.is_dir())]
        here = [evaluation for path in candidates if (evaluation := _in(path)) is not None]
        if not here:
            raise DataError(
                f"{folder}: neither it nor a folder in it holds .bin pair sets, SCface (aligned/), TinyFace "
                "(tinyface/Testing_Set/) or IJB-B (meta/ and loose_crop/)"
            )
        for evaluation in here:
            other = evaluations.setdefault(evaluation.protocol, evaluation)
            if other.data.resolve() != evaluation.data.resolve():
                raise DataError(
                    f"{evaluation.protocol} is in {other.data} and in {evaluation.data}: name the folder that is meant"
                )
    return sorted(evaluations.values(), key=lambda evaluation: evaluation.protocol)


def _in(folder: Path) -> Evaluation | None:
    if (folder / "tinyface" / "Testing_Set").is_dir():
        return Evaluation("tinyface", "eval-tinyface", folder)
    if any(path.stem.endswith("_frontal") and path.suffix.lower() in SUFFIXES for path in walk(folder / "aligned")):
        return Evaluation("scface", "eval-scface", folder)
    try:
        find_folder(folder, "IJBB")
        return Evaluation("ijbb", "eval-ijb", folder, ("--subset", "IJBB"))
    except DataError:
        pass
    return Evaluation("pairs", "eval-pairs", folder) if files_in(folder, ".bin") else None
