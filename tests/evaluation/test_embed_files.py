"""Features of image files: the same as one by one, in bounded memory, and every bad file named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from identification_sets import BlockModel, UntrainedModel, write_face
from tiny import TinyBackbone

from qgface_plugin.data.images import decode
from qgface_plugin.evaluation import embed_files as embed_files_module
from qgface_plugin.evaluation.embed_files import BATCHES_AHEAD, embed_files, embed_with_gallery
from qgface_plugin.utils.errors import ConfigError, DataError


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    files = [tmp_path / f"{number}.jpg" for number in range(11)]
    for number, path in enumerate(files):
        write_face(path, number % 3, number)
    return files


@pytest.mark.parametrize("flip", [True, False])
def test_as_one_by_one(paths, flip):
    model = BlockModel()
    found = embed_files(model, paths, flip=flip, batch_size=4, workers=3)
    assert model.batches == [4, 4, 3] and found.readable.all() and found.problems == ()
    assert found.features.dtype == np.float32
    for path, row in zip(paths, found.features, strict=True):
        one = BlockModel().embed(decode(path.read_bytes(), "x")[None])
        np.testing.assert_array_equal(row, (one.original + one.mirrored if flip else one.original)[0])


def test_only_a_few_batches_are_decoded_ahead(paths, monkeypatch):
    """When batch b is embedded, no file beyond batch b + BATCHES_AHEAD - 1 has been opened."""
    opened, most = [], []
    plain = embed_files_module.read_face

    def counted(path):
        opened.append(path)
        return plain(path)

    class Watching(BlockModel):
        def embed(self, images, batch_size=64, progress=None):
            most.append(len(opened) - sum(self.batches))
            return super().embed(images, batch_size, progress)

    monkeypatch.setattr(embed_files_module, "read_face", counted)
    embed_files(Watching(), paths, batch_size=1, workers=2)
    assert len(most) == 11 and max(most) <= BATCHES_AHEAD


def test_a_bad_file_stops_and_is_named(paths):
    paths[5].write_bytes(paths[5].read_bytes()[:300])
    with pytest.raises(DataError, match="5.jpg: undecodable JPEG of 300 bytes"):
        embed_files(BlockModel(), paths, batch_size=2)


def test_bad_files_are_skipped_counted_and_named(paths):
    paths[0].write_bytes(b"no image")
    paths[1].unlink()
    expected = embed_files(BlockModel(), paths[2:])
    found = embed_files(BlockModel(), paths, batch_size=2, on_corrupt="skip")
    assert found.readable.tolist() == [False] * 2 + [True] * 9 and not found.features[:2].any()
    np.testing.assert_array_equal(found.features[2:], expected.features)
    assert "0.jpg: neither JPEG nor PNG" in found.problems[0]
    assert "1.jpg: the image cannot be read (No such file or directory)" in found.problems[1]


def test_nothing_that_can_be_decoded(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="none of 1 images .*a.jpg"):
        embed_files(BlockModel(), [tmp_path / "a.jpg"], on_corrupt="skip")


def test_an_error_of_the_model_names_the_batch(paths):
    class Broken(BlockModel):
        def embed(self, images, batch_size=64, progress=None):
            raise DataError("features are not finite")

    with pytest.raises(DataError, match=r"not finite .*0.jpg"):
        embed_files(Broken(), paths)


def test_arguments(paths):
    with pytest.raises(DataError, match="there is no image"):
        embed_files(BlockModel(), [])
    with pytest.raises(ConfigError, match="batch_size is 0"):
        embed_files(BlockModel(), paths, batch_size=0)
    with pytest.raises(ConfigError, match="workers is 0"):
        embed_files(BlockModel(), paths, workers=0)
    with pytest.raises(ConfigError, match="on_corrupt is 'ignore'"):
        embed_files(BlockModel(), paths, on_corrupt="ignore")


def test_progress_counts_images(paths, capsys):
    embed_files(BlockModel(), paths)
    assert capsys.readouterr().err == ""
    embed_files(BlockModel(), paths, progress="faces")
    assert "faces: 100%" in (shown := capsys.readouterr().err) and "11/11" in shown


def test_surplus_bytes_are_counted(paths):
    expected = embed_files(BlockModel(), paths)
    assert expected.surplus == 0
    paths[5].write_bytes(paths[5].read_bytes()[:-2])
    paths[6].write_bytes(paths[6].read_bytes() + b"more")
    found = embed_files(BlockModel(), paths)
    assert found.surplus == 2 and np.array_equal(found.features, expected.features)


def test_with_a_gallery_of_another_model(tmp_path):
    """Each file by the model of its kind, and sizes that differ are refused before anything is decoded."""
    paths = [tmp_path / f"{number}.jpg" for number in range(5)]
    for number, path in enumerate(paths):
        write_face(path, number, 0)
    paths[3].write_bytes(b"x")
    enrolled = np.array([True, False, True, False, False])
    old, new = UntrainedModel(), UntrainedModel()
    old.backbone = TinyBackbone(old.dim)  # other weights
    found = embed_with_gallery(new, old, paths, enrolled, on_corrupt="skip", batch_size=2, flip=False)
    assert found.readable.tolist() == [True, True, True, False, True] and len(found.problems) == 1
    for model, rows in ((old, [0, 2]), (new, [1, 4])):
        alone = embed_files(model, [paths[row] for row in rows], batch_size=2, flip=False)
        np.testing.assert_allclose(found.features[rows], alone.features, atol=1e-6)
    assert not np.allclose(found.features[0], embed_files(new, paths[:1], flip=False).features[0])
    with pytest.raises(DataError, match="untrained gives features of 16 numbers and .*blocks of 147: .*enrol"):
        embed_with_gallery(new, BlockModel(), [tmp_path / "absent.jpg"], np.array([True]))
