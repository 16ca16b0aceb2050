"""Job that embeds many photographs: in parts that a kill leaves whole, shared by the ranks, with one file at the end.

Photographs are taken in order, `PART` at a time; each part is a file in a folder beside the output. What a part holds
depends on its photographs alone, so neither the number of ranks nor an interruption changes the result. A job that was
killed goes on with the parts that are missing.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..data.packing.align_folder import Finder
from ..models import FaceModel
from ..models.photographs import PhotoEmbeddings, embed_photos
from ..utils.distributed import fellow_ranks, on_rank_zero, patient_barrier
from ..utils.errors import ConfigError, DataError
from ..utils.files import atomic_write, write_json
from ..utils.rendezvous import int_from
from ..utils.text import read_json

PART = 512  # photographs; what a kill costs at most, for each rank
PLAN = "plan.json"


@dataclass(frozen=True)
class Job:
    """What is embedded, and how.

    Attributes:
        root: what the names are relative to.
        names: N photographs, as the output names them.
        plan: everything that decides the numbers, plain; parts of another plan are not mixed in.
        flip, batch_size, workers, on_corrupt: as `embed_photos` has them.
        part: photographs in a part.
    """

    root: Path
    names: Sequence[str]
    plan: Mapping[str, Any]
    flip: bool = True
    batch_size: int = 64
    workers: int = 2
    on_corrupt: str = "error"
    part: int = PART

    @property
    def parts(self) -> int:
        """Number of parts."""
        return -(-len(self.names) // self.part)

    def names_of(self, part: int) -> Sequence[str]:
        """The photographs of a part."""
        return self.names[part * self.part : (part + 1) * self.part]


def parts_folder(output: str | Path) -> Path:
    """The folder of the parts of an output.

    Example:
        >>> parts_folder("work/faces.npz").as_posix()
        'work/faces.npz.parts'
    """
    return Path(f"{output}.parts")


def run_job(
    job: Job, model: FaceModel, find: Finder | None, folder: Path, progress: str | None = None
) -> tuple[PhotoEmbeddings | None, int]:
    """Embed what is missing, as this rank's share, and on rank 0 put everything together.

    Under torchrun every rank calls it. The folder stays: whoever has saved the result removes it.

    Args:
        job: what is embedded.
        model: the encoder.
        find: gives the landmarks of a photograph; None: aligned faces.
        folder: of the parts, see `parts_folder`.
        progress: label of a progress bar of this rank's share; None shows none.

    Returns:
        On rank 0 all embeddings in the order of the names, on the others None; and how many parts were there already.

    Raises:
        ConfigError: the folder has parts of another plan; says what differs.
        DataError: as `embed_photos`; also on the other ranks.
    """
    rank, ranks = int_from("RANK", default=0), int_from("WORLD_SIZE", default=1)
    with fellow_ranks():
        on_rank_zero(lambda: _check_plan(job, folder))
        missing = [part for part in range(job.parts) if not _file(folder, part).is_file()]
        patient_barrier()  # nobody begins before everybody has looked
        mine = missing[rank::ranks]
        total = sum(len(job.names_of(part)) for part in mine)
        with tqdm(total=total, desc=progress, unit="image", disable=progress is None or rank > 0) as bar:
            for part in mine:
                paths = [job.root / name for name in job.names_of(part)]
                found = embed_photos(model, paths, find, job.flip, job.batch_size, job.workers, job.on_corrupt)
                _save(_file(folder, part), found, dict(zip(map(str, paths), job.names_of(part), strict=True)))
                bar.update(len(paths))
        patient_barrier()
        return on_rank_zero(lambda: _together(job, folder, model.dim)), job.parts - len(missing)


def remove_parts(folder: Path) -> None:
    """Remove the folder of parts, if it is one."""
    if (folder / PLAN).is_file():
        shutil.rmtree(folder)


def _check_plan(job: Job, folder: Path) -> None:
    if folder.exists() and not (folder / PLAN).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is there and holds no parts of this command: name another output")
    if not (folder / PLAN).is_file():
        write_json(folder / PLAN, dict(job.plan))
        return
    before = read_json(folder / PLAN, "plan")
    differ = [key for key in job.plan if not isinstance(before, dict) or before.get(key) != job.plan[key]]
    if differ:
        raise ConfigError(
            f"{folder} has parts of a job with another {' and '.join(differ)}: finish it, or give --restart"
        )


def _file(folder: Path, part: int) -> Path:
    return folder / f"{part:06d}.npz"


def _save(path: Path, found: PhotoEmbeddings, names: Mapping[str, str]) -> None:
    with atomic_write(path) as file:
        np.savez(
            file,
            paths=np.array([names[path] for path in found.paths], dtype=np.str_),
            embeddings=found.embeddings,
            norms=found.norms,
            faces=found.faces,
            failed=np.array([names[path] for path in found.failures], dtype=np.str_),
            reasons=np.array(list(found.failures.values()), dtype=np.str_),
        )


def _together(job: Job, folder: Path, dim: int) -> PhotoEmbeddings:
    """All parts as one."""
    paths: list[str] = []
    failures: dict[str, str] = {}
    embeddings = np.empty((len(job.names), dim), dtype=np.float32)
    norms, faces = np.empty(len(job.names), dtype=np.float32), np.empty(len(job.names), dtype=np.int64)
    for part in range(job.parts):
        try:
            with np.load(_file(folder, part), allow_pickle=False) as arrays:
                rows = slice(len(paths), len(paths) + len(arrays["paths"]))
                embeddings[rows], norms[rows], faces[rows] = arrays["embeddings"], arrays["norms"], arrays["faces"]
                paths += arrays["paths"].tolist()
                failures |= dict(zip(arrays["failed"].tolist(), arrays["reasons"].tolist(), strict=True))
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{_file(folder, part)}: a damaged part ({error}); remove it and run again") from error
    found = len(paths)
    return PhotoEmbeddings(tuple(paths), embeddings[:found], norms[:found], faces[:found], failures)
