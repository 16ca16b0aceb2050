"""JPEGs with surplus bytes, without an end marker or with odd headers, beside JPEGs that are cut or damaged."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import simplejpeg
from golden.make_golden import draw

from qgface_plugin.data.images import decode, decode_into, decode_noting
from qgface_plugin.data.jpeg_surplus import JPEG_END, ends_well, without_surplus
from qgface_plugin.utils.errors import DataError

KINDS = {
    "baseline": (),
    "progressive": (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restarts": (cv2.IMWRITE_JPEG_RST_INTERVAL, 3),
    "optimised": (cv2.IMWRITE_JPEG_OPTIMIZE, 1),
    "grey": None,
}
NOISE = np.random.default_rng(5).integers(0, 255, 60, dtype=np.uint8).tobytes()


@pytest.fixture(params=KINDS)
def encoded(request: pytest.FixtureRequest) -> bytes:
    noise = np.random.default_rng(3).integers(0, 60, (112, 112, 3))
    image = (draw(3, 2, 112).astype(int) * 3 // 4 + noise).clip(0, 255).astype(np.uint8)
    options = KINDS[request.param]
    return cv2.imencode(".jpg", image[..., 1] if options is None else image, list(options or ()))[1].tobytes()


def markers(encoded: bytes) -> list[int]:
    return [at for at in range(2, len(encoded) - 1) if encoded[at] == 0xFF and encoded[at + 1] not in (0, 0xFF)]


def before(encoded: bytes, kind: int, surplus: bytes) -> bytes:
    """With surplus bytes before the first marker of a kind."""
    at = encoded.index(bytes((0xFF, kind)))
    return encoded[:at] + surplus + encoded[at:]


def scan(encoded: bytes) -> int:
    """Where the header of the first scan begins."""
    return encoded.index(b"\xff\xda")


WHOLE = {
    "before the end": lambda x: x[:-2] + b"\0\x10\x22\0" + JPEG_END,
    "many before the end": lambda x: x[:-2] + bytes(range(1, 200)) + JPEG_END,
    "noise before the end": lambda x: x[:-2] + NOISE + JPEG_END,
    "stuffed bytes before the end": lambda x: x[:-2] + b"\xff\0" * 20 + JPEG_END,
    "before a table": lambda x: before(x, 0xDB, b"\0\0"),
    "before the Huffman table": lambda x: before(x, 0xC4, b"\1"),
    "before the first scan": lambda x: before(x, 0xDA, b"\7" * 30),
    "before two": lambda x: before(before(x, 0xDB, b"\0"), 0xC4, b"\1\2")[:-2] + bytes(40) + JPEG_END,
    "no end marker": lambda x: x[:-2],
    "no end marker, zeros": lambda x: x[:-2] + bytes(300),
    "no end marker, before a table": lambda x: before(x, 0xDB, b"\0\0")[:-2],
    "zeros behind": lambda x: x + bytes(300),
    "text behind": lambda x: x + b"uploaded by a telephone",
    "revision 2": lambda x: x[:11] + b"\2" + x[12:],
}


@pytest.mark.parametrize("how", WHOLE)
def test_whole_pixels_are_decoded_and_noted(how: str, encoded: bytes) -> None:
    odd = WHOLE[how](encoded)
    expected, noted = decode_noting(encoded, "sound")
    assert not noted and odd != encoded
    image, noted = decode_noting(odd, "odd")
    assert np.array_equal(image, expected)
    assert noted or how == "before the end"  # four bytes the decoder may have read ahead, and says nothing of
    out = np.empty_like(expected)
    assert decode_into(out, memoryview(odd), lambda: "odd") == noted and np.array_equal(out, expected)
    assert not decode_into(out, encoded, lambda: "sound")


def test_a_scan_that_announces_no_coefficients() -> None:
    encoded = cv2.imencode(".jpg", draw(1, 1, 112))[1].tobytes()
    at = scan(encoded) + 2 + 2 + 1 + 6  # marker, length, number of components, two bytes each
    odd = encoded[:at] + b"\0\0\0" + encoded[at + 3 :]
    with pytest.raises(ValueError, match="Invalid SOS parameters"):
        simplejpeg.decode_jpeg(odd)
    assert np.array_equal(decode(odd, "odd"), decode(encoded, "sound"))


def test_between_two_scans_and_at_a_restart_marker() -> None:
    for option, kind in ((cv2.IMWRITE_JPEG_PROGRESSIVE, 0xDA), (cv2.IMWRITE_JPEG_RST_INTERVAL, 0xD2)):
        encoded = cv2.imencode(".jpg", draw(3, 2, 112), [option, 1])[1].tobytes()
        at = [at for at in markers(encoded) if encoded[at + 1] == kind and at > scan(encoded)][-1]
        odd = encoded[:at] + NOISE[:20].replace(b"\xff", b"") + encoded[at:]
        assert np.array_equal(decode(odd, "odd"), decode(encoded, "sound"))


@pytest.mark.parametrize("kept", [0.1, 0.4, 0.7, 0.95])
@pytest.mark.parametrize("end", ["nothing", "end marker", "zeros", "ones", "surplus before a table"])
def test_what_is_cut_stays_refused(end: str, kept: float, encoded: bytes) -> None:
    if len(markers(encoded)) > 20 and end == "end marker":
        pytest.skip("libjpeg itself takes a progressive file with an end marker between two scans as whole")
    at = scan(encoded) + 20
    at += int((len(encoded) - at) * kept)
    cut = encoded[:at].rstrip(b"\xff")
    cut += {"end marker": JPEG_END, "zeros": bytes(len(encoded) - at), "ones": b"\xff" * 50}.get(end, b"")
    if end.startswith("surplus"):
        cut = before(cut, 0xDB, b"\0\0")
    with pytest.raises(DataError, match="here: undecodable JPEG"):
        decode(cut, "here")
    with pytest.raises(DataError, match="here: undecodable JPEG"):
        decode_into(np.empty((112, 112, 3), np.uint8), cut, lambda: "here")


def test_a_progressive_file_cut_between_two_scans_is_refused() -> None:
    encoded = cv2.imencode(".jpg", draw(3, 2, 112), list(KINDS["progressive"]))[1].tobytes()
    for at in markers(encoded):
        if at > scan(encoded) + 20 and encoded[at + 1] in (0xC4, 0xDA):
            with pytest.raises(DataError, match="undecodable JPEG"):
                decode(encoded[:at], "here")


def test_data_out_of_step_is_mostly_refused_still() -> None:
    """A changed byte may leave bytes over as well; then the data ends in other bits than an encoder's."""
    rng = np.random.default_rng(0)
    by_libjpeg = now = 0
    for seed in range(12):
        encoded = cv2.imencode(".jpg", draw(seed % 4, 2, 112), [cv2.IMWRITE_JPEG_QUALITY, 80 + seed])[1].tobytes()
        for _ in range(30):
            damaged = bytearray(encoded)
            damaged[int(rng.integers(scan(encoded) + 20, len(encoded) - 2))] ^= int(rng.integers(1, 256))
            try:
                simplejpeg.decode_jpeg(bytes(damaged))
            except ValueError:
                by_libjpeg += 1
                now += without_surplus(bytes(damaged), 1 << 20) is None
    assert by_libjpeg > 100 and now > 0.6 * by_libjpeg


def test_neither_memory_nor_time_without_bound() -> None:
    encoded = cv2.imencode(".jpg", draw(3, 2, 112))[1].tobytes()
    assert without_surplus(encoded[:-2], 112 * 112) == encoded
    assert without_surplus(encoded[:-2], 112 * 111) is None
    start = encoded[:2]
    for junk in (encoded[:3], start + b"\xff\xda\0\2" * 50 + JPEG_END, start + b"\xff" * 99, encoded[:3] + NOISE * 9):
        assert without_surplus(junk, 1 << 20) is None
    assert ends_well(encoded) and ends_well(memoryview(encoded)) and not ends_well(b"")
