"""Face sources: what a loader needs of one, and the one that a recipe asks for."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from tqdm import tqdm

from ...config.recipe import Run
from ...utils import distributed
from ...utils.errors import ConfigError, DataError, TrainingError
from ..procedural.dataset import write_dataset
from .folder import FaceFolder
from .records import FaceRecords
from .unlabelled import UnlabelledFaces


class FaceSource(Protocol):
    """Encoded faces with labels; `FaceRecords` and `FaceFolder` are such."""

    @property
    def num_classes(self) -> int:
        """One more than the largest label."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> tuple[memoryview | bytes, int]:
        """Encoded image and label.

        Raises:
            DataError: the image cannot be read.
        """

    def where(self, index: int) -> str:
        """How messages name the image."""

    def check_size(self) -> None:
        """Refuse files that have become shorter since they were opened.

        Raises:
            DataError: names the file, and its size now and then.
        """

    def fingerprint(self) -> dict[str, Any]:
        """What tells these faces from others, wherever they lie: sizes, counts, first and last entries."""


def open_source(run: Run) -> tuple[FaceRecords | FaceFolder | UnlabelledFaces, Run]:
    """The training faces, checked, and the recipe with the counts that the data says.

    Raises:
        DataError: data that cannot be trained on.
        ConfigError: no data is named, or the recipe's counts differ from the data's.
        TrainingError: procedural faces cannot be written.
    """
    if not run.rec:
        raise ConfigError("config.rec names no data: set it to a folder with train.rec, or set DATA_ROOT")
    if run.data.source == "procedural":
        draw_faces(run)
    try:
        source = _opened(run)
    except DataError as error:
        raise DataError(f"{error} ({_named_by(run)})") from error
    source.check()
    for key, given, found in (
        ("num_classes", run.num_classes, source.num_classes),
        ("num_image", run.num_image, len(source)),
    ):
        if given is not None and given != found:
            raise ConfigError(
                f"config.{key} is {given}, but {run.rec} has {found}: leave it out, or name the right data"
            )
    return source, replace(run, num_classes=source.num_classes, num_image=len(source))


def _opened(run: Run) -> FaceRecords | FaceFolder | UnlabelledFaces:
    assert run.rec is not None
    if run.data.source == "unlabelled":
        return UnlabelledFaces(_one_folder(run))
    if run.data.source != "folder":
        return FaceRecords(run.rec, on_corrupt=run.data.on_corrupt, label_spaces=run.data.label_spaces)
    if isinstance(run.rec, str):
        return FaceFolder(run.rec)
    if len(run.rec) > 1:
        raise ConfigError(
            f"config.rec is {run.rec!r}, but config.qgface.data.source = 'folder' reads one folder: name the one whose "
            "sub-folders are the persons, or pack the folders (`qgface pack`)"
        )
    return FaceFolder(run.rec[0])


def _one_folder(run: Run) -> str:
    assert run.rec is not None
    folders = [run.rec] if isinstance(run.rec, str) else list(run.rec)
    if len(folders) > 1:
        raise ConfigError(
            f"config.rec is {run.rec!r}, but config.qgface.data.source = 'unlabelled' reads one folder with all "
            "that is below it: name the one above them"
        )
    return folders[0]


def _named_by(run: Run) -> str:
    """Where the name of the data comes from, for messages about data that are not there."""
    root = os.environ.get("DATA_ROOT")
    if root and run.rec == root:
        return "named by DATA_ROOT, which takes the place of config.rec"
    if run.rec == "synthetic":
        return (
            "named by config.rec. In arcface_torch that means random images, to measure speed; here that is "
            "`qgface benchmark`, and config.qgface.data.source = 'procedural' draws faces into a folder"
        )
    return "named by config.rec, whose place DATA_ROOT takes where it is set"


def draw_faces(run: Run) -> None:
    """Write the procedural faces that the recipe asks for; rank 0 draws, the others wait.

    Raises:
        ConfigError: `config.rec` does not name one folder.
        TrainingError: the folder cannot be written.
    """
    if not isinstance(run.rec, str):
        raise ConfigError(f"config.rec is {run.rec!r}: procedural faces are drawn into one folder")
    distributed.on_rank_zero(partial(_draw_faces, run, run.rec))


def _draw_faces(run: Run, folder: str) -> None:
    data = run.data
    with tqdm(desc="drawing faces", unit="face", leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        try:
            write_dataset(folder, data.identities, data.images_per_identity, data.pairs, run.seed, show)
        except OSError as error:
            raise TrainingError(
                f"{folder}: no faces can be drawn there: {error.strerror or error} ({_named_by(run)}); name a folder "
                "that can be written and has room"
            ) from error
