"""Pairs files, and the pair sets made of them."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from qgface_plugin.data.bin_files import read_bin
from qgface_plugin.data.images import decode, encode_jpeg, encode_png
from qgface_plugin.data.packing.pairs_to_bin import PairLine, find_image, pack_pairs, read_pairs
from qgface_plugin.utils.errors import ConfigError, DataError


def save(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def face(seed: int, side: int = 112) -> np.ndarray:
    return cv2.resize(np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8), (side, side))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, count in (("Ann_Lee", 3), ("Bob", 2)):
        for number in range(1, count + 1):
            save(tmp_path / name / f"{name}_{number:04d}.jpg", encode_jpeg(face(number + len(name)), 90))
    save(tmp_path / "Bob" / "Bob_0003.png", encode_png(face(9)))
    return tmp_path


def test_lfw_pairs(tmp_path: Path) -> None:
    text = "1\t2\nAnn_Lee\t1\t2\nBob\t10\t3\n\nAnn_Lee\t1\tBob\t1\nAnn_Lee\t2\tBob\t3\n"
    expected = [
        PairLine("Ann_Lee/Ann_Lee_0001", "Ann_Lee/Ann_Lee_0002", True, 2),
        PairLine("Bob/Bob_0010", "Bob/Bob_0003", True, 3),
        PairLine("Ann_Lee/Ann_Lee_0001", "Bob/Bob_0001", False, 5),
        PairLine("Ann_Lee/Ann_Lee_0002", "Bob/Bob_0003", False, 6),
    ]
    for variant in (text, text.replace("1\t2\nAnn", "2\nAnn", 1), text.replace("\t", " "), "\ufeff" + text):
        assert read_pairs(save(tmp_path / "pairs.txt", variant.encode())) == expected
    bare = read_pairs(save(tmp_path / "pairs.txt", text.partition("\n")[2].encode()))
    assert [(pair.first, pair.same) for pair in bare] == [(pair.first, pair.same) for pair in expected]


def test_csv_pairs(tmp_path: Path) -> None:
    path = save(tmp_path / "pairs.csv", b"a,b,same\nx/1.jpg, x/2.jpg, 1\r\nx/1.jpg,y/1.jpg,False\n")
    assert read_pairs(path) == [PairLine("x/1.jpg", "x/2.jpg", True, 2), PairLine("x/1.jpg", "y/1.jpg", False, 3)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.txt", "", "no pair in it"),
        ("p.csv", "a,b,same\n", "no pair in it"),
        ("p.txt", "2\t3\nA\t1\t2\n", "its first line announces 12 pairs, but 1 follow"),
        ("p.txt", "A\t1\t2\nA\tx\t2\n", "p.txt line 2: .* is neither `name n m` nor `name n other m`"),
        ("p.txt", "A\t1\t1\n", "line 1: A/A_0001 is paired with itself"),
        ("p.csv", "a,b,1\na,c,2\n", "p.csv line 2: 'a,c,2' is not `a,b,flag`"),
        ("p.csv", "a.jpg,b.jpg,2\n", "p.csv line 1: 'a.jpg,b.jpg,2' is not `a,b,flag`"),
        ("p.csv", "a.jpg,b.jpg,nan\n", "p.csv line 1: 'a.jpg,b.jpg,nan' is not"),
        ("p.csv", "a,b,0.5\n", "p.csv line 1: 'a,b,0.5' is not"),
        ("p.csv", "a,b,1\na,c\n", "p.csv line 2: 'a,c' is not"),
        ("p.csv", 'a,b,1\n"a,c,1\n', "p.csv line 2: no row of a CSV"),
        ("p.csv", "a,b,1\na,c\0,1\n", "p.csv line 2: a NUL byte"),
        ("p.txt", f"A\t1\t{'9' * 5000}\n", "p.txt line 1: .* is neither `name n m`"),
        ("p.txt", f"{'9' * 5000}\nA\t1\t2\n", "p.txt line 1: .* is neither `name n m`"),
        ("p.txt", "A\t1\t1e300\n", "p.txt line 1: .* is neither `name n m`"),
        ("p.csv", "a b 1\n", "p.csv line 1: 'a b 1' is not `a,b,flag`"),
    ],
)
def test_malformed_pairs(name: str, text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_pairs(save(tmp_path / name, text.encode()))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.csv", 'first,second,same\n"a/1.JPG","a/2.JPG",1\n"Roe, Jane/1.jpg",a/1.JPG,0\n'),
        ("p.csv", '"a/1.JPG", "a/2.JPG",1.0\r\n"Roe, Jane/1.jpg",a/1.JPG,0.0\r\n'),
        ("p.csv", "\ufeffa/1.JPG;a/2.JPG;1\n\nRoe, Jane/1.jpg;a/1.JPG;0\n"),
        ("p.csv", 'a\\1.JPG,a\\2.JPG,TRUE\r"Roe, Jane\\1.jpg",a\\1.JPG,FALSE\r'),
    ],
)
def test_csv_pairs_as_spreadsheets_write_them(name: str, text: str, tmp_path: Path) -> None:
    for image in ("a/1.JPG", "a/2.JPG", "Roe, Jane/1.jpg"):
        save(tmp_path / image, encode_jpeg(face(len(image)), 90))
    pairs = read_pairs(save(tmp_path / name, text.encode()))
    assert [pair.same for pair in pairs] == [True, False]
    report = pack_pairs(pairs, tmp_path, tmp_path / "out.bin")
    assert (report.pairs, report.images, report.problems) == (2, 3, [])


@pytest.mark.parametrize("suffix", [".JPG", ".Jpg", ".PNG", ".jpeg", ".JPEG"])
@pytest.mark.parametrize(
    "text", ["1\nAnn Lee\t1\t2\nAnn Lee\t1\tBob\t1\n", "\ufeffAnn Lee\t1.0\t2\r\nAnn Lee\t\t1\t Bob \t1\r\n"]
)
def test_lfw_pairs_of_cameras(suffix: str, text: str, tmp_path: Path) -> None:
    names = ["Ann Lee/Ann Lee_0001", "Ann Lee/Ann Lee_0002", "Bob/Bob_0001"]
    for number, name in enumerate(names):
        save(tmp_path / f"{name}{suffix}", encode_jpeg(face(number), 90))
    pairs = read_pairs(save(tmp_path / "pairs.txt", text.encode()))
    assert [(pair.first, pair.second) for pair in pairs] == [(names[0], names[1]), (names[0], names[2])]
    assert pack_pairs(pairs, tmp_path, tmp_path / "out.bin").images == 3


def test_unreadable_pairs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none.txt: the pairs file cannot be read"):
        read_pairs(tmp_path / "none.txt")
    with pytest.raises(DataError, match="a.txt: no pairs file: not text in UTF-8"):
        read_pairs(save(tmp_path / "a.txt", b"\xff\xfe\x00"))


def test_images_keep_their_bytes_and_order(root: Path, tmp_path: Path) -> None:
    large = encode_jpeg(face(5, side=150), 95)
    save(root / "large.jpg", large)
    names = ["Ann_Lee/Ann_Lee_0001", "Ann_Lee/Ann_Lee_0002", "Ann_Lee/Ann_Lee_0001", "Bob/Bob_0003"]
    pairs = [PairLine(*names[:2], True, 1), PairLine(*names[2:], False, 2), PairLine("large.jpg", names[0], False, 3)]
    report = pack_pairs(pairs, root, tmp_path / "out" / "mine.bin", quality=80)
    assert (report.pairs, report.same, report.images, report.resized, report.left_out) == (3, 1, 4, 1, 0)
    written = read_bin(tmp_path / "out" / "mine.bin")
    assert written.same.tolist() == [True, False, False] and written.name == "mine"
    assert written.images[:4] == [find_image(root, name).read_bytes() for name in names]
    assert written.images[4] == encode_jpeg(decode(large, "large"), 80)
    # what arcface_torch's loader does with the file
    bins, flags = pickle.loads((tmp_path / "out" / "mine.bin").read_bytes(), encoding="bytes")
    assert bins == written.images and flags == [True, False, False]


def test_missing_and_bad_images(root: Path, tmp_path: Path) -> None:
    save(root / "bad.jpg", b"text")
    save(root / "wide.jpg", encode_jpeg(face(1)[:50], 90))
    good = PairLine("Bob/Bob_0001", "Bob/Bob_0002", True, 1)
    pairs = [good, PairLine("Bob/Bob_0001", "gone", False, 2), PairLine("bad", "wide.jpg", False, 3)]
    with pytest.raises(DataError, match="3 of 5 images are missing or bad, in 2 of 3 pairs(.|\n)*gone: no such image"):
        pack_pairs(pairs, root, tmp_path / "out.bin")
    assert not (tmp_path / "out.bin").exists()
    report = pack_pairs(pairs, root, tmp_path / "out.bin", on_corrupt="skip")
    assert (report.pairs, report.left_out) == (1, 2) and len(read_bin(tmp_path / "out.bin").images) == 2
    reasons = dict(report.problems)
    assert "neither JPEG nor PNG" in reasons["bad"] and "112 x 50, not square" in reasons["wide.jpg"]
    with pytest.raises(DataError, match="2 of 2 images"):
        pack_pairs(pairs[2:], root, tmp_path / "out.bin", on_corrupt="skip")


def test_repeated_pairs_are_counted(root: Path, tmp_path: Path) -> None:
    names = ["Bob/Bob_0001", "Bob/Bob_0002", "Ann_Lee/Ann_Lee_0001"]
    rows = [(0, 1), (0, 2), (1, 0), (1, 2), (0, 2)]
    report = pack_pairs([PairLine(names[a], names[b], b < 2, 1) for a, b in rows], root, tmp_path / "out.bin")
    assert (report.pairs, report.repeated, report.images) == (5, 2, 3)


def test_wrong_arguments(root: Path, tmp_path: Path) -> None:
    pairs = [PairLine("Bob/Bob_0001", "Bob/Bob_0002", True, 1)]
    with pytest.raises(ConfigError, match="out: .*.bin"):
        pack_pairs(pairs, root, tmp_path / "out")
    with pytest.raises(ConfigError, match="quality is 101"):
        pack_pairs(pairs, root, tmp_path / "out.bin", quality=101)
    with pytest.raises(ConfigError, match="on_corrupt is 'ignore'"):
        pack_pairs(pairs, root, tmp_path / "out.bin", on_corrupt="ignore")
    with pytest.raises(DataError, match="none: no such folder"):
        pack_pairs(pairs, tmp_path / "none", tmp_path / "out.bin")


def test_real_pairs_as_they_are_packed_elsewhere(lfw: Path, tmp_path: Path) -> None:
    golden = read_bin(lfw / "train" / "lfw_dev.bin")
    for number, image in enumerate(golden.images[:200]):
        save(tmp_path / "faces" / f"{number}.jpg", image)
    pairs = [PairLine(f"{2 * row}.jpg", f"{2 * row + 1}.jpg", bool(golden.same[row]), row) for row in range(100)]
    report = pack_pairs(pairs, tmp_path / "faces", tmp_path / "out.bin")
    assert report.resized == 0 and read_bin(tmp_path / "out.bin").images == golden.images[:200]


def test_surplus_bytes_are_counted_once_for_each_image(root: Path, tmp_path: Path) -> None:
    path = root / "Ann_Lee" / "Ann_Lee_0001.jpg"
    save(path, path.read_bytes()[:-2])
    pairs = [PairLine("Ann_Lee/Ann_Lee_0001", f"Ann_Lee/Ann_Lee_000{n}", True, n) for n in (2, 3)]
    report = pack_pairs(pairs, root, tmp_path / "x.bin")
    assert (report.surplus, report.images) == (1, 3) and read_bin(tmp_path / "x.bin").images[0] == path.read_bytes()
