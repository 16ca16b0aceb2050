"""qgface embed: what is in the file, after a kill, on two ranks; what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from paths import ROOT
from small_models import noise_images, write_model

from qgface_plugin.commands.embed import main
from qgface_plugin.data.images import encode_jpeg, encode_png
from qgface_plugin.evaluation import embed_job
from qgface_plugin.evaluation.embedding_files import read_embeddings
from qgface_plugin.models import load_model
from qgface_plugin.models.digest import model_digest
from qgface_plugin.models.quality_calibration import QualityCalibration

COUNT = 11


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    folder = tmp_path / "faces"
    for number, face in enumerate(noise_images(COUNT)):
        path = folder / f"p{number % 3}" / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(face))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_model(tmp_path / "run")
    return tmp_path / "run" / "model.pt"


def run(*arguments: object) -> int:
    return main([str(argument) for argument in (*arguments, "--device", "cpu", "--quiet")])


def test_what_is_in_the_file(faces: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    output = tmp_path / "out" / "faces.npz"
    assert run(faces, "-o", output, "--model", model) == 0
    assert "embedded     11 of 16 numbers each" in capsys.readouterr().out
    found, settings = read_embeddings(output)
    names = sorted(path.relative_to(faces).as_posix() for path in faces.rglob("*.png"))
    assert list(found.paths) == names and settings["flip_fusion"] is True and found.quality is None
    expected = load_model(str(model), device="cpu").embed_files([faces / name for name in names])
    np.testing.assert_allclose(found.embeddings, expected.embeddings, atol=1e-6)
    np.testing.assert_allclose(found.norms, expected.norms, rtol=1e-6)
    assert sorted(path.name for path in output.parent.iterdir()) == ["faces.npz"]


def test_a_list_with_a_calibration_as_csv(
    faces: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "list.txt").write_text("# chosen\nfaces/p0/00.png\n\nfaces/p1/01.png\n")
    sha256 = model_digest(model)
    QualityCalibration.of_norms(np.linspace(0, 1e6, 101), "the archive", sha256).save(tmp_path / "c.json")
    arguments = (
        tmp_path / "list.txt",
        "-o",
        tmp_path / "a.csv",
        "--model",
        model,
        "--calibration",
        tmp_path / "c.json",
    )
    assert run(*arguments) == 0
    head, *rows = (tmp_path / "a.csv").read_text().splitlines()
    assert head.startswith("path,faces,norm,quality,e0,") and [row.split(",")[0] for row in rows] == [
        "faces/p0/00.png",
        "faces/p1/01.png",
    ]
    assert "percent of the archive below it" in capsys.readouterr().out
    QualityCalibration.of_norms(np.arange(3.0), "other", "0" * 64).save(tmp_path / "c.json")
    assert run(*arguments) == 2 and "is of another model" in capsys.readouterr().err


def test_after_a_kill_only_what_is_missing_is_embedded(
    faces: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(embed_job.Job.__init__, "__defaults__", (True, 64, 2, "error", 3))
    output, whole = tmp_path / "faces.npz", tmp_path / "whole.npz"
    assert run(faces, "-o", whole, "--model", model) == 0
    plain, asked = embed_job.embed_photos, []

    def counted(model, paths, *others):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(len(paths))
        return plain(model, paths, *others)

    monkeypatch.setattr(embed_job, "embed_photos", counted)
    assert run(faces, "-o", output, "--model", model) == 130 and not output.exists()
    assert len(list((tmp_path / "faces.npz.parts").glob("*.npz"))) == 2
    asked.clear()
    monkeypatch.setattr(embed_job, "embed_photos", lambda *given: (asked.append(len(given[1])), plain(*given))[1])
    assert run(faces, "-o", output, "--model", model, "--no-flip") == 2
    assert "another flip_fusion" in capsys.readouterr().err and not asked
    assert run(faces, "-o", output, "--model", model) == 0 and asked == [3, 2]
    assert "2 of 4 parts" in capsys.readouterr().out
    one, other = read_embeddings(output)[0], read_embeddings(whole)[0]
    assert one.paths == other.paths and not (tmp_path / "faces.npz.parts").exists()
    np.testing.assert_array_equal(one.embeddings, other.embeddings)
    np.testing.assert_array_equal(one.norms, other.norms)
    (tmp_path / "faces.npz.parts").mkdir()
    (tmp_path / "faces.npz.parts" / "plan.json").write_text('{"color": "bgr"}')
    assert run(faces, "-o", output, "--model", model, "--restart") == 0


def test_two_ranks_as_one(faces: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed_job.Job.__init__, "__defaults__", (True, 64, 2, "error", 2))
    code = (
        "import sys; from qgface_plugin.evaluation import embed_job;"
        "embed_job.Job.__init__.__defaults__ = (True, 64, 2, 'error', 2);"
        "from qgface_plugin.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    script = tmp_path / "ranks.py"
    script.write_text(code)
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    arguments = ["embed", faces, "--model", model, "--device", "cpu", "--quiet", "-o"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [sys.executable, *launcher, script, *arguments, tmp_path / "two.npz"]
    done = subprocess.run(list(map(str, command)), env=environ, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("written") == 1
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert run(faces, "--model", model, "-o", tmp_path / "one.npz") == 0
    finally:
        torch.set_num_threads(threads)
    one, two = (read_embeddings(tmp_path / name)[0] for name in ("one.npz", "two.npz"))
    assert one.paths == two.paths and len(one) == COUNT
    np.testing.assert_array_equal(one.embeddings, two.embeddings)
    np.testing.assert_array_equal(one.norms, two.norms)


def test_failures_are_listed(faces: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (faces / "p0" / "bad.jpg").write_bytes(encode_jpeg(noise_images(1)[0], 90)[:300])
    output = tmp_path / "a.npz"
    assert run(faces, "-o", output, "--model", model) == 2 and "bad.jpg" in capsys.readouterr().err
    assert run(faces, "-o", output, "--model", model, "--on-corrupt", "skip", "--restart") == 0
    assert "p0/bad.jpg," in (tmp_path / "a.npz.failures.csv").read_text()
    assert len(read_embeddings(output)[0]) == COUNT
    (faces / "p0" / "bad.jpg").unlink()
    assert run(faces, "-o", output, "--model", model) == 0 and not (tmp_path / "a.npz.failures.csv").exists()


def test_refused(faces: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "mine.npz").write_bytes(b"something")
    (tmp_path / "twice.txt").write_text("a.png\na.png\n")
    for photos, output, words in (
        (tmp_path / "absent", "a.npz", "no such folder or list"),
        (tmp_path / "twice.txt", "a.npz", "a.png is listed twice"),
        (faces, "a.bin", "ends in .npz"),
        (faces, "mine.npz", "is no file of embeddings"),
    ):
        assert run(photos, "-o", tmp_path / output, "--model", model) == 2
        assert words in capsys.readouterr().err
    assert (tmp_path / "mine.npz").read_bytes() == b"something"
