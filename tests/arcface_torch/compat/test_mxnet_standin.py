"""The stand-in for mxnet against records that MXNet wrote, and against what its operations do."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from compat_tools import importing_from, write_checkout
from golden.make_golden import draw, im2rec_records, insightface_records, png
from paths import TESTS

from qgface_plugin.arcface_torch.compat import mxnet_standin
from qgface_plugin.arcface_torch.compat.repair import is_stand_in
from qgface_plugin.data.bin_files import read_bin
from qgface_plugin.data.images import encode_jpeg
from qgface_plugin.utils.errors import DataError

GOLDEN = TESTS / "golden"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return write_checkout(tmp_path, dataset="import mxnet as mx\n")


@pytest.fixture
def mx(checkout: Path):
    with importing_from(checkout):
        mxnet_standin.install_mxnet()
        import mxnet

        yield mxnet


def records(mx, name: str):
    return mx.recordio.MXIndexedRecordIO(f"{GOLDEN / name}.idx", f"{GOLDEN / name}.rec", "r")


def test_needed_only_where_mxnet_is_used_and_does_not_import(checkout: Path, tmp_path: Path) -> None:
    repair = mxnet_standin.repair(checkout)
    assert not mxnet_standin.repair(write_checkout(tmp_path / "none")).needed()
    with importing_from(checkout):
        sys.modules["mxnet"] = None  # as if it were absent
        assert repair.needed()
        repair.apply()
        assert is_stand_in("mxnet") and not repair.needed()


def test_an_mxnet_that_imports_is_used(checkout: Path) -> None:
    write_checkout(checkout, {"mxnet/__init__": "real = True\n"})
    with importing_from(checkout):
        sys.modules.pop("mxnet", None)
        assert not mxnet_standin.repair(checkout).needed()
        import mxnet

        assert mxnet.real


def test_an_mxnet_that_fails_leaves_nothing_behind(checkout: Path) -> None:
    broken = "from . import recordio\nraise AttributeError(\"module 'numpy' has no attribute 'bool'\")\n"
    write_checkout(checkout, {"mxnet/__init__": broken, "mxnet/recordio": "broken = True\n"})
    with importing_from(checkout):
        repair = mxnet_standin.repair(checkout)
        assert repair.needed()
        assert "mxnet.recordio" not in sys.modules
        repair.apply()
        from mxnet import ndarray as nd
        from mxnet import recordio

        assert not hasattr(recordio, "broken") and nd.NDArray is mxnet_standin.NDArray


def test_header_record_of_insightface(mx) -> None:
    file = records(mx, "insightface/train")
    header, payload = mx.recordio.unpack(file.read_idx(0))
    assert header.flag == 2 and header.label.tolist() == [10, 13] and len(payload) == 0


@pytest.mark.parametrize("name, written", [("insightface/train", insightface_records()), ("im2rec", im2rec_records())])
def test_records_are_those_written_and_keys_in_the_files_order(mx, name: str, written: list) -> None:
    file = records(mx, name)
    assert file.keys == [key for key, *_ in written]
    for key, label, id_, image in written:
        header, payload = mx.recordio.unpack(file.read_idx(np.int64(key)))
        assert bytes(payload) == image and header.id == id_
        assert np.asarray(header.label).tolist() == np.float32(label).tolist()


def test_decoding_keeps_the_size_and_gives_rgb(mx) -> None:
    image = draw(2, 1, 24)
    decoded = mx.image.imdecode(png(image))
    assert decoded.shape == (24, 24, 3) and np.array_equal(decoded.asnumpy(), image)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda raw: np.frombuffer(raw, np.uint8)])
def test_decoding_takes_what_pair_sets_hold(mx, kind) -> None:
    encoded = encode_jpeg(draw(1, 1, 112), 90)
    expected = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(mx.image.imdecode(kind(encoded)).asnumpy().astype(int) - expected).max() <= 1


def test_what_is_no_image_is_refused(mx) -> None:
    with pytest.raises(DataError, match="neither JPEG nor PNG"):
        mx.image.imdecode(b"GIF89a..")
    with pytest.raises(DataError, match="undecodable JPEG of 12 bytes"):
        mx.image.imdecode(b"\xff\xd8\xff" + bytes(9))
    with pytest.raises(DataError, match="only reads"):
        mx.recordio.MXIndexedRecordIO("a.idx", "a.rec", "w")


def test_operations_on_arrays(mx) -> None:
    from mxnet import nd

    image = mx.image.imdecode(png(draw(0, 0, 24)))
    channels = nd.transpose(image, axes=(2, 0, 1))
    assert channels.shape == (3, 24, 24) and channels.asnumpy().flags.c_contiguous
    assert np.array_equal(channels.asnumpy(), draw(0, 0, 24).transpose(2, 0, 1))
    mirrored = mx.ndarray.flip(data=channels, axis=2).asnumpy()
    assert np.array_equal(mirrored, channels.asnumpy()[:, :, ::-1])


def test_asnumpy_is_a_copy(mx) -> None:
    image = mx.image.imdecode(png(draw(0, 0, 24)))
    image.asnumpy()[:] = 0
    assert image.asnumpy().any()


def test_resize_short_keeps_the_aspect_and_is_cubic(mx) -> None:
    image = draw(1, 0, 24)
    resized = mx.image.resize_short(mxnet_standin.NDArray(image), 112)
    assert np.array_equal(resized.asnumpy(), cv2.resize(image, (112, 112), interpolation=cv2.INTER_CUBIC))
    assert mx.image.resize_short(mxnet_standin.NDArray(image[:12]), 6).shape == (6, 12, 3)
    assert mx.image.resize_short(mxnet_standin.NDArray(image[:, :12]), 6).shape == (12, 6, 3)


def test_what_the_stand_in_has_not_is_named(mx) -> None:
    with pytest.raises(AttributeError, match=r"mxnet\.mod is not part of qgface_plugin's stand-in for mxnet.*install"):
        mx.mod  # noqa: B018
    assert issubclass(mx.gluon.data.Dataset, object) and mx.nd.flip is mx.ndarray.flip


def test_real_faces(mx, lfw: Path) -> None:
    file = mx.recordio.MXIndexedRecordIO(str(lfw / "train" / "train.idx"), str(lfw / "train" / "train.rec"), "r")
    header, _ = mx.recordio.unpack(file.read_idx(0))
    assert header.flag == 2 and header.label.tolist() == [4804, 5433] and len(file.keys) == 5433
    header, payload = mx.recordio.unpack(file.read_idx(4803))
    assert isinstance(header.label, float) and header.label == 628
    for encoded in (payload, read_bin(lfw / "train" / "lfw_dev.bin").images[0]):
        expected = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        decoded = mx.image.imdecode(encoded).asnumpy()
        assert decoded.shape == (112, 112, 3) and np.abs(decoded.astype(int) - expected).max() <= 1
