"""The Python on the pages runs: settings are taken by a recipe, the rest does what the page says."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
import torch
from pages import PAGES, blocks
from paths import RECIPES, ROOT
from small_models import noise_images, write_model, write_onnx
from tiny import tiny_model

from qgface_plugin import QGFaceMargin, QGPartialFC
from qgface_plugin.config.recipe import load_recipe
from qgface_plugin.models.quality_calibration import QualityCalibration

ELSEWHERE = {
    "docs/own_loop.md": "tests/docs/test_own_loop.py runs the loop and every diff of it",
    "docs/own_parts.md": "tests/docs/test_guide.py trains with each",
    "docs/results.md": "measures speed; takes minutes",
    "embed_files": "needs a detector; tests/models/test_photographs.py has one",
    "FaceAnalysis": "needs a detector; tests/models/test_onnx_export.py has a stand-in",
}
START = """from easydict import EasyDict as edict
from qgface_plugin import load_config
config = load_config(__file__, "{}")
"""
EVERY = [(str(page.relative_to(ROOT)), block) for page in PAGES for block in blocks(page, "python")]
HERE = [one for one in EVERY if one[0] not in ELSEWHERE and not any(word in one[1] for word in ELSEWHERE)]
SETTINGS = [one for one in HERE if re.search(r"^config\.", one[1], re.MULTILINE)]
CODE = [one for one in HERE if one not in SETTINGS]


def title(one: tuple[str, str]) -> str:
    return f"{one[0]}: {one[1].strip().splitlines()[-1][:50]}"


@pytest.mark.parametrize(("page", "block"), SETTINGS, ids=map(title, SETTINGS))
def test_settings_are_taken(page, block, tmp_path):
    for recipe in RECIPES.glob("*.py"):
        shutil.copy(recipe, tmp_path)
    own = tmp_path / "own.py"
    own.write_text(block if "config = " in block else START.format("lfw_mbf.py") + block)
    run, plain = load_recipe(own, {}).as_dict(), load_recipe(tmp_path / "lfw_mbf.py", {}).as_dict()
    assert run != {**plain, "name": "own", "output": run["output"]}


class PartialFC(torch.nn.Module):
    """What an untouched partial FC gives its margin, on one rank: cosines and the place of the own class."""

    def __init__(self, margin_loss, embedding_size, num_classes, sample_rate, fp16):
        super().__init__()
        self.margin_loss = margin_loss
        self.weight = torch.nn.Parameter(torch.randn(num_classes, embedding_size))

    def forward(self, embeddings, labels):
        normalize = torch.nn.functional.normalize
        return self.margin_loss(normalize(embeddings) @ normalize(self.weight).T, labels)


def surroundings(folder, block: str) -> dict:
    """What a page's reader has already when the block begins, by name."""
    if "insightface" in block:
        pytest.importorskip("insightface")
        write_onnx(folder / "qgface_r34.onnx", tiny_model("quick", 512, False))
    if "load_model" in block:
        write_model(folder / "work_dirs" / "qgface_r34")
    if "calibration.json" in block:
        QualityCalibration.of_norms(np.linspace(10, 50, 99), "archive_aligned", "").save(folder / "calibration.json")
    images = noise_images(12)
    names = {"PartialFC_V2": PartialFC, "num_classes": 7}
    names |= {"images": images, "bad_images": images // 4, "image_bgr": images[0]}
    names |= {"norms": np.array([10.0, 30.0, 50.0])}
    if "criterion(" in block:
        names |= {"criterion": QGPartialFC(QGFaceMargin(quality="sharpness"), 8, 5), "embeddings": torch.randn(6, 8)}
        names |= {"labels": torch.tensor([0, 1, 2, 0, 1, 2]), "numbers": torch.randn(6)}
    return names


@pytest.mark.parametrize(("page", "block"), CODE, ids=map(title, CODE))
def test_code_runs(page, block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = surroundings(tmp_path, block)
    before = set(names)
    exec(compile(block, page, "exec"), names)  # noqa: S102 - it is our own page
    made = (names.keys() & CHECKS.keys()) - before
    assert made
    for name in made:
        assert CHECKS[name](names[name]), name


CHECKS = {
    "loss": lambda loss: torch.isfinite(loss) and loss > 0,
    "found": lambda found: 0 <= found.share <= 1 and 0 <= found.auc <= 1 and found.verdict,
    "embeddings": lambda embeddings: embeddings.features.shape == (12, 16),
    "features": lambda features: np.shape(features) == (1, 512) and np.isfinite(features).all(),
    "template": lambda template: np.allclose(template, np.array([3, 1, 0]) / np.sqrt(10)),
    "percentiles": lambda percentiles: np.allclose(percentiles, [0, 50, 100]),
    "words": lambda words: words == "better than 52 % of archive_aligned",
    "module_partial_fc": lambda fc: gated_out(fc),
}


def gated_out(fc: torch.nn.Module) -> bool:
    """Rows whose quality is at or below b have no loss and no gradient: eight of one norm, one far below."""
    embeddings = torch.nn.functional.normalize(torch.randn(9, 512)) * torch.tensor([20.0] * 8 + [1.0])[:, None]
    embeddings.requires_grad_()
    logits = fc(embeddings, torch.arange(9)[:, None] % 7)
    torch.nn.functional.cross_entropy(logits, torch.arange(9) % 7).backward()
    return not embeddings.grad[8].any() and bool(embeddings.grad[:8].any(1).all())


def test_every_block_is_run_somewhere():
    assert {page for page, _ in EVERY} >= {"docs/guide.md", "docs/evaluation.md", "docs/export.md", "README.md"}
    assert len(SETTINGS) > 5 and len(CODE) > 3
