"""`.bin` pair sets, by Python 2 and 3, every protocol, images as bytes and as arrays.

What a wrong flag is: a pickle has no checksum either. Where all damage lies inside the bytes of images, in place, the
set must be refused or have all its flags, and every image that was not hit must be itself. A set cut short, and no
more, must be refused.
"""

from __future__ import annotations

import pickle
import struct
from functools import lru_cache
from pathlib import Path

import numpy as np
from fuzz.case import Case, pick
from fuzz.guard import Finding
from fuzz.mutate import Damaged, damage, fresh
from golden.make_golden import draw, png

from qgface_plugin.data.bin_files import read_bin
from qgface_plugin.data.images import encode_jpeg

SAME = [True, False, True, False]
HUGE = (0x7FFFFFFF, 0xFFFFFFFF, 0x10000000, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)
WRAPPED = (b"T", b"X", b"B", b"\x8d", b"\x8e", b"\x96", b"\x8b", b"\x95", b"r", b"j", b"U", b"C", b"\x8c", b"\x8a")
CALLS = (b"cos\nsystem\n", b"cbuiltins\nbytearray\n", b"c__builtin__\nrange\n", b"cnumpy\nzeros\n",
         b"cnumpy\nndarray\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy\ndtype\n", b"c_codecs\nencode\n",
         b"cnumpy.core.multiarray\nscalar\n", b"cnumpy.core.numeric\n_frombuffer\n")  # fmt: skip
ARGUMENTS = (
    b"\x8a\x06" + (1 << 44).to_bytes(6, "little") + b"\x85", b"(I999999999999\ntR", b"L" + b"9" * 4000 + b"L\n",
    b"](]](]]e\x85", b")", b"K\x01\x85", b"N\x85", b"]\x85", b"K\x01b", b"2" * 50, b"\x94h\x00" * 30,
)  # fmt: skip
OPCODES = b"".join(
    code for name, code in sorted(vars(pickle).items()) if name.isupper() and isinstance(code, bytes) and len(code) == 1
)


def images() -> list[bytes]:
    return [encode_jpeg(draw(i % 3, i, 16), 50) if i % 2 else png(draw(i % 3, i, 8)) for i in range(8)]


@lru_cache(maxsize=1)
def seeds() -> list[bytes]:
    """Pickles of the same pairs, as many programs wrote them."""
    encoded = images()
    arrays = [np.frombuffer(image, np.uint8) for image in encoded]
    found = [pickle.dumps((kind, same), protocol) for protocol in range(6) for kind in (encoded, arrays)
             for same in (SAME, np.array(SAME))]  # fmt: skip
    items = b"".join(b"T" + struct.pack("<i", len(image)) + image + b"q\x02" for image in encoded)
    found.append(b"\x80\x02]q\x00(" + items + b"e]q\x01(\x88\x89\x88\x89e\x86q\x03.")  # Python 2, protocol 2
    text = b"".join(b"S'" + "".join(f"\\x{byte:02x}" for byte in image).encode() + b"'\na" for image in encoded)
    found.append(b"((l" + text + b"(lI01\naI00\naI01\naI00\nat.")  # Python 2, protocol 0
    return found


def make(rng: np.random.Generator) -> Case:
    data, other = pick(rng, seeds()), pick(rng, seeds())
    whole = Damaged.whole(data)
    file = damage(whole, rng, [0, len(data) - 60], Damaged.whole(other), grain=1) if rng.random() < 0.6 else whole
    if rng.random() < 0.5 or file is whole:
        for _ in range(int(rng.integers(1, 3))):
            file = with_opcodes(file, rng)
    return Case({"lfw.bin": file.bytes()}, lambda folder: check(folder, data, file))


def with_opcodes(file: Damaged, rng: np.random.Generator) -> Damaged:
    """Something that an unpickler obeys, put in or written over: claims of size, calls, arguments, any opcode."""
    at = int(rng.integers(len(file.data) + 1))
    if rng.random() < 0.5:
        at = int(rng.choice([2, 3, 4, 12, max(2, len(file.data) - 1), max(2, len(file.data) - 8)]))
    kind = int(rng.integers(4))
    if kind == 0:
        new = pick(rng, WRAPPED) + pick(rng, HUGE).to_bytes(8, "little")[: int(rng.choice([1, 4, 8]))]
    elif kind == 1:
        new = pick(rng, CALLS) + pick(rng, ARGUMENTS) + b"R"
    elif kind == 2:
        new = bytes([pick(rng, OPCODES)])
    else:
        new = b"(" * int(2 ** rng.uniform(0, 13)) if rng.random() < 0.3 else pick(rng, ARGUMENTS)
    return file.over(at, new) if rng.random() < 0.3 else file.cut(0, at) + fresh(new) + file.cut(at, len(file.data))


def check(folder: Path, data: bytes, file: Damaged) -> int:
    pairs = read_bin(folder / "lfw.bin")
    if len(pairs.images) != 2 * len(pairs.same) or pairs.same.dtype != np.bool_:
        raise Finding("content", f"{len(pairs.images)} images for {pairs.same.dtype} flags {pairs.same.shape}")
    if not all(type(image) is bytes for image in pairs.images):
        raise Finding("content", "images that are not bytes")
    in_order = bool(np.all(np.diff(file.origin) == 1)) and file.origin[:1].tolist() == [0]
    if in_order and len(file.data) < len(data) and not file.changed.any():
        raise Finding("content", f"a file cut from {len(data)} to {len(file.data)} bytes is accepted")
    hit = np.flatnonzero(file.changed)
    spans = [(data.find(image), len(image)) for image in images()]
    if not in_order or len(file.data) != len(data) or any(start < 0 for start, _ in spans):
        return len(pairs.same)
    owner = {int(at): i for at in hit for i, (start, size) in enumerate(spans) if start <= at < start + size}
    if len(owner) == len(hit):
        if pairs.same.tolist() != SAME:
            raise Finding("label", f"flags {pairs.same.tolist()} though only images were hit")
        for i, image in enumerate(images()):
            if i not in owner.values() and pairs.images[i] != image:
                raise Finding("content", f"image {i} is another though it was not hit")
    return len(pairs.same)
