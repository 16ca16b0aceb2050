"""FaceFolder: order, labels, what is passed over and what is refused."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
from golden.make_golden import draw, png

from qgface_plugin.data.images import decode, encode_jpeg
from qgface_plugin.data.sources.folder import FaceFolder
from qgface_plugin.utils.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for label, (identity, names) in enumerate({"ann": ["b.png", "a.JPG"], "bob": ["x.jpeg"], "Zoe": ["1.png"]}.items()):
        (tmp_path / identity).mkdir()
        for number, name in enumerate(names):
            image = draw(label, number, 112)
            encoded = (
                encode_jpeg(image, 95)
                if name.lower().endswith("g") and "p" not in name[-3:-2]
                else png(image[:90, :90])
            )
            (tmp_path / identity / name).write_bytes(encoded)
    return tmp_path


def test_order_and_labels(root: Path) -> None:
    source = FaceFolder(root)
    assert (len(source), source.num_classes, source.identities) == (4, 3, ["Zoe", "ann", "bob"])
    assert [Path(source.where(index)).relative_to(root).as_posix() for index in range(4)] == [
        "Zoe/1.png",
        "ann/a.JPG",
        "ann/b.png",
        "bob/x.jpeg",
    ]
    labels = source.labels()
    assert labels.dtype == np.int64 and labels.tolist() == [0, 1, 1, 2]
    source.check()
    for index in range(4):
        encoded, label = source.read(index)
        assert encoded == Path(source.where(index)).read_bytes() and label == labels[index] and type(label) is int
        assert decode(encoded, source.where(index)).shape == (112, 112, 3)
    copy = pickle.loads(pickle.dumps(source))
    assert copy.read(2) == source.read(2)


def test_labels_cannot_be_changed_from_outside(root: Path) -> None:
    source = FaceFolder(root)
    source.labels()[:] = 7
    assert source.read(0)[1] == 0 and source.labels().tolist() == [0, 1, 1, 2]


def test_other_files_are_passed_over_and_counted(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / ".git").mkdir()
    (root / "list.txt").touch()
    (root / "ann" / ".DS_Store").touch()
    FaceFolder(root)
    assert not caplog.records
    (root / "ann" / "notes.txt").touch()
    (root / "bob" / "y.bmp").touch()
    with caplog.at_level(logging.WARNING):
        source = FaceFolder(root)
    assert len(source) == 4 and "2 entries that are no .jpg/.jpeg/.png passed over" in caplog.text


def test_nothing_to_read(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(DataError, match="no such folder"):
        FaceFolder(empty / "none")
    with pytest.raises(DataError, match="no sub-folder in it"):
        FaceFolder(empty)
    (root / "carl").mkdir()
    with pytest.raises(DataError, match="carl: no image .* of this identity"):
        FaceFolder(root)


@pytest.mark.parametrize("content", [b"", b"GIF89a"])
def test_file_that_is_no_image(content: bytes, root: Path) -> None:
    (root / "ann" / "a.JPG").write_bytes(content)
    with pytest.raises(DataError, match=f"a.JPG: neither JPEG nor PNG; it has {len(content)} bytes"):
        FaceFolder(root).read(1)


def test_file_that_went_away(root: Path) -> None:
    source = FaceFolder(root)
    (root / "ann" / "a.JPG").unlink()
    with pytest.raises(DataError, match="a.JPG: the image cannot be read"):
        source.read(1)


def test_index_out_of_range(root: Path) -> None:
    for index in (-1, 4):
        with pytest.raises(IndexError, match=f"image {index} of 4"):
            FaceFolder(root).read(index)
