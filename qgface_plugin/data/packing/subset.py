"""Subsets of a set of faces, by counts or by names; the same seed gives the same faces, and a smaller one lies in a
larger one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...utils.errors import ConfigError, DataError
from ...utils.text import read_lines
from .faces import Face, FaceList

COUNTS = {"identities": "identities", "images-per-identity": "images_per_identity", "seed": "seed"}


@dataclass(frozen=True)
class Subset:
    """What is taken of a set.

    Attributes:
        identities: how many; None for all.
        images_per_identity: how many of each at most; None for all.
        seed: of both choices.
        names: file with the name of an identity per line, as in `identities.tsv`; None for all.

    Example:
        >>> Subset.parse(["identities=1000,images-per-identity=20", "seed=3"]).images_per_identity
        20
    """

    identities: int | None = None
    images_per_identity: int | None = None
    seed: int = 0
    names: Path | None = None

    @classmethod
    def parse(cls, texts: Sequence[str]) -> Subset:
        """A subset as the command line has it: `identities=N`, `images-per-identity=N`, `seed=N`, `list=FILE`.

        Raises:
            ConfigError: another key, one twice, or a value that is no whole number in its range.
        """
        found: dict[str, int | Path] = {}
        for text in (part.strip() for given in texts for part in given.split(",") if part.strip()):
            key, _, value = text.partition("=")
            name = "names" if key == "list" else COUNTS.get(key)
            if name is None:
                raise ConfigError(f"--subset {text}: it takes {', '.join(f'{key}=N' for key in COUNTS)} and list=FILE")
            if name in found:
                raise ConfigError(f"--subset has {key} twice")
            if name == "names" and value:
                found[name] = Path(value)
            elif name != "names" and value.isascii() and value.isdecimal() and int(value) >= (key != "seed"):
                found[name] = int(value)
            else:
                raise ConfigError(f"--subset {text}: {key} takes {'a file' if name == 'names' else 'a whole number'}")
        if not set(found) - {"seed"}:
            raise ConfigError("--subset says nothing to take: identities=N, images-per-identity=N or list=FILE")
        return cls(**found)  # type: ignore[arg-type]


def choose(found: FaceList, subset: Subset) -> FaceList:
    """The faces of a subset, in the order of the set.

    Raises:
        DataError: more identities than there are, or a name that is not there.
    """
    by_identity: dict[tuple[int, str], list[int]] = {}
    for index, face in enumerate(found.faces):
        by_identity.setdefault(face.identity, []).append(index)
    identities = sorted(by_identity)
    if subset.names is not None:
        wanted = {line.strip() for _, line in read_lines(subset.names, "list of identities") if line.strip()}
        missing = wanted - {name for _, name in identities}
        if missing or not wanted:
            raise DataError(
                f"{subset.names}: {len(missing)} of {len(wanted)} identities are not in the set, the first "
                f"{min(missing, default='')!r}; names are those of identities.tsv, or labels where there is none"
            )
        identities = [identity for identity in identities if identity[1] in wanted]
    if subset.identities is not None:
        if subset.identities > len(identities):
            raise DataError(f"--subset identities={subset.identities}, but there are {len(identities)}")
        order = np.random.default_rng(subset.seed).permutation(len(identities))
        identities = [identities[index] for index in sorted(order[: subset.identities].tolist())]
    taken: list[int] = []
    for identity in identities:
        taken += _some(by_identity[identity], found.faces, subset)
    return replace(found, faces=[found.faces[index] for index in sorted(taken)])


def _some(indices: list[int], faces: list[Face], subset: Subset) -> list[int]:
    """An identity's images; which ones does not depend on the other identities that are taken."""
    if subset.images_per_identity is None or len(indices) <= subset.images_per_identity:
        return indices
    entropy = (subset.seed, *faces[indices[0]].identity[1].encode(errors="surrogateescape"))
    order = np.random.default_rng(entropy).permutation(len(indices))
    return [indices[index] for index in order[: subset.images_per_identity]]
