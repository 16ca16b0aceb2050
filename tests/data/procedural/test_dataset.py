from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from qgface_plugin.config.degradation import OURS
from qgface_plugin.data.bin_files import read_bin
from qgface_plugin.data.degradation.cpu import degrade
from qgface_plugin.data.images import decode
from qgface_plugin.data.procedural.dataset import MARKER, write_dataset
from qgface_plugin.data.procedural.face import draw_face
from qgface_plugin.data.procedural.pen import SIDE, ZOOM, Pen
from qgface_plugin.data.recordio import RecordReader
from qgface_plugin.data.recordio.format import unpack
from qgface_plugin.data.sources.records import FaceRecords
from qgface_plugin.utils.errors import ConfigError

SMALL = {"identities": 4, "images_per_identity": 3, "pairs": 12}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("faces") / "new", **SMALL, seed=4)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_face_follows_from_its_seeds():
    face = draw_face(3, 5)
    assert face.shape == (112, 112, 3) and face.dtype == np.uint8
    np.testing.assert_array_equal(face, draw_face(3, 5))
    assert len({draw_face(i, j).tobytes() for i in range(4) for j in range(4)}) == 16


def test_a_person_is_recognisable_on_average():
    """The mean of many pictures depends on the person, far more than it varies with the pictures."""
    means = np.array(
        [[np.mean([draw_face(i, k) for k in range(part, part + 25)], axis=0) for part in (0, 25)] for i in range(4)]
    )
    middle = means[:, :, 30:100, 25:87]
    within = np.abs(middle[:, 0] - middle[:, 1]).mean()
    between = np.mean([np.abs(middle[i, 0] - middle[j, 1]).mean() for i in range(4) for j in range(4) if i != j])
    assert between > 2 * within


def test_eyes_and_mouth_lie_where_the_template_has_them():
    """Faces differ most from picture to picture and person to person; their mean shows dark eyes and a mouth."""
    mean = np.mean([draw_face(i, i) for i in range(150)], axis=(0, 3))
    eyes = mean[48:56, 34:43].mean(), mean[48:56, 69:78].mean()
    cheeks = mean[62:70, 34:43].mean(), mean[62:70, 69:78].mean()
    assert max(eyes) < min(cheeks) - 4
    mouth_rows = mean[80:104, 48:64].mean(axis=1)
    assert 89 <= 80 + int(np.argmin(mouth_rows)) <= 96


def unit(images):
    """Every second pixel as a vector of length one, without its mean."""
    x = images[:, ::2, ::2].reshape(len(images), -1).astype(np.float32)
    x -= x.mean(axis=1, keepdims=True)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_pixels_alone_do_not_solve_verification():
    people = [who for i in range(160) for who in ((i, i) if i % 2 == 0 else (i, i + 1000))]
    x = unit(np.array([draw_face(who, picture) for picture, who in enumerate(people)]))
    cosine = (x[0::2] * x[1::2]).sum(axis=1)
    same = np.arange(160) % 2 == 0
    assert 0.55 < max(((cosine > threshold) == same).mean() for threshold in cosine) < 0.75


def test_degraded_views_are_harder_than_sharp_ones():
    people = range(30)
    gallery = unit(np.array([np.mean([draw_face(i, k) for k in range(12)], axis=0) for i in people]))
    sharp = np.array([draw_face(i, 100 + k) for i in people for k in range(5)])
    low = np.array([degrade(image, OURS, np.random.default_rng(i)) for i, image in enumerate(sharp)])
    right = np.repeat(people, 5)
    rank_1 = [((unit(probes) @ gallery.T).argmax(axis=1) == right).mean() for probes in (sharp, low)]
    assert rank_1[1] < rank_1[0]
    assert rank_1[1] > 2 / 30, "nothing is left of the person"


def test_a_pose_moves_what_is_drawn():
    def centre(**pose):
        pen = Pen(**{"yaw": 0.0, "roll": 0.0, "scale": 1.0, "shift": (0.0, 0.0), **pose})
        pen.oval(10.0, 40.0, 3.0, 3.0, np.array((255.0, 255.0, 255.0)), depth=5.0)
        canvas = np.zeros((ZOOM * SIDE, ZOOM * SIDE, 3), np.uint8)
        pen.draw(canvas)
        y, x = np.nonzero(canvas[:, :, 0] > 128)
        return np.array((x.mean(), y.mean())) / ZOOM

    frontal = centre()
    np.testing.assert_allclose(frontal, (65.75, 40.0), atol=0.3)
    np.testing.assert_allclose(centre(shift=(2.0, -3.0)) - frontal, (2.0, -3.0), atol=0.3)
    np.testing.assert_allclose(centre(yaw=1.0) - frontal, (5.0 - 0.6 - 0.2, 0.0), atol=0.3)
    np.testing.assert_allclose(centre(roll=np.pi / 2), (55.75 - 20.0, 60.0 - 10.0), atol=0.3)
    np.testing.assert_allclose(centre(scale=2.0), (55.75 + 20.0, 60.0 - 40.0), atol=0.3)


def test_the_files_are_insightfaces(written):
    assert sorted(files(written)) == [MARKER, "procedural_dev.bin", "property", "train.idx", "train.lst", "train.rec"]
    assert (written / "property").read_text() == "4,112,112\n"
    reader = RecordReader(written / "train.rec", written / "train.idx")
    assert reader.keys.tolist() == list(range(1 + 12 + 4))
    header, payload = unpack(reader.read(0))
    assert header.flag == 2 and header.label.tolist() == [13, 17] and len(payload) == 0
    header, payload = unpack(reader.read(13 + 2))
    assert header.flag == 2 and header.label.tolist() == [7, 10] and len(payload) == 0
    lines = [line.split("\t") for line in (written / "train.lst").read_text().splitlines()]
    assert [int(line[2]) for line in lines] == [i // 3 for i in range(12)]


def test_the_training_set_reads_as_faces(written):
    source = FaceRecords(written)
    source.check()
    assert len(source) == 12 and source.num_classes == 4
    assert source.labels().tolist() == [i // 3 for i in range(12)]
    image = decode(*source.read(4)[:1], source.where(4))
    expected = draw_face(4 << 32 | 1, 1)
    assert np.abs(image.astype(int) - expected).mean() < 8


def test_the_pair_set_is_balanced_and_of_unseen_people(written, monkeypatch):
    pairs = read_bin(written / "procedural_dev.bin")
    assert pairs.name == "procedural_dev" and pairs.same.tolist() == [True, False] * 6
    drawn = []
    monkeypatch.setattr(
        "qgface_plugin.data.procedural.dataset.draw_face", lambda *seeds: drawn.append(seeds) or draw_face(0, 0)
    )
    write_dataset(written.parent / "watched", **SMALL, seed=4)
    train, dev = drawn[:12], drawn[12:]
    assert not {who for who, _ in train} & {who for who, _ in dev}
    people = [(first[0] == second[0]) for first, second in zip(dev[0::2], dev[1::2], strict=True)]
    assert people == pairs.same.tolist()
    assert len(set(drawn)) == len(drawn), "no picture twice"


def test_a_complete_set_is_reused(written, tmp_path):
    steps = []
    again = write_dataset(tmp_path / "again", **SMALL, seed=4, progress=lambda done, total: steps.append((done, total)))
    assert files(again) == files(written)
    assert steps == [(n, 36) for n in range(1, 37)]
    write_dataset(again, **SMALL, seed=4, progress=lambda *_: pytest.fail("drawn again"))
    other = write_dataset(tmp_path / "other", **SMALL, seed=5)
    assert files(other)["train.rec"] != files(written)["train.rec"]


@pytest.mark.parametrize("harm", ["interrupted", "cut short", "lost", "marker damaged"])
def test_an_incomplete_set_is_made_anew(written, tmp_path, harm):
    folder = write_dataset(tmp_path, **SMALL, seed=4)
    if harm == "interrupted":
        with pytest.raises(KeyboardInterrupt):
            write_dataset(folder, **SMALL, seed=5, progress=lambda done, _: interrupt() if done == 20 else None)
        assert not json.loads((folder / MARKER).read_text())["complete"]
    elif harm == "cut short":
        (folder / "train.rec").write_bytes((folder / "train.rec").read_bytes()[:-100])
    elif harm == "lost":
        (folder / "procedural_dev.bin").unlink()
    else:
        (folder / MARKER).write_text("{")
    write_dataset(folder, **SMALL, seed=4)
    assert files(folder) == files(written)


def interrupt():
    raise KeyboardInterrupt


def test_of_several_that_draw_the_same_at_once_one_draws(written, tmp_path):
    drawn = []

    def draw(number: int) -> None:
        write_dataset(tmp_path / "faces", **SMALL, seed=4, progress=lambda done, total: drawn.append(number))

    threads = [threading.Thread(target=draw, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(drawn)) == 1 and files(tmp_path / "faces") == files(written)


def test_someone_elses_records_are_not_overwritten(tmp_path):
    (tmp_path / "train.rec").write_bytes(b"precious")
    with pytest.raises(ConfigError, match="train.rec was not made of procedural faces"):
        write_dataset(tmp_path, 2, 1, 2, 0)
    assert files(tmp_path) == {"train.rec": b"precious"}


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((1, 3, 20, 0), "identities is 1"),
        ((5, 0, 20, 0), "images_per_identity is 0"),
        ((5, 3, 1, 0), "pairs is 1"),
        ((5, 3, 20, -1), "seed is -1"),
        ((5, 3, 20, 2**32), "seed is 4294967296"),
    ],
)
def test_numbers_out_of_range_are_named(tmp_path, arguments, match):
    with pytest.raises(ConfigError, match=match):
        write_dataset(tmp_path / "none", *arguments)
    assert not (tmp_path / "none").exists()
