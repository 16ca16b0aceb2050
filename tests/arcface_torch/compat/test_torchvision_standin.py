"""The stand-in for torchvision: the values and the random numbers that torchvision's transforms give."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from compat_tools import importing_from, write_checkout
from golden.make_golden import draw

from qgface_plugin.arcface_torch.compat import torchvision_standin
from qgface_plugin.arcface_torch.compat.repair import import_failure, is_stand_in
from qgface_plugin.data.images import encode_png
from qgface_plugin.utils.errors import DataError


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return write_checkout(tmp_path, dataset="from torchvision import transforms\n")


@pytest.fixture
def standin(checkout: Path):
    with importing_from(checkout):
        torchvision_standin.install_torchvision()
        import torchvision

        yield torchvision


def pipeline(transforms):
    return transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5]),
        ]
    )


def test_needed_only_where_torchvision_is_used_and_does_not_import(checkout: Path, tmp_path: Path) -> None:
    assert not torchvision_standin.repair(write_checkout(tmp_path / "none")).needed()
    repair = torchvision_standin.repair(checkout)
    with importing_from(checkout):
        sys.modules["torchvision"] = None  # as if it were absent
        assert repair.needed()
        repair.apply()
        from torchvision.datasets import ImageFolder

        assert ImageFolder is torchvision_standin.ImageFolder
        assert is_stand_in("torchvision") and not repair.needed()


def test_a_torchvision_that_does_not_fit_this_torch(checkout: Path) -> None:
    broken = "raise RuntimeError('operator torchvision::nms does not exist')\n"
    write_checkout(checkout, {"torchvision/__init__": broken})
    with importing_from(checkout):
        assert torchvision_standin.repair(checkout).needed()


def test_values_are_those_of_the_arithmetic(standin) -> None:
    transforms = standin.transforms
    image = draw(1, 2, 112)
    plain = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.25, 0.5, 1.0])])(image)
    assert plain.dtype == torch.float32 and plain.shape == (3, 112, 112)
    expected = (image.transpose(2, 0, 1) / 255 - 0.5) / np.array([0.25, 0.5, 1.0])[:, None, None]
    np.testing.assert_allclose(plain.numpy(), expected, rtol=0, atol=1e-6)


def test_flips_follow_torchs_seed(standin) -> None:
    image, transform = draw(1, 2, 112), pipeline(standin.transforms)
    torch.manual_seed(3)
    flips = [bool(torch.rand(1) < 0.5) for _ in range(20)]
    torch.manual_seed(3)
    results = [transform(image) for _ in range(20)]
    upright = (torch.from_numpy(image).permute(2, 0, 1) / 255 - 0.5) / 0.5
    assert {True, False} == set(flips)
    for flipped, result in zip(flips, results, strict=True):
        assert torch.allclose(result, upright.flip(2) if flipped else upright, atol=1e-6)


def test_arguments_are_not_changed(standin) -> None:
    image = draw(0, 1, 112)
    before = image.copy()
    pipeline(standin.transforms)(image)
    tensor = torch.ones(3, 2, 2)
    standin.transforms.Normalize([0.5] * 3, [0.5] * 3)(tensor)
    assert np.array_equal(image, before) and bool((tensor == 1).all())


def test_folders_of_faces(standin, tmp_path: Path) -> None:
    faces = tmp_path / "faces"
    for label, name in enumerate(("anna", "ben")):
        (faces / name).mkdir(parents=True)
        for number in range(2):
            (faces / name / f"{number}.png").write_bytes(encode_png(draw(label, number, 112)))
    folder = standin.datasets.ImageFolder(str(faces), pipeline(standin.transforms))
    assert len(folder) == 4 and folder.classes == ["anna", "ben"]
    assert [folder[i][1] for i in range(4)] == [0, 0, 1, 1] and folder[3][0].shape == (3, 112, 112)
    image, label = standin.datasets.ImageFolder(str(faces))[2]
    assert label == 1 and np.array_equal(image, draw(1, 0, 112))
    with pytest.raises(DataError, match="no such folder"):
        standin.datasets.ImageFolder(str(tmp_path / "nowhere"))


def test_against_torchvision_itself() -> None:
    if failure := import_failure("torchvision"):
        pytest.skip(f"torchvision does not import: {failure}")
    import torchvision as real

    image = cv2.resize(draw(2, 3, 24), (112, 112))
    torch.manual_seed(5)
    theirs = [pipeline(real.transforms)(image) for _ in range(8)]
    torch.manual_seed(5)
    ours = [pipeline(torchvision_standin)(image) for _ in range(8)]
    assert all(torch.equal(a, b) for a, b in zip(theirs, ours, strict=True))
