"""RecordIO bytes: golden files by MXNet 1.9.1, round trips, and files that are damaged."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import struct
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from golden.make_golden import FOLDER, MAGIC, im2rec_records, insightface_records, magic_records
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qgface_plugin.data.recordio import Header, RecordReader, RecordWriter, pack, unpack
from qgface_plugin.utils.errors import DataError


def write(path: Path, records: list[tuple[int, bytes]]) -> Path:
    with RecordWriter(path) as writer:
        for key, payload in records:
            writer.write(key, payload)
    return path


def packed(records: list[tuple[int, object, int, bytes]]) -> list[tuple[int, bytes]]:
    return [(key, pack(Header(0, label, id_, 0), image)) for key, label, id_, image in records]


GOLDEN = {
    "insightface/train": packed(insightface_records()),
    "im2rec": packed(im2rec_records()),
    "magic": magic_records(),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_reads_what_mxnet_wrote(name: str) -> None:
    reader = RecordReader(FOLDER / f"{name}.rec")
    assert reader.keys.dtype == np.int64
    assert reader.keys.tolist() == sorted(key for key, _ in GOLDEN[name])
    for key, payload in GOLDEN[name]:
        assert bytes(reader.read(key)) == payload


@pytest.mark.parametrize("name", GOLDEN)
def test_writes_the_bytes_that_mxnet_wrote(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "own.rec", GOLDEN[name])
    assert path.read_bytes() == (FOLDER / f"{name}.rec").read_bytes()
    assert path.with_suffix(".idx").read_bytes() == (FOLDER / f"{name}.idx").read_bytes()


def test_mxnet_reads_what_is_written(tmp_path: Path) -> None:
    mxnet = pytest.importorskip("mxnet")
    path = write(tmp_path / "own.rec", magic_records())
    file = mxnet.recordio.MXIndexedRecordIO(str(path.with_suffix(".idx")), str(path), "r")
    for key, payload in magic_records():
        assert file.read_idx(key) == payload


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    payloads=st.lists(
        st.lists(st.sampled_from([MAGIC, b"WORD", b"\0\0\0\0", b"x", b"yz"]), max_size=12).map(b"".join),
        min_size=1,
        max_size=6,
    )
)
def test_round_trip_of_any_payload(payloads: list[bytes], tmp_path: Path) -> None:
    path = write(tmp_path / "any.rec", list(enumerate(payloads)))
    reader = RecordReader(path)
    assert [bytes(reader.read(key)) for key in range(len(payloads))] == payloads
    raw = path.read_bytes()
    heads = [at for at in range(0, len(raw), 4) if raw[at : at + 4] == MAGIC]
    assert len(raw) % 4 == 0 and all(struct.unpack_from("<I", raw, at + 4)[0] >> 29 <= 3 for at in heads)


def test_header_round_trip() -> None:
    record = pack(Header(0, 5.0, 17, 2**64 - 1), b"image")
    assert record == struct.pack("<IfQQ", 0, 5.0, 17, 2**64 - 1) + b"image"
    header, payload = unpack(record)
    assert header == Header(0, 5.0, 17, 2**64 - 1) and payload == b"image"
    record = pack(Header(99, [1.5, -2.0], 3, 4), b"x")
    assert record == struct.pack("<IfQQff", 2, 0.0, 3, 4, 1.5, -2.0) + b"x"
    header, payload = unpack(record)
    assert header.flag == 2 and header.label.tolist() == [1.5, -2.0] and payload == b"x"


def test_header_longer_than_its_record() -> None:
    with pytest.raises(DataError, match="here: 23 bytes are too few for a header of 24"):
        unpack(bytes(23), "here")
    with pytest.raises(DataError, match="here: the header announces 4294967295 labels, but only 8 bytes follow"):
        unpack(struct.pack("<IfQQ", 2**32 - 1, 0, 0, 0) + bytes(8), "here")


def test_whole_records_are_not_copied(tmp_path: Path) -> None:
    reader = RecordReader(write(tmp_path / "a.rec", [(0, b"payload")]))
    first, second = np.frombuffer(reader.read(0), np.uint8), np.frombuffer(reader.read(0), np.uint8)
    assert first.ctypes.data == second.ctypes.data
    assert reader.read(0).readonly


def test_payload_outlives_its_reader(tmp_path: Path) -> None:
    assert bytes(RecordReader(write(tmp_path / "a.rec", [(0, b"payload")])).read(0)) == b"payload"


def test_parts_of_a_record_are_read_only_too(tmp_path: Path) -> None:
    assert RecordReader(write(tmp_path / "a.rec", [(0, MAGIC)])).read(0).readonly


def test_missing_index_is_rebuilt_with_a_notice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    payloads = [payload for _, payload in magic_records()]
    path = write(tmp_path / "a.rec", list(enumerate(payloads)))
    expected = RecordReader(path)
    path.with_suffix(".idx").unlink()
    with caplog.at_level(logging.WARNING):
        reader = RecordReader(path)
    assert reader.keys.tolist() == expected.keys.tolist() and reader.offsets.tolist() == expected.offsets.tolist()
    assert "a.idx is missing: index of 16 records rebuilt by scanning" in caplog.text
    assert not path.with_suffix(".idx").exists()


def test_index_named_but_missing_is_not_rebuilt(tmp_path: Path) -> None:
    path = write(tmp_path / "a.rec", [(0, b"x")])
    with pytest.raises(DataError, match="other.idx: the index cannot be read"):
        RecordReader(path, tmp_path / "other.idx")


def test_rebuilding_a_truncated_file_names_the_record(tmp_path: Path) -> None:
    path = write(tmp_path / "a.rec", [(0, b"x" * 8), (1, b"y" * 8)])
    path.write_bytes(path.read_bytes()[:-4])
    path.with_suffix(".idx").unlink()
    with pytest.raises(DataError, match="rebuilding it failed at record 1: the record at offset 16 ends at 32, past"):
        RecordReader(path)


def test_threads_share_a_reader() -> None:
    reader = RecordReader(FOLDER / "magic.rec")
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda pair: bytes(reader.read(pair[0])) == pair[1], magic_records() * 50))
    assert all(results)


def _all_equal(reader: RecordReader) -> bool:
    return all(bytes(reader.read(key)) == payload for key, payload in magic_records())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_share_a_reader(method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    reader = RecordReader(FOLDER / "magic.rec")
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert all(pool.map(_all_equal, [reader] * 4))


def test_unpickling_notices_another_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.rec", [(0, b"x")])
    pickled = pickle.dumps(RecordReader(path))
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(DataError, match="the file had 12 bytes when opened and now has 24"):
        pickle.loads(pickled)


def test_writer_leaves_nothing_behind_when_it_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), RecordWriter(tmp_path / "a.rec") as writer:
        writer.write(0, b"x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_writer_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    killed, other = tmp_path / "a.rec.77.0123abcd.part", tmp_path / "b.rec.77.0123abcd.part"
    killed.touch(), other.touch()
    write(tmp_path / "a.rec", [(0, b"payload")])
    assert {path.name for path in tmp_path.iterdir()} == {"a.rec", "a.idx", other.name}


def test_writer_refuses_keys(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "a.rec") as writer:
        writer.write(3, b"x")
        with pytest.raises(DataError, match="key 3 is already written"):
            writer.write(3, b"y")
        with pytest.raises(DataError, match="key -1 is negative"):
            writer.write(-1, b"y")


def part(kind: int, payload: bytes, magic: bytes = MAGIC) -> bytes:
    return magic + struct.pack("<I", kind << 29 | len(payload)) + payload + bytes(-len(payload) % 4)


GOOD = part(0, b"good")
DAMAGED = {
    "wrong magic": (part(0, b"abcd", b"\1\2\3\4"), "found 0x04030201 instead of 0xced7230a"),
    "cut in the payload": (part(0, b"abcdefgh")[:-1], "ends at 28, past the file's 27 bytes"),
    "cut in the padding": (part(0, b"abcde")[:-1], "ends at 28, past the file's 27 bytes"),
    "cut in the word": (MAGIC + b"\1\0\0", "offset 12 is past the last possible record of a file of 19 bytes"),
    "length past the end": (MAGIC + struct.pack("<I", (1 << 29) - 1), "past the file's 20 bytes"),
    "length too small": (
        MAGIC + struct.pack("<I", 4) + b"abcdefgh",
        "no record begins at offset 24.*length is damaged",
    ),
    "begins in the middle": (part(2, b"abcd") + part(3, b""), "continuation flag 2 is neither 0 nor 1"),
    "begins with the last part": (part(3, b"abcd"), "continuation flag 3 is neither 0 nor 1"),
    "unknown kind": (part(5, b"abcd"), "continuation flag 5 is neither 0 nor 1"),
    "no last part": (part(1, b"abcd") + part(2, b""), "the file ends before the last part"),
    "new record too soon": (part(1, b"abcd") + GOOD, "a new record begins at offset 24, before the last part"),
    "odd first part": (part(1, b"abc") + part(3, b""), "a part that is not the record's last ends at 23"),
    "whole, then a last part": (part(0, b"abcd") + part(3, b"efgh"), "no record begins at offset 24"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_records_name_file_key_and_offset(case: str, tmp_path: Path) -> None:
    damaged, message = DAMAGED[case]
    path = tmp_path / "bad.rec"
    path.write_bytes(GOOD + damaged)
    path.with_suffix(".idx").write_text("5\t0\n17\t12\n")
    reader = RecordReader(path)
    with pytest.raises(DataError, match=r"bad\.rec key 17 at offset 12: .*" + message):
        reader.read(17)


def test_a_damaged_neighbour_does_not_spoil_a_record(tmp_path: Path) -> None:
    path = tmp_path / "bad.rec"
    path.write_bytes(GOOD + part(0, b"abcd", b"\1\2\3\4"))
    path.with_suffix(".idx").write_text("0\t0\n1\t12\n")
    assert bytes(RecordReader(path).read(0)) == b"good"


def test_offset_past_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.rec"
    path.write_bytes(GOOD)
    path.with_suffix(".idx").write_text("0\t0\n1\t99999999999999996\n")
    with pytest.raises(
        DataError, match="key 1 at offset 99999999999999996: offset .* is past the last possible record"
    ):
        RecordReader(path).read(1)


@pytest.mark.parametrize("keys", [(0, 1, 2), (2, 5, 9)])
def test_unknown_key(keys: tuple[int, ...], tmp_path: Path) -> None:
    reader = RecordReader(write(tmp_path / "a.rec", [(key, b"x") for key in keys]))
    for unknown in (-1, 3, 4, 10, 2**40):
        with pytest.raises(DataError, match=f"a.rec: no key {unknown}; its 3 keys are {keys[0]} to {keys[-1]}"):
            reader.read(unknown)


def test_empty_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "empty.rec").touch()
    with pytest.raises(DataError, match="empty.rec: the file is empty"):
        RecordReader(tmp_path / "empty.rec")
    with pytest.raises(DataError, match="none.rec: the record file cannot be read"):
        RecordReader(tmp_path / "none.rec")


def test_many_tiny_parts_cost_no_more_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.rec"
    path.write_bytes(part(1, b"") + part(2, b"") * 10_000 + part(3, b""))
    path.with_suffix(".idx").write_text("0\t0\n")
    reader = RecordReader(path)
    tracemalloc.start()
    payload = reader.read(0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert bytes(payload) == MAGIC * 10_001
    assert peak < 1.5 * reader.size


def test_real_file_is_reproduced(lfw: Path, tmp_path: Path) -> None:
    original = lfw / "train" / "train.rec"
    reader = RecordReader(original)
    path = write(tmp_path / "own.rec", [(int(key), reader.read(int(key))) for key in reader.keys])
    assert path.read_bytes() == original.read_bytes()
    assert path.with_suffix(".idx").read_bytes() == original.with_suffix(".idx").read_bytes()
    path.with_suffix(".idx").unlink()
    assert np.array_equal(RecordReader(path).offsets, reader.offsets)


def test_a_file_that_is_cut_while_it_is_open_is_an_error_and_not_the_end_of_the_process(tmp_path: Path) -> None:
    path = write(tmp_path / "a.rec", [(key, bytes(10_000)) for key in range(4)])
    reader, size = RecordReader(path), path.stat().st_size
    reader.check_size()
    os.truncate(path, 9_000)
    for look in (lambda: reader.read(3), lambda: reader.read(0), lambda: reader.words, reader.check_size):
        with pytest.raises(DataError, match=rf"a\.rec: the file has 9000 bytes now, and {size} when it was opened"):
            look()


def test_a_file_that_is_replaced_while_it_is_open_stays_what_it_was(tmp_path: Path) -> None:
    reader = RecordReader(write(tmp_path / "a.rec", [(0, b"first")]))
    (tmp_path / "new").write_bytes(b"")
    os.replace(tmp_path / "new", tmp_path / "a.rec")
    assert bytes(reader.read(0)) == b"first"
