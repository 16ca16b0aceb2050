"""Surplus bytes in JPEGs: what stands beside whole pixels and makes libjpeg warn, taken out of the file.

Some programs leave bytes before a marker, leave out the end marker, write on behind it, or put odd values in headers.
Every viewer shows such an image whole, but libjpeg's strict mode, which stops at the first warning, refuses it as it
refuses one that is cut. Here the surplus is taken out until strict mode has nothing left to say. What lacks data then
is cut and stays refused. So does what does not end as an encoder ends it: a changed byte in the middle can leave bytes
over, too. Most such files are found out by that, not all.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import simplejpeg

JPEG_END = b"\xff\xd9"
_MARKER = re.compile(rb"\xff+([\x01-\xfe])")
_AFTER_PIXELS = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")  # restart markers stand among the pixels
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0x([0-9a-f]{2})")
_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length
_SEQUENTIAL = (0xC0, 0xC1)
_FRAMES = (0xC0, 0xC1, 0xC2)
_JFIF, _START_OF_SCAN, _END = 0xE0, 0xDA, 0xD9
_TRIES = 64  # decodings in the search for what to take out, an eighth of it for large images
_SMALL = 1 << 20  # pixels
_AHEAD = 16  # bytes that the decoder may have read ahead, which it does not report
_RUN = 4  # equal bytes on both sides of an end: a file that broke off and was filled up


class _Place(NamedTuple):
    """Where bytes were taken out: the end of entropy-coded data, and those bytes."""

    end: int
    surplus: bytes


def ends_well(encoded: memoryview | bytes) -> bool:
    """Whether the last bytes are the end marker."""
    return encoded[-2:] == JPEG_END


def without_surplus(encoded: memoryview | bytes, most_pixels: int) -> bytes | None:
    """The same pixels as a JPEG that strict mode decodes; about twenty decodings, so only for what it refuses.

    Args:
        encoded: the file's bytes.
        most_pixels: of an image that may be decoded.

    Returns:
        None when pixels are missing or damaged, or more than `most_pixels`.
    """
    clean = _clean_headers(bytes(encoded))
    if clean is None:
        return None
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(clean)
    except (ValueError, KeyError):  # the latter where there is no frame
        return None
    if height * width > most_pixels:
        return None
    found = _take_out(clean, (), [_TRIES if height * width <= _SMALL else _TRIES // 8])
    if found is None:
        return None
    whole, places = found
    if not ends_well(encoded) and not (places and places[-1].end == len(whole) - 2):
        places = (*places, _Place(len(whole) - 2, b""))
    for place in reversed(places):
        exact = _exactly(whole, place)
        if exact is None:
            return None
        whole, place = exact
        if _filled_up(whole, place) or (place.surplus and not _ends_in_ones(whole, place.end)):
            return None
    return whole


class _Scans:
    """Which bits of which coefficients the scans of a file hold: without its end marker, that tells whether it is cut
    between two scans, which no decoder minds."""

    def __init__(self) -> None:
        self.lacking: dict[int, list[int]] = {}  # component -> for each coefficient, how many low bits are to come

    def note(self, segment: bytes) -> None:
        """A segment with its marker, a frame's or a scan's header among others."""
        if segment[1] in _FRAMES and len(segment) > 9:
            self.lacking = {component: [16] * 64 for component in segment[10 : 10 + 3 * segment[9] : 3]}
        elif segment[1] == _START_OF_SCAN and len(segment) > 7:
            first, last, low = segment[-3], segment[-2], segment[-1] & 15
            for component in segment[5 : 5 + 2 * segment[4] : 2]:
                if component in self.lacking:
                    self.lacking[component][first : last + 1] = [low] * len(self.lacking[component][first : last + 1])

    def complete(self) -> bool:
        """Whether nothing is to come."""
        return bool(self.lacking) and not any(any(bits) for bits in self.lacking.values())


def _clean_headers(data: bytes) -> bytes | None:
    """Without what stands between segments and behind the end marker, which is added where there is none."""
    parts, at, scans, sequential, ended = [data[:2]], 2, _Scans(), False, False
    while found := _MARKER.search(data, at):
        kind, at = found[1][0], found.end()
        ended = kind == _END
        if ended:
            break
        if kind in _ALONE:
            continue
        end = at + int.from_bytes(data[at : at + 2], "big")
        if not at + 2 <= end <= len(data):
            return None
        sequential = sequential or kind in _SEQUENTIAL
        parts.append(_usual(kind, data[at:end], sequential))
        at = end
        scans.note(parts[-1])
        if kind == _START_OF_SCAN:
            after = _AFTER_PIXELS.search(data, at)
            end = after.start() if after else len(data)
            parts.append(data[at:end])
            at = end
    return b"".join((*parts, JPEG_END)) if ended or scans.complete() else None


def _usual(kind: int, segment: bytes, sequential: bool) -> bytes:
    """A segment with its marker; values that libjpeg warns of and then passes over become the usual ones."""
    if kind == _START_OF_SCAN and sequential and len(segment) > 6:
        segment = segment[:-3] + b"\x00\x3f\x00"  # all coefficients at once
    elif kind == _JFIF and segment[2:7] == b"JFIF\0" and len(segment) > 7:
        segment = segment[:7] + b"\x01" + segment[8:]  # the revision
    return bytes((0xFF, kind)) + segment


def _take_out(data: bytes, places: tuple[_Place, ...], tries: list[int]) -> tuple[bytes, tuple[_Place, ...]] | None:
    """Take out the bytes that strict mode reports, at each marker that it may mean, until it reports none.

    It means the next marker of the kind that it names, or, having read ahead, one before it.
    """
    if not tries[0]:
        return None
    tries[0] -= 1
    report = _complaint(data)
    if report is None:
        return data, places
    match = _EXTRANEOUS.search(report)
    if match is None:
        return None
    surplus, kind = int(match[1]), int(match[2], 16)
    marks = _marks(data)
    for mark in sorted(marks, key=lambda mark: data[mark + 1] != kind):
        start = mark - surplus
        if start <= max(places[-1].end - _AHEAD if places else 0, 2):  # reports come in the order of the file
            continue
        found = _take_out(data[:start] + data[mark:], _with(places, start, data[start:mark]), tries)
        if found is not None:
            return found
    return None


def _complaint(data: bytes) -> str | None:
    try:
        simplejpeg.decode_jpeg(data, "RGB")
    except ValueError as error:
        return str(error)
    return None


def _with(places: tuple[_Place, ...], start: int, taken: bytes) -> tuple[_Place, ...]:
    """The places, and that where `taken` has been from `start` on; one right behind it, at the same marker, joins."""
    if places and places[-1].end >= start:
        return *places[:-1], _Place(start, taken + places[-1].surplus)
    return *places, _Place(start, taken)


def _marks(data: bytes) -> list[int]:
    """Where a marker follows entropy-coded data, in a file with clean headers."""
    marks, at = [], 2
    while (found := _MARKER.search(data, at)) and found[1][0] != _END:
        at = found.end()
        at += int.from_bytes(data[at : at + 2], "big")
        if found[1][0] == _START_OF_SCAN:
            after = _AFTER_PIXELS.search(data, at)
            if after is None:
                break
            marks += [mark.end() - 2 for mark in _MARKER.finditer(data, at, after.end())]
            at = after.start()
    return marks


def _exactly(data: bytes, place: _Place) -> tuple[bytes, _Place] | None:
    """Take out what the decoder had read ahead, too, so that the place is where the last pixel's data ends."""
    end, surplus = place
    for _ in range(_AHEAD):
        shorter = data[: end - 1] + data[end:]
        report = _complaint(shorter)
        if report is not None and not _EXTRANEOUS.search(report):
            break
        surplus, data, end = data[end - 1 : end] + surplus, shorter, end - 1
    return (data, _Place(end, surplus)) if _complaint(data) is None else None


def _filled_up(data: bytes, place: _Place) -> bool:
    """Whether the data ends in a run of one byte that the surplus goes on with, as in a download that broke off."""
    run = data[place.end - _RUN : place.end] + place.surplus[:_RUN]
    return len(run) >= _RUN and len(set(run)) == 1


def _ends_in_ones(data: bytes, end: int) -> bool:
    """Whether the bits of the last byte that no pixel depends on are ones, as encoders write them."""
    if data[end - 2 : end] == b"\xff\0":  # the zero only says that the byte before it is no marker
        return True
    last, pixels = data[end - 1], simplejpeg.decode_jpeg(data, "RGB")
    for unused in range(7, 0, -1):
        mask = (1 << unused) - 1
        changed = bytes([last ^ mask]) + b"\0" * (last ^ mask == 0xFF)
        try:
            same = np.array_equal(simplejpeg.decode_jpeg(data[: end - 1] + changed + data[end:], "RGB"), pixels)
        except ValueError:
            same = False
        if same:
            return last & mask == mask
    return True
