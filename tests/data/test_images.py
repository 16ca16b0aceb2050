"""Decoding and encoding: pixels as OpenCV gives them, other sizes, and everything that is refused."""

from __future__ import annotations

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from golden.make_golden import draw, png

from qgface_plugin.data.images import decode, decode_into, encode_jpeg, encode_png, is_image
from qgface_plugin.data.sources.records import FaceRecords
from qgface_plugin.utils.errors import DataError


def opencv_jpeg(image_rgb: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(".jpg", image_rgb[..., ::-1], list(options))[1].tobytes()


def opencv_decode(encoded: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


@pytest.fixture
def noisy() -> np.ndarray:
    noise = np.random.default_rng(3).integers(0, 60, (112, 112, 3))
    return (draw(3, 2, 112).astype(int) * 3 // 4 + noise).clip(0, 255).astype(np.uint8)


def test_png_round_trip(noisy: np.ndarray) -> None:
    image = decode(encode_png(noisy), "here")
    assert image.dtype == np.uint8 and image.flags.c_contiguous and np.array_equal(image, noisy)


@pytest.mark.parametrize("options", [(), (cv2.IMWRITE_JPEG_QUALITY, 30), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)])
def test_jpeg_pixels_are_those_of_opencv(options: tuple[int, ...], noisy: np.ndarray) -> None:
    encoded = opencv_jpeg(noisy, *options)
    image = decode(encoded, "here")
    assert image.flags.c_contiguous and image.flags.writeable
    assert np.abs(image.astype(int) - opencv_decode(encoded)).max() <= 1


@pytest.mark.parametrize("quality", [20, 75, 95])
def test_encoded_jpeg_is_as_good_as_opencv_s(quality: int, noisy: np.ndarray) -> None:
    own, theirs = encode_jpeg(noisy, quality), opencv_jpeg(noisy, cv2.IMWRITE_JPEG_QUALITY, quality)
    own_error, their_error = (np.abs(decode(encoded, "here").astype(int) - noisy).mean() for encoded in (own, theirs))
    assert own_error < 1.05 * their_error
    assert abs(len(own) - len(theirs)) < 0.05 * len(theirs)


def test_channels_are_red_green_blue() -> None:
    image = np.zeros((112, 112, 3), np.uint8)
    image[...] = (200, 100, 30)
    for encoded in (encode_jpeg(image, 95), encode_png(image)):
        assert np.abs(decode(encoded, "here")[56, 56].astype(int) - (200, 100, 30)).max() <= 2


def test_views_are_accepted(noisy: np.ndarray) -> None:
    for encoded in (encode_jpeg(noisy, 90), encode_png(noisy)):
        assert np.array_equal(decode(memoryview(encoded).toreadonly(), "here"), decode(encoded, "here"))
    assert np.array_equal(
        decode(encode_jpeg(noisy[:, ::-1], 90), "here"), decode(encode_jpeg(noisy[:, ::-1].copy(), 90), "")
    )


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_grey_becomes_rgb(suffix: str, noisy: np.ndarray) -> None:
    grey = noisy[..., 1]
    image = decode(cv2.imencode(suffix, grey)[1].tobytes(), "here")
    assert image.shape == (112, 112, 3)
    assert (image[..., 0] == image[..., 1]).all() and (image[..., 1] == image[..., 2]).all()
    assert np.abs(image[..., 0].astype(int) - grey).mean() < 6


def test_alpha_and_sixteen_bits(noisy: np.ndarray) -> None:
    with_alpha = np.dstack([noisy[..., ::-1], np.full((112, 112), 128, np.uint8)])
    assert np.array_equal(decode(cv2.imencode(".png", with_alpha)[1].tobytes(), "here"), noisy)
    deep = noisy[..., ::-1].astype(np.uint16) * 257
    assert np.array_equal(decode(cv2.imencode(".png", deep)[1].tobytes(), "here"), noisy)


@pytest.mark.parametrize(("side", "method"), [(224, cv2.INTER_AREA), (113, cv2.INTER_AREA), (50, cv2.INTER_LINEAR)])
def test_other_squares_are_resized(side: int, method: int) -> None:
    image = draw(1, 2, side)
    expected = cv2.resize(image, (112, 112), interpolation=method)
    assert np.array_equal(decode(encode_png(image), "here"), expected)
    assert decode(encode_png(image), "here", size=side).shape == (side, side, 3)


@pytest.mark.parametrize("encode", [encode_png, lambda image: encode_jpeg(image, 90)])
def test_other_shapes_must_be_aligned_first(encode) -> None:  # noqa: ANN001
    with pytest.raises(DataError, match="here: the image is 96 x 112, not square"):
        decode(encode(np.zeros((112, 96, 3), np.uint8)), "here")


def exif_turned(encoded: bytes, orientation: int) -> bytes:
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    return encoded[:2] + b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff + encoded[2:]


def test_orientation_tag_is_obeyed(noisy: np.ndarray) -> None:
    encoded = encode_jpeg(noisy, 95)
    turned = decode(exif_turned(encoded, 6), "here")
    assert np.abs(turned.astype(int) - np.rot90(decode(encoded, "here"), -1)).max() <= 1
    with pytest.raises(DataError, match="Premature end"):
        decode(exif_turned(encoded, 6)[:-200], "here")


BOMB = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (b"", "neither JPEG nor PNG"),
        (b"GIF89a" + bytes(100), "neither JPEG nor PNG; it begins with b'GIF89a"),
        (b"\xff\xd8\xff", "undecodable JPEG of 3 bytes"),
        (b"\xff\xd8\xff\xe0" + bytes(500), "undecodable JPEG of 504 bytes"),
        (b"\x89PNG\r\n\x1a\n", "0 x 0 pixels is no face crop"),
        (BOMB + struct.pack(">I", zlib.crc32(BOMB[12:])), "60000 x 60000 pixels is no face crop"),
        (png(draw(0, 0))[:40] + bytes(100), "undecodable image of 140 bytes"),
    ],
)
def test_undecodable(encoded: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"train.rec key 3 at offset 9: .*{message}"):
        decode(encoded, "train.rec key 3 at offset 9")


def test_a_png_chunk_that_claims_too_much_costs_nothing() -> None:
    whole = png(draw(0, 0))
    damaged = whole[:33] + struct.pack(">I", 60 << 20) + whole[37:]
    before = peak_bytes()
    with pytest.raises(DataError, match="here: undecodable image of .* bytes"):
        decode(damaged, "here")
    assert peak_bytes() - before < 8 << 20


def peak_bytes() -> int:
    """The most memory that this process has held since the last call; pages that were touched."""
    with open("/proc/self/status") as file:
        peak = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    Path("/proc/self/clear_refs").write_text("5")
    return peak


@pytest.mark.parametrize("side", [2049, 8192])
def test_images_of_a_few_bytes_and_many_pixels_are_refused(side: int) -> None:
    frame = encode_jpeg(draw(0, 0), 90)
    at = frame.index(b"\xff\xc0") + 5
    with pytest.raises(DataError, match=f"{side} x {side} pixels"):
        decode(frame[:at] + struct.pack(">HH", side, side) + frame[at + 4 :], "here")


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.95, 0.999])
def test_cut_short(kept: float, noisy: np.ndarray) -> None:
    for encoded in (encode_jpeg(noisy, 90), encode_png(noisy)):
        with pytest.raises(DataError, match="here: "):
            decode(encoded[: int(len(encoded) * kept)], "here")


def test_damaged_bytes_are_refused_or_harmless(noisy: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    encoded = encode_jpeg(noisy, 90)
    for _ in range(100):
        damaged = bytearray(encoded)
        damaged[int(rng.integers(3, len(encoded)))] ^= int(rng.integers(1, 256))
        try:
            assert decode(bytes(damaged), "here").shape == (112, 112, 3)
        except DataError as error:
            assert str(error).startswith("here: ")


def test_threads_decode_alike(noisy: np.ndarray) -> None:
    encoded = [encode_jpeg(np.roll(noisy, shift, 0), 90) for shift in range(16)]
    expected = [decode(image, "here") for image in encoded]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda image: decode(image, "here"), encoded * 8))
    assert all(np.array_equal(result, expected[index % 16]) for index, result in enumerate(results))


def test_signatures() -> None:
    assert is_image(memoryview(b"\xff\xd8\xff\xe0")) and is_image(png(draw(0, 0)))
    assert not is_image(b"") and not is_image(b"\xff\xd8") and not is_image(b"\x89PNG")


def test_real_faces_equal_opencv_s(lfw: Path) -> None:
    source = FaceRecords(lfw / "train")
    for index in range(0, len(source), 25):
        encoded, _ = source.read(index)
        assert np.abs(decode(encoded, "face").astype(int) - opencv_decode(encoded)).max() <= 1


def test_decoding_into_an_array_is_decoding():
    rng = np.random.default_rng(0)
    for side, encode in ((112, encode_jpeg), (80, encode_jpeg), (200, encode_jpeg), (112, encode_png)):
        image = cv2.GaussianBlur(rng.integers(0, 256, (side, side, 3), dtype=np.uint8), (9, 9), 0)
        encoded = encode(image, 90) if encode is encode_jpeg else encode(image)
        for data in (encoded, memoryview(encoded)):
            out = np.zeros((112, 112, 3), np.uint8)
            decode_into(out, data, lambda: "never asked for")
            np.testing.assert_array_equal(out, decode(encoded, ""))


def test_decoding_into_an_array():
    image = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    encoded = encode_jpeg(image, 90)
    # an Exif segment with one entry, orientation (0x0112) 6: the image is shown turned by 90 degrees
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    turned = encoded[:2] + b"\xff\xe1" + (8 + len(tiff)).to_bytes(2, "big") + b"Exif\0\0" + tiff + encoded[2:]
    out = np.zeros((112, 112, 3), np.uint8)
    decode_into(out, turned, str)
    np.testing.assert_array_equal(out, np.rot90(decode(encoded, ""), -1))
    for damaged, message in (
        (encoded[:300], "key 3: undecodable JPEG of 300 bytes"),
        (encode_jpeg(image[:, :100], 90), "key 3: the image is 100 x 112, not square"),
        (b"no image", "key 3: neither JPEG nor PNG"),
    ):
        with pytest.raises(DataError, match=message):
            decode_into(out, damaged, lambda: "key 3")
