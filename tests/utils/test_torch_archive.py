"""What a checkpoint claims to hold, against what it holds: refused before torch.load allocates or reads it."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

import pytest
import torch

from qgface_plugin.utils.errors import CheckpointError
from qgface_plugin.utils.torch_files import DamagedError, load, save, seal

HUGE = b"\x8a\x06" + (1 << 44).to_bytes(6, "little")
STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu%stQ"


def archive(path: Path, pickled: bytes, *more: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    """A sealed file with this pickle, whose data/0 holds four float32."""
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in (("a/data.pkl", pickled), ("a/version", b"3\n"), ("a/data/0", bytes(16)), *more):
            file.writestr(name, content)
    with open(path, "r+b") as file:
        seal(file)
    return path


def tensor(count: bytes, size: bytes = b"K\x04\x85") -> bytes:
    """A pickle of one tensor whose storage claims `count` numbers."""
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE % count + b"K\x00" + size
        + b"K\x01\x85\x89ccollections\nOrderedDict\n)RtR."
    )  # fmt: skip


def refused(path: Path, message: str, kind: type = DamagedError) -> None:
    """Refused, and at no cost."""
    tracemalloc.start()
    with pytest.raises(kind, match=message):
        load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_the_hand_made_file_is_read(tmp_path):
    assert torch.equal(load(archive(tmp_path / "a.pt", tensor(b"K\x04"))), torch.zeros(4))


@pytest.mark.parametrize("count", [HUGE, b"K\x05", b"K\x03", b"J\xff\xff\xff\xff", b"X\x01\x00\x00\x004"])
def test_a_storage_of_another_length_than_its_entry(count, tmp_path):
    """torch.load would read memory beyond the entry."""
    refused(archive(tmp_path / "a.pt", tensor(count)), "the storage '0' has")


@pytest.mark.parametrize("size", [HUGE + b"\x85", b"K\x05\x85"])
def test_a_tensor_longer_than_its_storage(size, tmp_path):
    refused(archive(tmp_path / "a.pt", tensor(b"K\x04", size)), "is damaged")


@pytest.mark.parametrize(
    "call",
    [
        b"cbuiltins\nbytearray\n",
        b"ctorch\nTensor\n",
        b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n",
        b"c_codecs\nencode\n",
    ],
)
def test_calls_that_torch_load_allows_and_that_allocate(call, tmp_path):
    name = call[1:-1].decode().replace("\n", r"\.")
    refused(archive(tmp_path / "a.pt", b"\x80\x02" + call + HUGE + b"\x85R."), f"it asks for {name}", CheckpointError)


def test_compressed_entries_are_refused_unread(tmp_path):
    path = archive(tmp_path / "a.pt", tensor(b"K\x04"), ("a/data/1", bytes(1 << 26)), method=zipfile.ZIP_DEFLATED)
    refused(path, "its entry 'a/data.pkl' is compressed")


def test_entries_that_share_their_bytes(tmp_path):
    """The directory names one large entry many times."""
    path = archive(tmp_path / "a.pt", tensor(b"K\x04"), *((f"a/data/{i}", bytes(1 << 12)) for i in range(1, 40)))
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        large = [info for info in file.infolist() if info.file_size == 1 << 12]
    for info in large:  # all claim to be as long as the file allows from where they begin
        at = data.rindex(b"PK\x01\x02", 0, data.rindex(info.filename.encode()))
        data[at + 20 : at + 28] = struct.pack("<II", 1 << 16, 1 << 16)
    end = data.rindex(b"PK\x05\x06")
    path.write_bytes(data[: end + 20] + b"\0\0")
    with open(path, "r+b") as file:
        seal(file)
    refused(path, "its entries claim .* bytes in a file of")


@pytest.mark.parametrize("name", ["a/DATA/0", "b/data/1", "a/data/0"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_entries_that_could_be_taken_for_each_other(name, tmp_path):
    refused(archive(tmp_path / "a.pt", tensor(b"K\x04"), (name, b"")), "two of its entries have one name|no archive of")


@pytest.mark.parametrize("sealed", [True, False], ids=["ours", "torch.save"])
@pytest.mark.parametrize(("field", "value"), [(38, 0x10), (8, 0x01)], ids=["folder", "encrypted"])
def test_an_entry_that_is_no_plain_file(field, value, sealed, tmp_path):
    """torch.load gives uninitialised memory for an entry that is marked as a folder."""
    path = tmp_path / "a.pt"
    save(path, {"weight": torch.ones(3)}) if sealed else torch.save({"weight": torch.ones(3)}, path)
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02", 0, data.rindex(b"/data/0"))
    data[at + field] |= value
    if sealed:
        data = data[: data.rindex(b"PK\x05\x06") + 20] + b"\0\0"
    path.write_bytes(data)
    if sealed:
        with open(path, "r+b") as file:
            seal(file)
    refused(path, "is no plain file|is damaged")


@pytest.mark.parametrize("key", [b")" + b"\x85" * 100_000, b"](e\x85", b"cbuiltins\nset\n)R"])
def test_keys_that_cannot_be_hashed_safely(key, tmp_path):
    """Hashing a tuple of depth 100,000 ends the process."""
    pickled = b"\x80\x02}" + key + b"K\x00s."
    refused(
        archive(tmp_path / "a.pt", pickled), "a key of one of its dicts is|it asks for builtins.set", CheckpointError
    )


def test_what_checkpoints_hold_is_read(tmp_path):
    """Every kind of value and of tensor that optimisers, schedules and random states have."""
    value = {
        "tensors": [
            torch.ones(3, dtype=d) for d in (torch.float64, torch.half, torch.bfloat16, torch.int16, torch.bool)
        ],
        "view": torch.arange(12.0).reshape(3, 4)[:, 1:3],
        "empty": torch.zeros(0, 4),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "long": 1 << 70,
        "numbers": (None, True, -1, 2.5, "text"),
        "ordered": OrderedDict(a=1),
        "milestones": Counter({3: 1, 7: 2}),
        "shape": torch.Size([1, 2]),
    }
    shared = torch.zeros(4)
    value["shared"] = [shared, shared[1:]]
    torch.save(value, tmp_path / "a.pt")
    loaded = load(tmp_path / "a.pt")
    expected = torch.load(io.BytesIO((tmp_path / "a.pt").read_bytes()), weights_only=True)
    assert str(loaded) == str(expected) and loaded["milestones"] == value["milestones"]
    loaded["shared"][0][1] = 5
    assert loaded["shared"][1][0] == 5


def test_state_dicts_of_modules_keep_their_metadata(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    torch.save(module.state_dict(), tmp_path / "a.pt")
    assert load(tmp_path / "a.pt")._metadata == module.state_dict()._metadata
