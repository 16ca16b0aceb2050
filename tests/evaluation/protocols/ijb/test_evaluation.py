"""From features to results and their tables."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ijb_sets import embeddings_of

from qgface_plugin.evaluation.metrics.verification import auc
from qgface_plugin.evaluation.protocols.ijb.evaluation import IjbResult, evaluate, modes_of, read_embeddings
from qgface_plugin.evaluation.protocols.ijb.identification import read_protocol
from qgface_plugin.evaluation.protocols.ijb.metadata import read_images, read_pairs
from qgface_plugin.evaluation.protocols.ijb.synthetic import make_set
from qgface_plugin.evaluation.protocols.ijb.tables import identification_table, verification_table, write_csv
from qgface_plugin.evaluation.protocols.ijb.templates import ALL_MODES, DEFAULT_MODE, Mode, TemplatePlan
from qgface_plugin.models.embeddings import Embeddings
from qgface_plugin.utils.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Embeddings]:
    folder = tmp_path_factory.mktemp("ijb")
    return folder, make_set(folder, scale=0.02, dim=32)


@pytest.fixture(scope="module")
def result(small: tuple[Path, Embeddings]) -> IjbResult:
    folder, embeddings = small
    return evaluate(read_images(folder, "IJBB"), embeddings, (DEFAULT_MODE, Mode(True, False, False)), one_to_n=True)


def test_evaluate(result: IjbResult) -> None:
    assert (result.images, result.templates) == (4553, 242)
    assert [one.mode.name for one in result.verification] == ["N0D1F1", "N1D0F0"]
    assert [one.mode.name for one in result.identification] == ["N0D1F1", "N1D0F0"]
    # Persons are told apart much better than by chance, and better with the mirror image.
    assert result.verification[0].auc > result.verification[1].auc > 0.6
    saved = json.loads(json.dumps(result.as_dict()))
    assert saved["one_to_one"][0]["pairs"] == 3204 and saved["one_to_n"][1]["mode"] == "N1D0F0"


def test_without_some_images(small: tuple[Path, Embeddings]) -> None:
    folder, embeddings = small
    images = read_images(folder, "IJBB")
    usable = np.ones(len(images), bool)
    usable[np.flatnonzero(np.bincount(images.templates)[images.templates] > 1)[0]] = False
    assert evaluate(images, embeddings, usable=usable).templates == 242
    usable[images.templates == images.templates[0]] = False
    with pytest.raises(DataError, match=f"1 templates have no images: {images.templates[0]}"):
        evaluate(images, embeddings, usable=usable)


def test_gallery_of_another_model(small: tuple[Path, Embeddings]) -> None:
    """1:1 takes the first template of each pair, 1:N the galleries from the other model's features."""
    folder, embeddings = small
    images = read_images(folder, "IJBB")
    turned = np.random.default_rng(5).permutation(embeddings.original.shape[1])
    old = Embeddings(embeddings.original[:, turned], embeddings.mirrored[:, turned])
    mixed = evaluate(images, embeddings, one_to_n=True, gallery=old)
    new_templates, old_templates = (TemplatePlan(images).templates(one) for one in (embeddings, old))
    pairs = read_pairs(folder, "IJBB")
    row = {int(template): number for number, template in enumerate(new_templates.ids)}
    scores = np.array([
        old_templates.features[row[a]] @ new_templates.features[row[b]]
        for a, b in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
    ])  # fmt: skip
    assert mixed.verification[0].auc == pytest.approx(auc(scores, pairs.same), abs=1e-9)
    galleries, probes = read_protocol(folder, "IJBB")
    for gallery, found in zip(galleries, mixed.identification[0].galleries, strict=True):
        hits = 0
        for template, subject in zip(probes.templates.tolist(), probes.subjects.tolist(), strict=True):
            similarities = [old_templates.features[row[g]] @ new_templates.features[row[template]]
                            for g in gallery.templates.tolist()]  # fmt: skip
            hits += gallery.subjects[int(np.argmax(similarities))] == subject
        assert found.top[1] == pytest.approx(hits / found.mated)
    same = evaluate(images, embeddings, one_to_n=True, gallery=embeddings)
    assert same.as_dict() == evaluate(images, embeddings, one_to_n=True).as_dict()
    with pytest.raises(DataError, match="probes have 32 numbers and those of the gallery 6"):
        evaluate(images, embeddings, gallery=embeddings_of(len(images)))


def test_tables(result: IjbResult) -> None:
    table = verification_table("IJBB", result.verification)
    tar = result.verification[0].tar_at_far[5]
    assert "N0D1F1" in table and f"{100 * tar.nearest:.3f}" in table and f"{100 * tar.strict:.3f}" in table
    assert "2999 impostor pairs show no FAR between 0 and 3.3e-04" in table
    table = identification_table("IJBB", result.identification)
    assert f"{100 * result.identification[0].top[5]:9.3f}" in table and "S2 (19)" in table
    point = result.identification[0].galleries[0].tpir[1]
    assert f"{point.threshold:.4f}" in table and f"{point.false_alarms:,} of {point.unmated:,}" in table
    assert 0 < point.false_alarms <= 0.1 * point.unmated
    saved = result.as_dict()["one_to_n"][0]["galleries"][0]["tpir"][1]
    assert saved["threshold"] == point.threshold and saved["found"] == point.found


def test_csv(result: IjbResult, tmp_path: Path) -> None:
    write_csv(result, tmp_path / "new" / "ijbb.csv")
    with (tmp_path / "new" / "ijbb.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * (1 + 6 + 3 * 5)
    tar = [row for row in rows if row["metric"] == "TAR@FAR" and row["mode"] == "N1D0F0" and row["at"] == "0.01"]
    point = result.verification[1].tar_at_far[4]
    assert [(float(row["insightface"]), float(row["strict"])) for row in tar] == [(point.nearest, point.strict)]


def test_read_embeddings(small: tuple[Path, Embeddings], tmp_path: Path) -> None:
    folder, embeddings = small
    images = read_images(folder, "IJBB")
    path = tmp_path / "e.npz"
    np.savez(path, embs=embeddings.original.astype(np.float64), embs_f=embeddings.mirrored)
    read = read_embeddings(path, images)
    assert read.original.dtype == np.float32 and np.array_equal(read.original, embeddings.original)
    few = embeddings_of(3)
    np.savez(path, embs=few.original, embs_f=few.mirrored)
    with pytest.raises(DataError, match=r"embs and embs_f are \(3, 6\) and \(3, 6\): IJBB here has 4553 images"):
        read_embeddings(path, images)
    np.savez(path, embs=few.original)
    with pytest.raises(DataError, match="embs and embs_f"):
        read_embeddings(path, images)
    path.write_bytes(b"?")
    with pytest.raises(DataError, match="embs and embs_f"):
        read_embeddings(path, images)


def test_modes_of() -> None:
    assert modes_of(None, False, ALL_MODES) == (DEFAULT_MODE,)
    assert modes_of(["N1D1F1", "N0D0F0"], False, ALL_MODES) == (Mode(True, True, True), Mode(False, False, False))
    assert modes_of(None, True, ALL_MODES) == ALL_MODES
    with pytest.raises(ConfigError, match="--mode and --all-modes"):
        modes_of(["N1D1F1"], True, ALL_MODES)


def test_made_up_set(tmp_path: Path) -> None:
    assert np.array_equal(make_set(tmp_path, 0.005, 4).original, make_set(tmp_path, 0.005, 4).original)
    for scale in (0.001, 1.5):
        with pytest.raises(ConfigError, match=f"scale is {scale}"):
            make_set(tmp_path, scale)


def test_embeddings_that_are_none(
    small: tuple[Path, Embeddings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qgface_plugin.evaluation.protocols.ijb.evaluation.LONGEST", 8)
    images = read_images(small[0], "IJBB")
    path, good = tmp_path / "x.npz", np.ones((len(images), 4), dtype=np.float32)
    bad = good.copy()
    bad[2, 1] = np.nan
    np.savez(path, embs=good, embs_f=bad)
    with pytest.raises(DataError, match="x.npz: 1 features are not finite, the first that of image 3"):
        read_embeddings(path, images)
    np.savez_compressed(path, embs=np.asfortranarray(good, dtype=np.float64), embs_f=good)
    assert np.array_equal(read_embeddings(path, images).original, good)
    whole = path.read_bytes()
    np.savez_compressed(path, embs=np.zeros(1 << 16), embs_f=good)
    for content in (None, b"", b"PK\3\4", whole[:-40], whole.replace(b"embs_f", b"embs_g")):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DataError, match="x.npz: not an .npz with arrays embs and embs_f"):
            read_embeddings(path, images)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("embs.npy", "embs_f.npy"):
            np.lib.format.write_array(header := io.BytesIO(), good)
            archive.writestr(name, header.getvalue().replace(b"(%d, 4)" % len(images), b"(9%d, 4)" % len(images)))
    with pytest.raises(DataError, match="x.npz: not an .npz"):
        read_embeddings(path, images)
