"""The page of a model: everything in one file, nothing from outside, readable in a browser on a phone."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from qgface_plugin.commands import report
from qgface_plugin.evaluation.metrics.discard import discard_curve
from qgface_plugin.evaluation.metrics.saved_curves import saved_curves
from qgface_plugin.evaluation.metrics.sorted_scores import SortedScores
from qgface_plugin.evaluation.metrics.thresholds import find_thresholds
from qgface_plugin.evaluation.report.html_page import model_page
from qgface_plugin.evaluation.report.results import write_result
from qgface_plugin.utils.errors import DataError

pytest.importorskip("matplotlib")
ENDLESS = {"meta", "img", "!doctype"}  # elements without an end


class Reader(HTMLParser):
    """Collects the text, sources and addresses of a page; elements have to end in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.outside: list[str] = []
        self.images: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in ENDLESS:
            self.open.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "srcset", "action", "data", "poster"):
                (self.images if value.startswith("data:image/") else self.outside).append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with results of every protocol, in a folder of an awkward name."""
    random = np.random.default_rng(0)
    same = np.arange(800) < 300
    scores = np.clip(random.normal(0, 0.15, 800) + 0.45 * same, -1, 1)
    curve = SortedScores(scores, same)
    kept = {
        "thresholds": find_thresholds(scores, same, [1e-4, 1e-2], True).as_dict(), "curves": saved_curves(curve),
    }  # fmt: skip
    folder = tmp_path / "a<b> & 'c'"
    histogram = {"histogram": [0, 3, 5, 1], "mean": 0.1, "std": 0.2, "count": 9}
    quality = {}
    for source in ("norm", "/x/ofiq.csv"):
        drawn = [discard_curve(scores, same, random.random(800), fmr).as_dict() for fmr in (1e-1, 1e-9)]
        quality[source] = {"failed": 0, "curves": drawn}
    everything = {
        "pairs": {"sets": {"lfw": {
            "pairs": 800, "accuracy": 0.9912, "std": 0.01, "single_accuracy": 0.98, "auc": 0.999,
            "norms": {"mean": 20.0},
            "norm_order": {"share": 0.9, "verdict": "follows quality"}, "single_thresholds": kept["thresholds"], **kept,
        }}},
        "scface": {
            "rank1": {"d1": 0.1234, "d2": None, "d3": 0.5},
            "rank1_camera": {"cam1": {"d1": 0.5, "d2": None, "d3": 1.0, "all": 0.3}},
            "mated_probes": {"d1": 7, "d2": 0, "d3": 9}, "histogram_edges": [-1, -0.5, 0, 0.5, 1],
            "similarity": {d: {"same": histogram, "other": histogram} for d in ("d1", "d2", "d3")},
        },
        "tinyface": {
            "rank": {"1": 0.3, "5": 0.4, "20": 0.5}, "map": 0.2, "cmc": [0.3, 0.35, 0.4],
            "without_distractors": {"rank": {"1": 0.35, "5": 0.5, "20": 0.6}, "map": 0.3},
        },
        "ijbb": {
            "one_to_one": [{"mode": "N0D1F1", "auc": 0.99, **kept,
                            "tar_at_far": [{"far": 1e-4, "nearest": 0.77, "strict": 0.76}]}],
            "one_to_n": [{"mode": "N0D1F1", "galleries": [{"name": "S1", "top": {"1": 0.8, "5": 0.9}, "tpir": [
                {"fpir": 0.1, "threshold": 0.4321, "false_alarms": 1, "unmated": 9, "tpir": 0.5, "reason": ""}]}]}],
        },
        "quality": {"sets": {"lfw": {"sources": quality}}},
        "own": {"anything": 1},
    }  # fmt: skip
    for protocol, results in everything.items():
        write_result(
            protocol, data=f"/data/<{protocol}>", model=folder / "model.pt", results=results,
            warnings=["1 < 2 & so on"],
            settings={"sha256": "ab" * 32, "dim": 192, "color": "rgb", "name": "<b>"},
        )  # fmt: skip
    return folder


def test_everything_is_in_one_file(run: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "pairs.png"), np.full((40, 60, 3), 200, np.uint8))
    page = model_page(run, tmp_path / "pairs.png")
    reader = read(page)
    assert reader.outside == [] and "script" not in reader.tags and "link" not in reader.tags
    assert not re.search(r"url\(|@import|https?://", page)
    text = " ".join(reader.text)
    for words in (
        "a<b> & 'c'", "99.120", "12.34 %", "follows quality", "N0D1F1 S1", "0.4321", "77.00",
        "500 impostor pairs show no FAR below 2.0e-03", "ofiq.csv", "with distractors", "/data/<scface>",
        "1 < 2 & so on", "no section for that protocol", "Pairs of views", "192 numbers", "ab" * 32,
    ):  # fmt: skip
        assert words in text, words
    places = [text.index(f"/data/<{protocol}>") for protocol in ("pairs", "scface", "ijbb", "quality", "own")]
    assert places == sorted(places)
    pictures = [base64.b64decode(image.partition(",")[2]) for image in reader.images]
    drawn = [ET.fromstring(picture) for picture in pictures if picture.startswith(b"<?xml")]
    # pairs 2, SCface 3, TinyFace 1, IJB 2, quality 1 (its other FMR has no threshold)
    assert len(drawn) == 2 + 3 + 1 + 2 + 1 and len(pictures) == len(drawn) + 1
    words = ["".join(picture.itertext()) for picture in drawn]
    assert any("FAR 0.01" in one and "same person (300)" in one for one in words)
    assert any("norm" in one and "a perfect one" in one for one in words)
    assert model_page(run, tmp_path / "pairs.png") == page  # the same bytes again


def test_the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    output = tmp_path / "page.html"
    assert report.main([f"My model={run}", "--html", str(output)]) == 0
    assert capsys.readouterr().out == f"saved: {output}\n" and "<h1>My model</h1>" in output.read_text()
    assert report.main([f"My model={run}", "--html", str(output)]) == 0  # its own file
    (tmp_path / "other.html").write_text("<p>mine</p>")
    assert report.main([str(run), "--html", str(tmp_path / "other.html")]) == 2
    assert "is no page of a model of this tool's" in capsys.readouterr().err
    for more, message in (
        ([str(run), str(tmp_path / "x"), "--html", str(output)], "the page of one model, and 2 runs are named"),
        ([str(run), "--pairs", str(output)], "--pairs is a picture for the page: add --html FILE"),
        ([str(run), "--html", str(tmp_path / "y.html"), "--pairs", str(output)], "page.html: neither PNG nor JPEG"),
        ([str(run), "--html", str(tmp_path / "y.html"), "--pairs", str(tmp_path / "no.png")], "picture cannot be read"),
    ):
        assert report.main(more) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "y.html").exists()


def test_results_of_an_earlier_version_and_damaged_ones(tmp_path: Path) -> None:
    found = {"pairs": 6, "accuracy": 0.9, "std": 0.0, "single_accuracy": 0.9, "auc": 0.9, "norms": {"mean": 1.0}}
    write_result("pairs", data="/d", model=tmp_path / "a" / "model.pt", settings={}, results={"sets": {"lfw": found}})
    assert "kept no curves: evaluate again" in model_page(tmp_path / "a")
    del found["std"]
    write_result("pairs", data="/d", model=tmp_path / "a" / "model.pt", settings={}, results={"sets": {"lfw": found}})
    with pytest.raises(DataError, match="the saved result of pairs is damaged .KeyError: 'std'"):
        model_page(tmp_path / "a")


@pytest.mark.long
@pytest.mark.parametrize("width", [1280, 400])
def test_in_a_browser(run: Path, tmp_path: Path, width: int) -> None:
    """Something is drawn everywhere, and nothing is wider than the window: only tables scroll, on their own."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium is installed")
    page = tmp_path / "page.html"
    page.write_text(model_page(run))
    flags = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}",
    ]  # fmt: skip
    environment = {**os.environ, "HOME": str(tmp_path)}
    shot = tmp_path / "shot.png"
    subprocess.run(
        [*flags, f"--window-size={width},3000", f"--screenshot={shot}", page.as_uri()], check=True, timeout=180,
        capture_output=True, env=environment,
    )  # fmt: skip
    picture = cv2.imread(str(shot))
    assert picture.shape[:2] == (3000, width)
    parts = picture.reshape(10, 300, width, 3)
    assert (parts.reshape(10, -1).std(axis=1) > 5).all(), "a part of the page is blank"
    blue = (np.abs(picture.astype(int) - (178, 114, 0)).max(axis=2) < 30).sum()  # of the cards and the first curves
    assert blue > 100
    measured = tmp_path / "measured.html"
    script = "<script>document.title = [...document.images].every(i => i.naturalWidth > 0) + ' ' + "
    script += "document.documentElement.scrollWidth + ' ' + document.documentElement.clientWidth</script></body>"
    measured.write_text(page.read_text().replace("</body>", script))
    said = subprocess.run(
        [*flags, f"--window-size={width},3000", "--dump-dom", measured.as_uri()], check=True, timeout=180,
        capture_output=True, text=True, env=environment,
    ).stdout  # fmt: skip
    title = re.search(r"<title>(\w+) (\d+) (\d+)</title>", said)
    assert title is not None and title[1] == "true", "a picture was not shown"
    assert int(title[2]) <= int(title[3])
