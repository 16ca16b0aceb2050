"""Writes the golden RecordIO files with MXNet itself: `python make_golden.py` where `import mxnet` works (1.9.1).

The definitions need only NumPy, so the tests import them and compare. All images are drawn, none is a photograph.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
MAGIC = struct.pack("<I", 0xCED7230A)
IDENTITIES = (3, 2, 4)  # images each


def draw(label: int, number: int, side: int = 24) -> np.ndarray:
    """A coloured ramp with a square, uint8 (side, side, 3), another one for every label and number."""
    ramp = np.arange(side, dtype=np.uint8)
    image = np.zeros((side, side, 3), dtype=np.uint8)
    image[..., 0] = ramp[:, None] * 5 + 20 * label
    image[..., 1] = ramp[None, :] * 5 + 11 * number
    image[4 + number : 12 + number, 6 + label : 14 + label] = (250, 40 * label, 30 * number)
    return image


def png(image: np.ndarray) -> bytes:
    """A PNG whose bytes depend on no compressor: one stored block, at most 65,535 bytes of pixels."""
    height, width, _ = image.shape
    raw = b"".join(b"\0" + row.tobytes() for row in image)
    stored = (
        b"\x78\x01\x01" + struct.pack("<HH", len(raw), len(raw) ^ 0xFFFF) + raw + struct.pack(">I", zlib.adler32(raw))
    )

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", stored) + chunk(b"IEND", b"")


def insightface_records() -> list[tuple[int, object, int, bytes]]:
    """(key, label, id, image) in InsightFace's layout: header record, images, identity ranges."""
    total = sum(IDENTITIES)
    faces, ranges = [], []
    for label, count in enumerate(IDENTITIES):
        ranges.append((len(faces) + 1, len(faces) + 1 + count))
        faces += [(float(label), png(draw(label, number))) for number in range(count)]
    records: list[tuple[int, object, int, bytes]] = [(0, [total + 1, total + 1 + len(IDENTITIES)], 0, b"")]
    records += [(key, label, key, image) for key, (label, image) in enumerate(faces, start=1)]
    records += [(key, list(limits), key, b"") for key, limits in enumerate(ranges, start=total + 1)]
    return records


def im2rec_records() -> list[tuple[int, object, int, bytes]]:
    """(key, label, id, image) without a header record, keys out of order, one label or several."""
    return [
        (2, 1.0, 2, png(draw(1, 0))),
        (0, 0.0, 0, png(draw(0, 0))),
        (3, [1.0, 0.25, 7.5], 3, png(draw(1, 1))),
        (1, 0.0, 1, png(draw(0, 1))),
    ]


def magic_records() -> list[tuple[int, bytes]]:
    """(key, payload): the magic at, before, after and beside 4-byte boundaries; keys out of order."""
    word = b"WORD"
    payloads = [
        b"",
        b"a",
        b"abcd",
        MAGIC,
        MAGIC * 3,
        MAGIC + b"x",
        MAGIC + word,
        word + MAGIC,
        word + MAGIC + b"xyz",
        word + MAGIC + word + MAGIC + MAGIC + b"xy",
        b"x" + MAGIC + word,
        b"xy" + MAGIC + MAGIC,
        word + b"x" + MAGIC + b"yz?" + MAGIC,
        MAGIC[:3] + MAGIC,
        word * 5 + MAGIC[:2],
        bytes(range(256)) + MAGIC + bytes(range(255)),
    ]
    return [((7 * row) % len(payloads), payload) for row, payload in enumerate(payloads)]


def main() -> None:
    import mxnet as mx

    for name, records in (("insightface/train", insightface_records()), ("im2rec", im2rec_records())):
        (FOLDER / name).parent.mkdir(exist_ok=True)
        file = mx.recordio.MXIndexedRecordIO(f"{FOLDER / name}.idx", f"{FOLDER / name}.rec", "w")
        for key, label, id_, image in records:
            file.write_idx(key, mx.recordio.pack(mx.recordio.IRHeader(0, label, id_, 0), image))
        file.close()
    (FOLDER / "insightface" / "property").write_text(f"{len(IDENTITIES)},112,112")
    file = mx.recordio.MXIndexedRecordIO(str(FOLDER / "magic.idx"), str(FOLDER / "magic.rec"), "w")
    for key, payload in magic_records():
        file.write_idx(key, payload)
    file.close()


if __name__ == "__main__":
    main()
