"""The check of the order of channels on IJB: which pairs it takes from the templates, and that it warns."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from ijb_sets import FlatModel, write_set

from qgface_plugin.evaluation.protocols import ijb_color
from qgface_plugin.evaluation.protocols.ijb_color import check_color_of_templates
from qgface_plugin.evaluation.protocols.ijb_metadata import read_images


def paint(folder, index: int, template: int) -> None:
    """Blue belongs to the template, red to the image alone."""
    person, own = np.random.default_rng(template), np.random.default_rng(1000 + index)
    picture = np.full((9, 8, 3), 127, dtype=np.uint8)
    picture[..., 0], picture[..., 2] = person.integers(0, 256, (9, 8)), own.integers(0, 256, (9, 8))
    picture = cv2.resize(picture, (130, 150), interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(folder / "loose_crop" / f"{index + 1}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 98])


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    folder = write_set(tmp_path_factory.mktemp("ijb"), images=120)
    for index in range(120):
        paint(folder, index, index // 2)
    return read_images(folder, "IJBB")


class FirstChannel(FlatModel):
    """Looks at the first channel only, which is blue for a model that was trained on BGR."""

    color = "rgb"

    def embed(self, images, batch_size=64, progress=None):
        seen = images.copy()
        seen[..., 1:] = 127
        return super().embed(seen, batch_size)


def test_it_warns_when_the_other_order_is_better(painted):
    found = check_color_of_templates(FirstChannel(), painted, 120)
    assert found.other_auc > 0.9 > found.auc and "use --color bgr" in found.warning


def test_pairs_are_two_media_of_a_template_and_one_with_another_template(painted, monkeypatch):
    given = {}
    monkeypatch.setattr(ijb_color, "check_color_order", lambda *values: given.update(values=values))
    monkeypatch.setattr(ijb_color, "load_faces", lambda images, start, end, pool: (np.full((1, 2, 2, 3), start), {}))
    check_color_of_templates(FirstChannel(), painted, 24, 5)
    _, faces, same, pairs, batch_size = given["values"]
    numbers = faces[:, 0, 0, 0].reshape(-1, 2)
    assert (pairs, batch_size) == (24, 5) and same.tolist() == [True] * 12 + [False] * 12
    templates, medias = painted.templates[numbers], painted.medias[numbers]
    assert ((templates[:, 0] == templates[:, 1]) == same).all() and (medias[:, 0] != medias[:, 1]).all()
    assert len(np.unique(templates[same])) == 12


def test_nothing_to_check(tmp_path, painted):
    model = FirstChannel()
    assert check_color_of_templates(model, painted, 0) is None
    few = write_set(tmp_path / "few", images=18)
    assert check_color_of_templates(model, read_images(few, "IJBB")) is None
    broken = write_set(tmp_path / "broken", images=40)
    for path in (broken / "loose_crop").iterdir():
        path.write_bytes(b"x")
    assert check_color_of_templates(model, read_images(broken, "IJBB")) is None
