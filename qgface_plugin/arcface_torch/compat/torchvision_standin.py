"""Stand-in for torchvision: what arcface_torch's `dataset.py` uses of it, on arrays, without PIL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...data.images import decode
from ...data.sources.folder import FaceFolder
from .repair import Repair, import_failure, install, uses


def repair(checkout: Path) -> Repair:
    """For machines without torchvision, or with one that was built for another torch and does not import.

    arcface_torch's `dataset.py` imports five transforms and `ImageFolder`. They draw from torch's random numbers as
    torchvision does, so the same seed flips the same images, and give the same float32 values.
    """
    return Repair(
        "stand-in for torchvision",
        "torchvision is absent or does not import beside this torch",
        lambda: uses(checkout, r"import torchvision|from torchvision") and import_failure("torchvision") is not None,
        install_torchvision,
    )


class Compose:
    """Transforms one after the other."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = transforms

    def __call__(self, image: Any) -> Any:
        for transform in self.transforms:
            image = transform(image)
        return image


class ToPILImage:
    """Passes the array on: the other stand-ins work on arrays."""

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return image


class RandomHorizontalFlip:
    """Mirrors an array (h, w, c) with probability p."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return image[:, ::-1] if torch.rand(1) < self.p else image


class ToTensor:
    """uint8 (h, w, c) to float32 (c, h, w) in [0, 1]."""

    def __call__(self, image: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).to(torch.get_default_dtype()).div(255)


class Normalize:
    """(x - mean) / std of each channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], inplace: bool = False) -> None:
        self.mean, self.std, self.inplace = mean, std, inplace

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        image = image if self.inplace else image.clone()
        mean, std = (torch.as_tensor(values, dtype=image.dtype).view(-1, 1, 1) for values in (self.mean, self.std))
        return image.sub_(mean).div_(std)


class ImageFolder(torch.utils.data.Dataset):
    """Faces in `root/<identity>/<image>`, JPEG or PNG, resized to 112 x 112. Items: (transformed image, label).

    Raises DataError as `FaceFolder` and `decode` do.
    """

    def __init__(self, root: str, transform: Callable[[np.ndarray], Any] | None = None) -> None:
        self.source = FaceFolder(root)
        self.transform = transform
        self.classes = self.source.identities

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        encoded, label = self.source.read(index)
        image = decode(encoded, self.source.where(index))
        return (image if self.transform is None else self.transform(image)), label


def install_torchvision() -> None:
    """Make `import torchvision` find the stand-in."""
    transforms = (Compose, ToPILImage, RandomHorizontalFlip, ToTensor, Normalize)
    install(
        "torchvision",
        {
            "": {"__version__": "none (stand-in by qgface_plugin)"},
            "transforms": {transform.__name__: transform for transform in transforms},
            "datasets": {"ImageFolder": ImageFolder},
        },
    )
