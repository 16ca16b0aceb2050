"""The criterion on pretended CUDA: as on the CPU in every setting, without waiting, and in how many operations."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from rehearsal import expect_waits, main, rehearsal  # isort: skip  # before torch
from pretended_cuda import BOOK, Pretended, pretended_cuda, torch  # isort: skip

from qgface_plugin import QGFaceMargin, QGPartialFC  # noqa: E402
from qgface_plugin.config.method import AUTHORS, QGFaceConfig  # noqa: E402
from qgface_plugin.loss import class_softmax, feature_queue, terms  # noqa: E402

CLASSES, DIM, PAIRS, STEPS = 300, 32, 12, 3
DRAWN = {"loss/partial_fc.py nonzero": 1}  # how many centres were drawn
FORWARD = 150  # operations of a forward pass at most

# options of the criterion; "rate", "half" and "paired" are arguments of QGPartialFC
SETTINGS: dict[str, dict] = {
    "default": {},
    "float16": {"half": True},
    "as the authors": AUTHORS,
    "as the authors, float16": {**AUTHORS, "half": True},
    "no queue": {"queue": "none"},
    "queue of the batch": {"queue": "batch"},
    "momentum queue": {"queue": "momentum"},
    "a queue smaller than a batch": {"queue_size": 10},
    "a queue larger than the classes": {"queue_size": 1000},
    "a threshold by quantile": {"b_quantile": 0.4},
    "all rows classified": {"b": 0.0},
    "no row classified": {"b": 1.0},
    "no gates": {"classification_gate": "none", "contrastive_gate": "none"},
    "positive not in the denominator": {"positive_in_denominator": False},
    "gradient through the key": {"detach_key": False, "coupling": "both"},
    "not renormalised": {"renormalise": False},
    "same identity with weight 0": {"same_identity": "zero"},
    "rescaled queue": {"queue_rescale": True},
    "arcface": {"margin": "arcface"},
    "cosface": {"margin": "cosface"},
    "softmax": {"margin": "softmax"},
    "curricularface": {"margin": "curricularface"},
    "curricularface, float16": {"margin": "curricularface", "half": True},
    "magface": {"margin": "magface"},
    "magface, float16": {"margin": "magface", "half": True},
    "certainty": {"quality": "certainty"},
    "certainty, margin by norm": {"quality": "certainty", "margin_quality": "norm"},
    "sharpness": {"quality": "sharpness"},
    "degradation": {"quality": "degradation"},
    "statistics of each rank": {"stats_scope": "rank"},
    "statistics from zero": {"stats_start": "zero"},
    "straight through": {"straight_through": True},
    "a teacher": {"teacher_weight": 0.5},
    "a queue of the teacher": {"queue": "teacher"},
    "single views": {"paired": False, "queue": "none"},
    "logits computed again": {"kept": 0},
    "logits computed again, float16": {"kept": 0, "half": True},
    "sampled": {"rate": 0.4},
    "sampled, float16": {"rate": 0.4, "half": True},
    "sampled, whole queue": {"rate": 0.4, "queue_policy": "all"},
    "sampled, certainty": {"rate": 0.4, "quality": "certainty"},
}


def losses_and_gradients(device: str, **options) -> list[list[torch.Tensor]]:
    """Of STEPS steps on the CPU, whatever they were computed on; what the last one waits for is in the book."""
    half, rate, kept = options.pop("half", False), options.pop("rate", 1.0), options.pop("kept", None)
    paired = options.pop("paired", True)
    config = QGFaceConfig.from_mapping({"b": 0.4, "stats_momentum": 0.3, **options})
    torch.manual_seed(1)
    out = QGPartialFC(
        QGFaceMargin.from_config(config), DIM, CLASSES, rate, half and device == "cuda", paired=paired
    ).to(device)  # fmt: skip
    out.kept = kept
    found = []
    for number in range(STEPS):
        drawn = torch.Generator().manual_seed(number)
        rows = 2 * PAIRS if paired else PAIRS
        raw = torch.randn(rows, DIM, generator=drawn) * (1 + 0.3 * torch.rand(rows, 1, generator=drawn))
        labels = torch.randint(0, CLASSES, (PAIRS,), generator=drawn).repeat(2 if paired else 1).to(device)
        raw = raw.to(device).requires_grad_()
        keys = 0.9 * raw.detach() if config.queue == "momentum" else None
        quality = raw.detach().mean(1) if out.margin_softmax.source.given else None
        teacher = raw.detach()[:PAIRS].flip(1) if out.needs_teacher else None
        BOOK.clear()
        with BOOK.counting("forward"):
            loss = out(raw, labels, keys, quality, teacher)
        loss.backward()
        if device == "cuda":
            seen, off = (list(BOOK.waits), BOOK.launches.copy()), [n for n, v in out.terms.items() if not v.is_cuda]
            assert not off, f"terms on the CPU: {off}"
        found.append([x.detach().cpu().clone() for x in (loss, raw.grad, out.weight.grad)])
        if device == "cuda":
            BOOK.waits, BOOK.launches = seen
        with torch.no_grad():
            out.weight.add_(out.weight.grad, alpha=-0.01)
        out.weight.grad = None
    return found


def compare(name: str, options: dict) -> None:
    @rehearsal(f"criterion: {name}")
    def _(folder):
        here = losses_and_gradients("cpu", **options)
        with pretended_cuda():
            there = losses_and_gradients("cuda", **options)
            waits, launches = list(BOOK.waits), BOOK.launches["forward"]
        worst = max(
            float((a - b).norm() / a.norm().clamp_min(1e-12))
            for one, other in zip(here, there, strict=True)
            for a, b in zip(one, other, strict=True)
        )
        limit = 3e-2 if options.get("half") else 1e-4
        assert worst <= limit, f"{worst:.1e} from the CPU, relatively; at most {limit:g}"
        BOOK.waits = waits
        expect_waits(DRAWN if "rate" in options else {})
        return f"{worst:.0e} from the CPU, {launches} operations forward"


for _name, _options in SETTINGS.items():
    compare(_name, _options)


@rehearsal("criterion: in blocks of classes and of queue entries")
def _(folder):
    with (
        mock.patch.object(class_softmax, "classes_at_a_time", lambda rows, cuda=False: 64),
        mock.patch.object(feature_queue, "entries_at_a_time", lambda cuda: 37),
    ):
        here = losses_and_gradients("cpu", kept=0)
        with pretended_cuda():
            there = losses_and_gradients("cuda", kept=0)
    for one, other in zip(here, there, strict=True):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@rehearsal("criterion: operations of a forward pass")
def _(folder):
    found = {}
    for looks in (False, True):
        with pretended_cuda():
            torch.manual_seed(0)
            out = QGPartialFC(QGFaceMargin(b=0.4), DIM, CLASSES, fp16=True).to("cuda")
            out.is_rolled_back, out.looks_at_queue = True, looks
            summary = terms.summary

            def counted(*given, summary=summary):
                with BOOK.counting("terms"):
                    return summary(*given)

            labels = torch.arange(PAIRS).repeat(2).to("cuda")
            with mock.patch.object(terms, "summary", counted):
                for _ in range(2):
                    raw = torch.randn(2 * PAIRS, DIM).to("cuda").requires_grad_()
                    BOOK.clear()
                    with BOOK.counting("forward"):
                        out(raw, labels)
            found[looks] = dict(BOOK.launches)
    between, line = found[False], found[True]
    assert between["forward"] <= FORWARD, f"{between['forward']} operations, at most {FORWARD}"
    assert between["terms"] < line["terms"]
    return f"float16: {between['forward']}, and {between['terms']} of terms; {line['terms']} where a line is due"


@rehearsal("criterion: what is not finite, and labels that do not fit")
def _(folder):
    with pretended_cuda():
        torch.manual_seed(0)
        out = QGPartialFC(QGFaceMargin(), 8, 20).to("cuda")
        raw, labels = torch.randn(8, 8).to("cuda"), torch.arange(4).repeat(2).to("cuda")
        bad = raw.clone()
        bad[0, 0] = float("nan")
        assert bool(out(bad, labels).isnan())
        assert bool(out(raw, labels).isfinite())
        assert bool(out(raw, labels + 100).isnan())
        try:
            out(raw, labels)
        except ValueError as error:
            assert "103" in str(error), error
        else:
            raise AssertionError("labels out of range were not refused")


@rehearsal("criterion: state saved there, loaded here, and back")
def _(folder):
    torch.manual_seed(0)
    with pretended_cuda():
        out = QGPartialFC(QGFaceMargin(), 8, 20).to("cuda")
        out(torch.randn(8, 8).to("cuda"), torch.arange(4).repeat(2).to("cuda"))
        torch.save(out.state_dict(), folder / "criterion.pt")
    saved = torch.load(folder / "criterion.pt", weights_only=True)
    here = QGPartialFC(QGFaceMargin(), 8, 20)
    here.load_state_dict(saved)
    with pretended_cuda():
        there = QGPartialFC(QGFaceMargin(), 8, 20).to("cuda")
        there.load_state_dict(here.state_dict())
        for name, value in there.state_dict().items():
            assert isinstance(value, Pretended) or not value.is_cuda, name
            assert torch.equal(value.cpu(), saved[name]), name


@rehearsal("margin alone behind a plain layer")
def _(folder):
    with pretended_cuda():
        margin, layer = QGFaceMargin().to("cuda"), torch.nn.Linear(8, 20, bias=False).to("cuda")
        margin.attach_to(layer)
        labels = torch.tensor([0, 1, -1, 3, 0, 1, -1, 3]).view(-1, 1).to("cuda")
        logits = margin(layer(torch.randn(8, 8).to("cuda")), labels)
        torch.nn.functional.cross_entropy(logits, labels.clamp_min(0).flatten()).backward()
        assert layer.weight.grad.is_cuda


if __name__ == "__main__":
    sys.exit(main())
