"""1:N against loops over probes and gallery, in the words of insightface's tool and of the standard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ijb_sets import embeddings_of, images_of

from qgface_plugin.evaluation.protocols.ijb.identification import Enrolment, identify, read_protocol
from qgface_plugin.evaluation.protocols.ijb.templates import DEFAULT_MODE, TemplatePlan, Templates
from qgface_plugin.utils.errors import DataError


def loops(similarity: np.ndarray, probe_ids: list[int], gallery_ids: list[int]) -> dict[str, float]:
    mated = [p for p in range(len(probe_ids)) if probe_ids[p] in gallery_ids]
    others = [p for p in range(len(probe_ids)) if p not in mated]
    own = {p: similarity[p][gallery_ids.index(probe_ids[p])] for p in mated}
    better = {p: sum(s >= own[p] for s in similarity[p]) - 1 for p in mated}
    found = {f"top{k}": sum(better[p] < k for p in mated) / len(mated) for k in (1, 5, 10)}
    alarms = sorted((max(similarity[p]) for p in others), reverse=True)
    for far in (0.01, 0.1):
        theirs = alarms[max(int(len(alarms) * far) - 1, 0)]
        strict = min(t for t in [*alarms, np.inf] if sum(a > t for a in alarms) <= far * len(alarms))
        for name, limit in (("insightface", theirs), ("tpir", strict)):
            found[f"{name}{far}"] = sum(better[p] == 0 and own[p] > limit for p in mated) / len(mated)
    return found


def test_like_loops() -> None:
    random = np.random.default_rng(0)
    count = 260
    subjects = np.concatenate([np.arange(60), random.integers(0, 60, count - 60)])
    features = random.standard_normal((60, 16))[subjects] + 0.9 * random.standard_normal((count, 16))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    templates = Templates(np.arange(count) + 5, features)
    halves = np.arange(30), np.arange(30, 60)
    galleries = tuple(
        Enrolment(name, half + 5, subjects[half]) for name, half in zip(("S1", "S2"), halves, strict=True)
    )
    probes = Enrolment("probes", np.arange(60, count) + 5, subjects[60:])
    result = identify(templates, galleries, probes, DEFAULT_MODE)
    for gallery, half in zip(result.galleries, halves, strict=True):
        expected = loops(features[60:] @ features[half].T, subjects[60:].tolist(), subjects[half].tolist())
        assert gallery.top == pytest.approx({k: expected[f"top{k}"] for k in (1, 5, 10)})
        for point in gallery.tpir:
            assert point.tpir == pytest.approx(expected[f"tpir{point.fpir}"])
            assert point.insightface == pytest.approx(expected[f"insightface{point.fpir}"])
    mated = [gallery.mated for gallery in result.galleries]
    assert sum(mated) == result.probes == 200
    assert result.top[1] == pytest.approx(sum(m * g.top[1] for m, g in zip(mated, result.galleries, strict=True)) / 200)
    assert result.tpir[1]["tpir"] == pytest.approx(np.mean([g.tpir[1].tpir for g in result.galleries]))
    saved = result.as_dict()
    assert saved["mean"]["top"]["5"] == result.top[5] and saved["galleries"][1]["name"] == "S2"


def protocol(folder: Path, s1: str = "1,10\n", s2: str = "2,20\n", probes: str = "3,10\n4,20\n") -> Path:
    meta = folder / "meta"
    meta.mkdir()
    for name, text in (("gallery_S1", s1), ("gallery_S2", s2), ("probe_mixed", probes)):
        (meta / f"ijbb_1N_{name}.csv").write_text("TEMPLATE_ID,SUBJECT_ID,FILENAME\n" + text)
    return folder


def test_read_protocol(tmp_path: Path) -> None:
    galleries, probes = read_protocol(protocol(tmp_path, s1='7,70,"a, b"\n1,10,x\n7,70,again\n\n'), "IJBB")
    assert [gallery.name for gallery in galleries] == ["S1", "S2"]
    assert galleries[0].templates.tolist() == [1, 7] and galleries[0].subjects.tolist() == [10, 70]
    assert len(probes) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,10\n1,11\n", "gallery_S1.csv: template 1 is of subject 10 and of subject 11"),
        ("1,10\n2\n", "line 3 is '2': TEMPLATE_ID,SUBJECT_ID must be two integers"),
        ("1,x\n", "line 2 is '1,x'"),
        ("1,nan\n", "line 2 is '1,nan'"),
        ("1,1e300\n", "line 2 is '1,1e300'"),
        (f"1,{2**63}\n", "line 2 is '1,9223372036854775808'"),
        (f"1,{'9' * 5000}\n", "line 2 is '1,9"),
        ("1,\0\n", "line 2: a NUL byte"),
        ('1,2\n"1,3\n', "line 3: no row of a CSV"),
        ("", "no template is listed"),
    ],
)
def test_protocol_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_protocol(protocol(tmp_path, s1=text), "IJBB")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text.replace("\n", "\r\n"),
        lambda text: "\n".join(",".join(f'"{field}"' for field in line.split(",")) for line in text.split("\n")),
        lambda text: text.replace(",", ";"),
        lambda text: text.split("\n", 1)[1],
    ],
)
def test_protocol_as_other_programs_write_it(change, tmp_path: Path) -> None:
    folder = protocol(tmp_path, s1="1,10\n2,11\n")
    expected = read_protocol(folder, "IJBB")[0][0]
    path = folder / "meta" / "ijbb_1N_gallery_S1.csv"
    path.write_bytes(change(path.read_text()).encode())
    found = read_protocol(folder, "IJBB")[0][0]
    assert found.templates.tolist() == expected.templates.tolist() == [1, 2]
    assert found.subjects.tolist() == expected.subjects.tolist() == [10, 11]


def test_no_protocol(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ijbc_1N_gallery_G1.csv: No such file"):
        read_protocol(tmp_path, "IJBC")


def test_refused() -> None:
    templates = TemplatePlan(images_of([1, 2, 3, 4], [1, 2, 3, 4])).templates(embeddings_of(4))

    def run(gallery: list[tuple[int, int]], probes: list[tuple[int, int]]) -> None:
        arrays = [np.array(entries).T for entries in (gallery, probes)]
        identify(templates, (Enrolment("S1", *arrays[0]),), Enrolment("probes", *arrays[1]), DEFAULT_MODE)

    with pytest.raises(DataError, match="gallery S1 of the 1:N protocol: 1 templates have no images: 9"):
        run([(9, 10)], [(3, 10)])
    with pytest.raises(DataError, match="gallery S1: none of 1 probes"):
        run([(1, 10)], [(3, 20)])
    with pytest.raises(DataError, match="gallery S1: all 1 probes"):
        run([(1, 10)], [(3, 10)])
    with pytest.raises(DataError, match="probes: subject -1"):
        run([(1, 10)], [(3, -1), (2, 10)])
