"""Encoded images: JPEG and PNG of every kind, damaged, and with headers that claim what is not there."""

from __future__ import annotations

import struct
import zlib
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from fuzz.case import Case, pick
from fuzz.guard import Finding
from fuzz.mutate import Damaged, damage
from golden.make_golden import draw, png

from qgface_plugin.data.images import MAX_SIDE, decode, encode_jpeg, encode_png

SIDES = (0, 1, 2, 16, 17, 112, 2047, MAX_SIDE, MAX_SIDE + 1, 8192, 65500, 65535, 1 << 20, 0x7FFFFFFF, 0xFFFFFFFF)
CHUNKS = (
    b"tRNS",
    b"PLTE",
    b"iCCP",
    b"zTXt",
    b"acTL",
    b"fcTL",
    b"fdAT",
    b"eXIf",
    b"gAMA",
    b"cHRM",
    b"tEXt",
    b"IDAT",
    b"IHDR",
)


@lru_cache(maxsize=1)
def seeds() -> list[bytes]:
    """Colour, grey, alpha, 16 bits, palette-free PNG; JPEG of all samplings, progressive, with an orientation tag."""
    image = draw(1, 1, 24)
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    found = [png(image), encode_png(image), encode_png(noise), encode_jpeg(image, 60), encode_jpeg(noise, 90)]
    for options in (
        [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
        [cv2.IMWRITE_JPEG_RST_INTERVAL, 1],
        [cv2.IMWRITE_JPEG_OPTIMIZE, 1],
    ):
        found.append(cv2.imencode(".jpg", image, options)[1].tobytes())
    for array in (image[..., 0], image.astype(np.uint16) * 257, np.dstack([image, image[..., 0]])):
        found.append(cv2.imencode(".png", array)[1].tobytes())
    found.append(cv2.imencode(".jpg", image[..., 0])[1].tobytes())
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    jpeg = encode_jpeg(image, 80)
    found.append(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff + jpeg[2:])
    return found


def make(rng: np.random.Generator) -> Case:
    data, other = pick(rng, seeds()), pick(rng, seeds())
    if rng.random() < 0.3:
        data = claiming(data, rng)
    file = Damaged.whole(data)
    if rng.random() < 0.75:
        file = damage(file, rng, [0, 8, 33], Damaged.whole(other), grain=1)
    data = file.bytes()
    if data[:8] == b"\x89PNG\r\n\x1a\n" and rng.random() < 0.8:
        data = repaired(data)
    return Case({"face": data}, check)


def claiming(data: bytes, rng: np.random.Generator) -> bytes:
    """With other sides in its header, or, for a PNG, other depth and colours, content that expands, or more chunks."""
    side = pick(rng, SIDES)
    if data[:3] == b"\xff\xd8\xff":
        frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
        return data[: frame + 5] + struct.pack(">HH", side & 0xFFFF, side & 0xFFFF) + data[frame + 9 :]
    kind = int(rng.integers(3))
    if kind == 0:
        return data[:16] + struct.pack(">II", side, side) + data[24:]
    if kind == 1:
        depth, colour, interlaced = pick(rng, (1, 2, 4, 8, 16)), pick(rng, (0, 2, 3, 4, 6)), int(rng.integers(2))
        side = min(side, MAX_SIDE)
        head = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, interlaced)
        content = zlib.compress(bytes(min(side * (8 * side + 1), 1 << 22)), 9)
        return data[:8] + chunk(b"IHDR", head) + chunk(b"IDAT", content) + chunk(b"IEND", b"")
    name = pick(rng, CHUNKS)
    content = rng.bytes(int(rng.integers(0, 64)))
    if name in (b"iCCP", b"zTXt"):
        content = b"x\0\0" + zlib.compress(bytes(1 << 22), 9)
    elif name in (b"acTL", b"fcTL"):
        content = struct.pack(">IIIIIHHBB", 0, side, side, 0, 0, 1, 1, 0, 0)[: 8 if name == b"acTL" else 26]
    return data[:33] + chunk(name, content) + data[33:]


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def repaired(data: bytes) -> bytes:
    """With the checksums of its chunks set right, so that the decoder looks at what they guard."""
    out, at = data[:8], 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + size > len(data):
            break
        out += chunk(data[at + 4 : at + 8], data[at + 8 : at + 8 + size])
        at += 12 + size
    return out + data[at:]


def check(folder: Path) -> int:
    image = decode((folder / "face").read_bytes(), "face", size=24)
    if image.shape != (24, 24, 3) or image.dtype != np.uint8 or not image.flags.c_contiguous:
        raise Finding("content", f"{image.dtype} {image.shape}")
    return 1
