"""The check of the order of channels on files: which pairs it takes, and that it warns."""

from __future__ import annotations

import cv2
import numpy as np
from identification_sets import BlockModel, write_scface

from qgface_plugin.evaluation import color_sample
from qgface_plugin.evaluation.color_sample import check_color_of_files
from qgface_plugin.evaluation.protocols.scface import near_probes
from qgface_plugin.evaluation.protocols.scface_files import read_scface


def test_pairs_are_probes_with_a_mate_and_a_stranger(tmp_path, monkeypatch):
    found = {}
    monkeypatch.setattr(color_sample, "check_color_order", lambda *given: found.update(given=given))
    images = read_scface(write_scface(tmp_path, subjects=10))
    check_color_of_files(BlockModel(), *near_probes(images), pairs=8, batch_size=5)
    _, pixels, same, pairs, batch_size = found["given"]
    assert (pairs, batch_size) == (8, 5) and same.tolist() == [True, False] * 4 and pixels.shape == (16, 112, 112, 3)
    features = BlockModel().embed(pixels).features
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = (unit[0::2] * unit[1::2]).sum(axis=1)
    assert cosines[same].min() > 0.9 > 0.5 > cosines[~same].max()
    np.testing.assert_array_equal(pixels[0], pixels[2])  # the same probe in both


class FirstChannel(BlockModel):
    """Looks at the first channel only, which is blue for a model that was trained on BGR."""

    color = "rgb"

    def embed(self, images, batch_size=64, progress=None):
        seen = images.copy()
        seen[..., 1:] = 127
        return super().embed(seen)


def test_it_warns_when_the_other_order_is_better(tmp_path):
    images = read_scface(write_scface(tmp_path, subjects=10))
    for number, path in enumerate([*images.gallery, *images.probes]):  # nobody differs from anybody in red
        picture = cv2.imread(str(path))
        noise = np.random.default_rng(number).integers(0, 256, (7, 7), dtype=np.uint8)
        picture[..., 2] = cv2.resize(noise, (112, 112), interpolation=cv2.INTER_NEAREST)
        path.unlink()
        cv2.imwrite(str(path.with_suffix(".png")), picture)
    found = check_color_of_files(FirstChannel(), *near_probes(read_scface(tmp_path)), pairs=40)
    assert found.other_auc > found.auc and "use --color bgr" in found.warning


def test_nothing_to_check(tmp_path):
    few = near_probes(read_scface(write_scface(tmp_path / "few", subjects=9)))
    model = BlockModel()
    assert check_color_of_files(model, *few) is None
    enough = near_probes(read_scface(write_scface(tmp_path / "enough", subjects=10)))
    assert check_color_of_files(model, *enough, pairs=0) is None and model.batches == []
    assert check_color_of_files(model, *enough) is not None
    for path in enough[2]:
        path.write_bytes(b"x")
    assert check_color_of_files(model, *enough) is None
