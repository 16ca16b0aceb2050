"""Templates against a loop over images, medias and templates in float64."""

from __future__ import annotations

import numpy as np
import pytest
from ijb_sets import embeddings_of, images_of

from qgface_plugin.evaluation.protocols.ijb import templates as templates_module
from qgface_plugin.evaluation.protocols.ijb.metadata import IjbImages
from qgface_plugin.evaluation.protocols.ijb.templates import ALL_MODES, DEFAULT_MODE, Mode, TemplatePlan, Templates
from qgface_plugin.models.embeddings import Embeddings
from qgface_plugin.utils.errors import ConfigError, DataError


def loops(images: IjbImages, embeddings: Embeddings, mode: Mode, usable: np.ndarray) -> dict[int, np.ndarray]:
    """Template id -> unit feature, image by image."""
    medias: dict[int, dict[int, list[np.ndarray]]] = {}
    for index in range(len(images)):
        if not usable[index]:
            continue
        feature = embeddings.original[index].astype(np.float64)
        if mode.flip:
            feature = feature + embeddings.mirrored[index]
        if mode.normalise and feature.any():
            feature = feature / np.sqrt(sum(x * x for x in feature))
        if mode.detector:
            feature = feature * images.detector[index]
        group = medias.setdefault(int(images.templates[index]), {})
        group.setdefault(int(images.medias[index]), []).append(feature)
    templates = {}
    for template, group in medias.items():
        total = sum(sum(features) / len(features) for features in group.values())
        length = np.sqrt(sum(x * x for x in total))
        templates[template] = total / length if length else total
    return templates


def drawn(seed: int, in_order: bool) -> IjbImages:
    random = np.random.default_rng(seed)
    templates = random.choice([3, 8, 9, 500, 7], 60)
    if in_order:
        templates.sort()
    return images_of(templates.tolist(), random.integers(0, 4, 60).tolist(), random.random(60).tolist())


@pytest.mark.parametrize("mode", ALL_MODES, ids=lambda mode: mode.name)
@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("rows", [1, 10, 4096])
def test_like_loops(monkeypatch: pytest.MonkeyPatch, mode: Mode, in_order: bool, rows: int) -> None:
    monkeypatch.setattr(templates_module, "ROWS", rows)
    images, embeddings = drawn(rows, in_order), embeddings_of(60)
    embeddings.original[5] = embeddings.mirrored[5] = 0
    usable = np.random.default_rng(2).random(60) < (1.1 if in_order else 0.8)
    templates = TemplatePlan(images, None if in_order else usable).templates(embeddings, mode)
    expected = loops(images, embeddings, mode, usable)
    assert templates.ids.tolist() == sorted(expected)
    for row, template in enumerate(templates.ids.tolist()):
        assert templates.features[row] == pytest.approx(expected[template], abs=2e-6)


def test_a_part_of_the_images_in_a_row() -> None:
    images, embeddings = drawn(0, in_order=True), embeddings_of(60)
    usable = np.arange(60) >= 7
    templates = TemplatePlan(images, usable).templates(embeddings)
    expected = loops(images, embeddings, DEFAULT_MODE, usable)
    assert templates.features == pytest.approx(np.array([expected[i] for i in templates.ids.tolist()]), abs=2e-6)


def test_a_read_only_mapping_is_enough() -> None:
    images, embeddings = drawn(0, in_order=True), embeddings_of(60)
    before = embeddings.original.copy()
    for side in (embeddings.original, embeddings.mirrored):
        side.flags.writeable = False
    TemplatePlan(images).templates(embeddings, Mode(True, True, False))
    assert np.array_equal(embeddings.original, before)


def test_modes() -> None:
    assert DEFAULT_MODE.name == "N0D1F1" and DEFAULT_MODE.meaning.startswith("norm used, detector score used, mirror")
    assert [mode.name for mode in ALL_MODES[:3]] == ["N1D1F1", "N1D1F0", "N1D0F1"] and len(set(ALL_MODES)) == 8
    assert Mode.named("N1D0F0") == Mode(True, False, False)
    with pytest.raises(ConfigError, match="mode is 'N2D1F1': .*N1D1F1, "):
        Mode.named("N2D1F1")


def test_a_template_of_zeros_stays_zero() -> None:
    images = images_of([1, 1, 2], [1, 2, 3])
    opposite = np.array([[1, 2], [-1, -2], [3, 4]], np.float32)
    templates = TemplatePlan(images).templates(Embeddings(opposite, opposite))
    assert templates.features.tolist() == [[0, 0], [0.6, 0.8]]


def test_not_finite() -> None:
    images, embeddings = images_of([1, 2, 3], [1, 2, 3]), embeddings_of(3)
    embeddings.mirrored[1, 2] = np.nan
    plan = TemplatePlan(images)
    with pytest.raises(DataError, match="features of 1 of 3 images are not finite: 1.jpg"):
        plan.templates(embeddings)
    plan.templates(embeddings, Mode(flip=False))  # there the mirror images take no part
    with pytest.raises(DataError, match="finite and their sums are not"):
        plan.templates(Embeddings(*np.full((2, 3, 4), 3e38, np.float32)))


def test_refused() -> None:
    images = images_of([1, 2], [1, 2])
    with pytest.raises(DataError, match=r"features are float32 \(3, 6\): give float32 \(2, d\)"):
        TemplatePlan(images).templates(embeddings_of(3))
    with pytest.raises(DataError, match="none of its 2 images takes part"):
        TemplatePlan(images, np.zeros(2, bool))


@pytest.mark.parametrize("step", [1, 1 << 22])
def test_rows(step: int) -> None:
    templates = Templates(np.array([2, 3, 9]) * step, np.zeros((3, 4)))
    assert templates.rows(np.array([9, 2, 9]) * step, "pairs").tolist() == [2, 0, 2]
    for wanted, absent in (([2, 5, 3], 5), ([1, 2], 1), ([2, 10], 10)):
        with pytest.raises(DataError, match=f"^pairs: 1 templates have no images: {absent * step}$"):
            templates.rows(np.array(wanted) * step, "pairs")
