"""Pair sets: every way they were ever written, hostile and damaged pickles, and real pairs."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from golden.make_golden import draw, png

from qgface_plugin.data.bin_files import PairSet, read_bin, write_bin
from qgface_plugin.data.images import encode_jpeg
from qgface_plugin.utils.errors import DataError

IMAGES = [
    encode_jpeg(draw(label, number, 112), 90) for label, number in ((0, 0), (0, 1), (1, 0), (2, 0), (3, 1), (3, 2))
]
SAME = [True, False, True]
ARRAYS = [np.frombuffer(image, np.uint8) for image in IMAGES]
COLUMNS = [array.copy().reshape(-1, 1) for array in ARRAYS]
MIXED = [*IMAGES[:2], *ARRAYS[2:4], *COLUMNS[4:]]


def read(tmp_path: Path, data: bytes) -> PairSet:
    path = tmp_path / "lfw.bin"
    path.write_bytes(data)
    return read_bin(path)


def check(pairs: PairSet) -> None:
    assert pairs.images == IMAGES and all(type(image) is bytes for image in pairs.images)
    assert pairs.same.dtype == bool and pairs.same.tolist() == SAME and pairs.name == "lfw"


def old_numpy(data: bytes) -> bytes:
    """As NumPy 1 names its modules; both names are ended by a line break or preceded by their length."""
    data = data.replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n")
    for name in (b"numpy._core.multiarray", b"numpy._core.numeric"):
        short = name.replace(b"_core", b"core")
        data = data.replace(bytes([0x8C, len(name)]) + name, bytes([0x8C, len(short)]) + short)
    return data


def unframed(data: bytes) -> bytes:
    """Without frames, whose lengths `old_numpy` would break."""
    out, file = b"", io.BytesIO(data)
    marks = [(opcode.name, position) for opcode, _, position in pickletools.genops(data)] + [("", len(data))]
    for (name, start), (_, end) in zip(marks, marks[1:], strict=False):
        file.seek(start)
        out += b"" if name == "FRAME" else file.read(end - start)
    return out


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("same", [SAME, [np.bool_(flag) for flag in SAME], np.array(SAME), [1, 0, 1], tuple(SAME)])
@pytest.mark.parametrize("images", [IMAGES, ARRAYS, COLUMNS, MIXED], ids=["bytes", "arrays", "columns", "mixed"])
def test_every_protocol_and_kind(protocol: int, same: object, images: list, tmp_path: Path) -> None:
    data = pickle.dumps((images, same), protocol=protocol)
    check(read(tmp_path, data))
    check(read(tmp_path, pickle.dumps([images, same], protocol=protocol)))
    check(read(tmp_path, old_numpy(unframed(data) if protocol >= 4 else data)))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "same",
    [
        [np.int64(flag) for flag in SAME],
        [np.uint8(SAME[0]), np.int32(SAME[1]), np.uint64(SAME[2])],
        np.array(SAME, np.int64),
        np.array(SAME, ">i4"),
        np.array(SAME, np.uint16),
    ],
)
def test_flags_of_numpys_integers(protocol: int, same: object, tmp_path: Path) -> None:
    data = pickle.dumps((IMAGES, same), protocol=protocol)
    check(read(tmp_path, data))
    check(read(tmp_path, old_numpy(unframed(data) if protocol >= 4 else data)))
    with pytest.raises(DataError, match="pair 1: its flag is (2|-1|256), not true or false"):
        wrong = np.array([1, {0: 2, 1: -1}.get(protocol, 256), 0])
        read(tmp_path, pickle.dumps((IMAGES, wrong if protocol % 2 else list(wrong)), protocol=protocol))


def python2(protocol: int) -> bytes:
    """The opcodes with which Python 2 writes (list of str, list of bool)."""
    if protocol == 0:
        text = [b"S'" + "".join(f"\\x{byte:02x}" for byte in image).encode() + b"'\n" for image in IMAGES]
        images = b"(lp1\n" + b"".join(item + b"p%d\na" % (number + 2) for number, item in enumerate(text))
        return b"(" + images + b"(lp90\n" + b"".join(b"I0%d\na" % flag for flag in SAME) + b"tp91\n."
    items = b"".join(b"T" + struct.pack("<i", len(image)) + image + b"q\x02" for image in IMAGES)
    return (
        b"\x80\x02]q\x00("
        + items
        + b"e]q\x01("
        + b"".join(b"\x88" if flag else b"\x89" for flag in SAME)
        + b"e\x86q\x03."
    )


def python2_arrays() -> bytes:
    """As Python 2 and NumPy 1 wrote uint8 arrays: names and content are `str`."""
    out = b"\x80\x02]("
    for image in IMAGES:
        out += b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        out += b"(K\x01M" + struct.pack("<H", len(image)) + b"\x85cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        out += (
            b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
            + struct.pack("<i", len(image))
            + image
            + b"tb"
        )
    return out + b"e](" + b"".join(b"\x88" if flag else b"\x89" for flag in SAME) + b"e\x86."


@pytest.mark.parametrize("data", [python2(0), python2(2), python2_arrays()], ids=["text", "binary", "arrays"])
def test_written_by_python_2(data: bytes, tmp_path: Path) -> None:
    assert pickle.loads(data, encoding="latin1")[1] == SAME
    check(read(tmp_path, data))


def test_what_is_written_is_what_upstream_loads(tmp_path: Path) -> None:
    path = tmp_path / "lfw.bin"
    write_bin(path, [memoryview(image) for image in IMAGES], np.array(SAME))
    images, same = pickle.loads(path.read_bytes())
    assert images == IMAGES and same == SAME
    assert {type(image) for image in images} == {bytes} and {type(flag) for flag in same} == {bool}
    check(read_bin(path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["lfw.bin"]


def test_decode(tmp_path: Path) -> None:
    images = [png(draw(label, 0)) for label in range(6)]
    write_bin(tmp_path / "drawn.bin", images, SAME)
    pixels = read_bin(tmp_path / "drawn.bin").decode()
    assert pixels.shape == (6, 112, 112, 3) and pixels.dtype == np.uint8 and pixels.flags.c_contiguous
    assert len({image.tobytes() for image in pixels}) == 6
    assert np.array_equal(pixels, PairSet(images, np.array(SAME), "x").decode(workers=1))


def test_undecodable_image_is_named() -> None:
    pairs = PairSet([*IMAGES[:3], IMAGES[3][:300], *IMAGES[4:]], np.array(SAME), "cfp_fp")
    with pytest.raises(DataError, match="cfp_fp image 3: undecodable JPEG"):
        pairs.decode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ((IMAGES, SAME[:2]), "6 images for 2 pairs"),
        ((IMAGES[:5], SAME), "5 images for 3 pairs"),
        (([], []), "0 images for 0 pairs"),
        (IMAGES, "not a pair set: the pickle holds list"),
        (b"bytes", "not a pair set: the pickle holds bytes"),
        ((IMAGES, SAME, 1), "not a pair set"),
        ((b"images", SAME), "its images are bytes, not a list"),
        ((IMAGES, 3), "its flags are int, not a list"),
        ((IMAGES, [True, 2, False]), "pair 1: its flag is 2, not true or false"),
        ((IMAGES, [True, None, False]), "pair 1: its flag is NoneType"),
        (([*IMAGES[:5], "text"], SAME), "image 5: str is no encoded image"),
        (([*IMAGES[:5], np.zeros((4, 4, 3), np.uint8)], SAME), "image 5: uint8 array of shape \\(4, 4, 3\\) is not"),
        (([*IMAGES[:5], np.zeros(4)], SAME), "refused: an array of dtype 'f8'"),
        (([*IMAGES[:5], np.array([b"x"], object)], SAME), "refused: an array of dtype 'O8'"),
        ((IMAGES, np.array([1, 0, 2], np.uint8)), "pair 2: its flag is 2"),
        (({0: IMAGES}, SAME), "refused: pickle opcode '}'"),
    ],
)
def test_other_content(content: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"lfw.bin.*{message}"):
        read(tmp_path, pickle.dumps(content, protocol=4))


def test_counts_on_writing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="6 images for 2 pairs"):
        write_bin(tmp_path / "x.bin", IMAGES, SAME[:2])
    assert list(tmp_path.iterdir()) == []


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none.bin: the pair set cannot be read"):
        read_bin(tmp_path / "none.bin")


class Call:
    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch {}/owned",), "(posix|nt).system"),
        (eval, ("open({!r} + '/owned', 'w')",), "(builtins|__builtin__).eval"),
        (np.zeros, ((1 << 40,),), "numpy.zeros|numpy._core.*zeros|numpy.core.*zeros"),
        (np.load, ("x",), "numpy.*load"),
        (getattr, (1, "real"), "(builtins|__builtin__).getattr"),
        (bytearray, (1 << 40,), "(builtins|__builtin__).bytearray"),
    ],
)
def test_hostile_calls_are_refused(
    function: object, arguments: tuple, name: str, protocol: int, tmp_path: Path
) -> None:
    arguments = tuple(item.format(str(tmp_path)) if isinstance(item, str) else item for item in arguments)
    data = pickle.dumps((IMAGES, [True, Call(function, *arguments), True]), protocol=protocol)
    with pytest.raises(DataError, match=f"lfw.bin: refused: the pickle asks for ({name})"):
        read(tmp_path, data)
    assert [entry.name for entry in tmp_path.iterdir()] == ["lfw.bin"]


def array_of(shape: bytes, raw: bytes = b"C\x04abcd", dtype: bytes = b"u1") -> bytes:
    """A pickle of one array with a state of the test's choosing."""
    return (
        b"\x80\x04cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + shape + b"C\x01b\x87R(K\x01" + shape
        + b"cnumpy\ndtype\n\x8c" + bytes([len(dtype)]) + dtype + b"\x85R\x89" + raw + b"tb"
    )  # fmt: skip


HUGE = b"\x8a\x06" + (1 << 44).to_bytes(6, "little") + b"\x85"
PAIR_OF = b"](\x88e\x86."
HOSTILE = {
    "huge shape": (array_of(HUGE).replace(b"\x80\x04", b"\x80\x04]", 1) + b"aC\x01aa" + PAIR_OF, "shape does not fit"),
    "negative shape": (
        array_of(b"J\xff\xff\xff\xff\x85").replace(b"\x80\x04", b"\x80\x04]", 1) + b"aC\x01aa" + PAIR_OF,
        "fit",
    ),
    "object array": (array_of(b"K\x01\x85", b"]", b"O8") + b".", "refused: an array of dtype 'O8'"),
    "structured": (array_of(b"K\x01\x85", b"C\x01a", b"u1,O") + b".", "refused: an array of dtype 'u1,O'"),
    "memo bomb": (b"\x80\x04]r\xff\xff\xff\x7f]\x86.", "0 images for 0 pairs"),
    "huge bytes": (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 44) + b"abc.", "cut short or damaged"),
    "huge bytearray": (b"\x80\x05\x96" + struct.pack("<Q", 1 << 44) + b"abc.", "cut short or damaged"),
    "huge frame": (b"\x80\x04\x95" + struct.pack("<Q", 1 << 44) + b"].", "cut short or damaged|not a pair set"),
    "instance": (b"(ios\nsystem\n.", "refused: pickle opcode 'i'"),
    "object": (b"(cos\nsystem\no.", "refused: the pickle asks for os.system"),
    "new object": (b"\x80\x02cnumpy\nndarray\n)\x81.", "refused: pickle opcode"),
    "extension": (b"\x80\x02\x82\x01.", "refused: pickle opcode"),
    "persistent": (b"P1\n.", "refused: pickle opcode 'P'"),
    "dotted": (
        b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.",
        "refused: the pickle asks for numpy.ndarray.__init__",
    ),
    "codec": (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.", "other encoding than latin1"),
    "state of a name": (b"\x80\x02cnumpy\ndtype\nK\x01b.", "cut short or damaged"),
    "no memo entry": (b"\x80\x02h\x07.", "cut short or damaged"),
    "empty": (b"", "cut short or damaged"),
    "not a pickle": (b"\xff\xd8\xff\xe0", "refused: pickle opcode"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_opcodes_are_refused_without_cost(case: str, tmp_path: Path) -> None:
    data, message = HOSTILE[case]
    tracemalloc.start()
    with pytest.raises(DataError, match=f"lfw.bin.*({message})"):
        read(tmp_path, data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20


def test_shared_lists_cost_no_time(tmp_path: Path) -> None:
    doubling = b"]" + b"".join(b"\x94]h%ch%c\x86a" % (level, level) for level in range(60))
    data = b"\x80\x04" + doubling + b"\x85](\x88e\x86."
    with pytest.raises(DataError, match="1 images for 1 pairs|no encoded image"):
        read(tmp_path, data)


def test_trailing_bytes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lfw.bin: 3 bytes follow the end of the pickle"):
        read(tmp_path, pickle.dumps((IMAGES, SAME)) + b"abc")


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_truncated(protocol: int, tmp_path: Path) -> None:
    data = pickle.dumps((MIXED, SAME), protocol=protocol)
    for kept in [*range(0, 200, 7), *range(200, len(data) - 1, 997), len(data) - 1]:
        with pytest.raises(DataError, match="lfw.bin: "):
            read(tmp_path, data[:kept])


def test_damaged_bytes_raise_nothing_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    data = pickle.dumps((MIXED, SAME), protocol=2)
    for _ in range(400):
        damaged = bytearray(data)
        near = rng.choice([40, 400, len(data)])
        damaged[int(rng.integers(0, near))] = int(rng.integers(0, 256))
        try:
            pairs = read(tmp_path, bytes(damaged))
        except DataError:
            continue
        assert len(pairs.images) == 2 * len(pairs.same)


def test_real_pairs(lfw: Path) -> None:
    pairs = read_bin(lfw / "train" / "lfw_dev.bin")
    assert (len(pairs.images), len(pairs.same), int(pairs.same.sum()), pairs.name) == (2000, 1000, 500, "lfw_dev")
    assert pairs.decode().shape == (2000, 112, 112, 3)


def test_surplus_bytes_are_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    expected = PairSet(IMAGES, np.array(SAME), "lfw").decode(workers=1)
    assert not caplog.records
    odd = [IMAGES[0][:-2], IMAGES[1] + bytes(9), *IMAGES[2:]]
    assert np.array_equal(PairSet(odd, np.array(SAME), "lfw").decode(workers=1), expected)
    assert [record.message for record in caplog.records] == [
        "lfw: 2 JPEGs carry surplus bytes or lack their end marker; no pixel is missing, they are used"
    ]
