"""Classes chunk by chunk against the whole matrix of logits and its plain log-sum-exp: values, gradients, memory."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from qgface_plugin import QGFaceMargin
from qgface_plugin.loss import class_softmax
from qgface_plugin.loss import functional as F
from qgface_plugin.loss.class_softmax import class_logsumexp
from qgface_plugin.loss.heads import ClassifiedRows
from qgface_plugin.loss.margin import Rule, apply_rule

ROWS, CLASSES, DIM = 6, 23, 4
OWN = torch.tensor([0, 22, -1, 7, 7, 11])  # the first and the last class, one elsewhere, one twice


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of five classes: the last one is smaller."""
    monkeypatch.setattr(class_softmax, "classes_at_a_time", lambda rows, cuda=False: 5)


def setting(dtype=torch.float64, rows: int = ROWS, classes: int = CLASSES, dim: int = DIM):
    """Rows of which two look at their class exactly, and one away from it; centres of very different lengths."""
    torch.manual_seed(0)
    weight = torch.randn(classes, dim, dtype=dtype) * torch.logspace(-3, 2, classes, dtype=dtype).unsqueeze(1)
    unit = normalize(torch.randn(rows, dim, dtype=dtype))
    unit[0], unit[3] = normalize(weight[0], dim=0), -normalize(weight[7], dim=0)
    zhat = torch.linspace(-1, 1, rows, dtype=dtype)
    return unit.requires_grad_(), weight.requires_grad_(), zhat


def rule_of(head, zhat):
    return head.rule(ClassifiedRows(zhat))


def plain(unit, weight, own, zhat, head, index=None):
    """The whole matrix of logits, by autograd."""
    cosine = unit @ normalize(weight if index is None else weight[index]).T
    return F.logsumexp_and_target(apply_rule(rule_of(head, zhat), cosine, own), own)


def gradients(outputs, inputs):
    weights = torch.arange(1.0, ROWS + 1)
    return torch.autograd.grad((outputs[0] * weights).sum() - (outputs[1] * weights.flip(0)).sum(), inputs)


@pytest.mark.parametrize("kept", [0, 70, 10**6])  # logits: none, those of two chunks, all
@pytest.mark.parametrize("index", [None, torch.tensor([0, 3, 4, 7, 8, 9, 11, 20, 22])], ids=["all", "sampled"])
@pytest.mark.parametrize(
    "options",
    [{}, {"margin": "softmax"}, {"straight_through": True}, {"classification_gate": "sigmoid", "cosine_rule": "clamp"}],
    ids=str,
)
def test_chunks_add_up(options, index, kept, small_chunks):
    unit, weight, zhat = setting()
    head = QGFaceMargin(s=30.0, **options)
    own = OWN if index is None else torch.where(OWN >= 0, torch.searchsorted(index, OWN.clamp_min(0)), -1)
    rule = rule_of(head, zhat)
    found = class_logsumexp(unit, weight, own, rule, index=index, kept=kept)
    expected = plain(unit, weight, own, zhat, head, index)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    if rule.bound:
        assert (unit @ normalize(weight).T).abs().max() > rule.bound
    for one, other in zip(gradients(found, (unit, weight)), gradients(expected, (unit, weight)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def test_gradcheck(small_chunks):
    unit, weight, zhat = setting()
    with torch.no_grad():
        weight.copy_(normalize(weight + 0.1))
    rule = rule_of(QGFaceMargin(s=4.0), zhat)
    assert gradcheck(lambda *x: tuple(class_logsumexp(*x, OWN, rule, kept=70)), (unit, weight))


def test_a_second_backward_pass_gives_the_same(small_chunks):
    """The first one writes over what was kept; the second computes it again, in the same way."""
    unit, weight, zhat = setting(torch.float32)
    rule = rule_of(QGFaceMargin(), zhat)
    lse, target = class_logsumexp(unit, weight, OWN, rule)
    first, second = (torch.autograd.grad((lse - target).sum(), (unit, weight), retain_graph=True) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_logits_that_float32_cannot_exponentiate(small_chunks):
    """Rows far below and far above zero in every class, and maxima that differ between chunks by hundreds."""
    unit, weight, zhat = setting(torch.float32)
    rule = Rule(torch.full((ROWS,), 1000.0), lambda cosine: cosine - 0.4)
    lse, target = class_logsumexp(unit, weight, OWN, rule)
    slopes = torch.autograd.grad((lse - target).sum(), (unit, weight))
    wide = [x.detach().double().requires_grad_() for x in (unit, weight)]
    head = QGFaceMargin(s=1000.0, margin="cosface", b=0.0)
    expected = plain(*wide, OWN, zhat, head)
    torch.testing.assert_close(lse.double(), expected[0], rtol=1e-5, atol=1e-3)
    for one, other in zip(slopes, torch.autograd.grad((expected[0] - expected[1]).sum(), wide), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-2, atol=1e-3 * float(other.abs().max()))


def test_without_rows_and_without_classes(small_chunks):
    unit, weight, _ = setting()
    rule = rule_of(QGFaceMargin(), torch.zeros(ROWS))
    lse, target = class_logsumexp(unit, weight, -torch.ones_like(OWN), rule, index=OWN[:0])
    assert (lse == -math.inf).all() and (target == 0).all()
    slopes = torch.autograd.grad(lse.nan_to_num(neginf=0.0).sum() + target.sum(), (unit, weight))
    assert all(bool((slope == 0).all()) for slope in slopes)
    lse, target = class_logsumexp(unit[:0], weight, OWN[:0], Rule(rule.scale[:0], lambda cosine: cosine))
    assert lse.shape == target.shape == (0,)
    slopes = torch.autograd.grad(lse.sum() + target.sum(), (unit, weight))
    assert all(bool((slope == 0).all()) for slope in slopes)


def test_a_centre_of_length_zero():
    unit, weight, zhat = setting()
    with torch.no_grad():
        weight[3] = 0.0
    rule = rule_of(QGFaceMargin(), zhat)
    found = gradients(class_logsumexp(unit, weight, OWN, rule), (unit, weight))
    assert all(bool(slope.isfinite().all()) for slope in found)
    expected = gradients(plain(unit, weight, OWN, zhat, QGFaceMargin()), (unit, weight))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_the_length_of_a_centre_does_not_matter_to_float32(small_chunks):
    """Logits and gradients are scaled by 1 / ||W|| afterwards; lengths from 1e-9 to 1e9."""
    unit, weight, zhat = setting(torch.float32)
    lengths = torch.logspace(-9, 9, CLASSES).unsqueeze(1)
    with torch.no_grad():
        weight.copy_(normalize(weight) * lengths)
    head = QGFaceMargin(s=30.0, margin="cosface")  # arccos in float32 is coarse where a row looks at its class
    found = class_logsumexp(unit, weight, OWN, rule_of(head, zhat))
    wide = [x.detach().double().requires_grad_() for x in (unit, weight)]
    expected = plain(*wide, OWN, zhat.double(), head)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-4)
    on_unit, on_weight = gradients(found, (unit, weight))
    expected_unit, expected_weight = gradients(expected, wide)
    torch.testing.assert_close(on_unit.double(), expected_unit, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(on_weight.double() * lengths, expected_weight * lengths, rtol=1e-3, atol=1e-3)


def test_chunks_are_of_a_width_that_products_like():
    for rows in (1, 77, 179, 256, 1000, 10**6):
        size = class_softmax.classes_at_a_time(rows)
        assert size % class_softmax.ALIGNED == 0 and size >= 256
        assert size == 256 or size * rows <= class_softmax.CHUNK < (size + class_softmax.ALIGNED) * rows


@pytest.mark.parametrize("kept", [0, 10**6])
@pytest.mark.parametrize("index", [None, torch.arange(0, CLASSES, 2)], ids=["all", "sampled"])
def test_products_in_float16(index, kept, small_chunks):
    unit, weight, zhat = setting(torch.float32)
    with torch.no_grad():
        weight.copy_(normalize(weight))
    own = torch.tensor([0, 2, -1, 7, 7, 11])
    inputs = (unit, weight, own, rule_of(QGFaceMargin(s=10.0), zhat))
    found, expected = (class_logsumexp(*inputs, index=index, half=half, kept=kept) for half in (True, False))
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)
    assert not torch.equal(found[0], expected[0])
    for one, other in zip(gradients(found, (unit, weight)), gradients(expected, (unit, weight)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=2e-3 * float(other.abs().max()))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradient(mode, small_chunks):
    unit, weight, zhat = setting()
    rule = rule_of(QGFaceMargin(), zhat)
    expected = class_logsumexp(unit, weight, OWN, rule)
    with mode():
        found = class_logsumexp(unit, weight, OWN, rule)
    assert not found[0].requires_grad and all(map(torch.equal, found, expected))


class Largest(TorchDispatchMode):
    """The most numbers in any tensor that an operation gives."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        self.numbers = max([self.numbers, *sizes])
        return out


def test_nothing_of_rows_by_classes_is_made(small_chunks):
    unit, weight, zhat = setting(rows=40, classes=100, dim=2)
    own, rule = torch.arange(40), Rule(torch.full((40,), 64.0), lambda cosine: cosine)
    with Largest() as seen:
        lse, target = class_logsumexp(unit, weight, own, rule, kept=0)
        (lse - target).sum().backward()
    assert seen.numbers == 40 * 20  # (rows, chunks) maxima of the chunks; a matrix of logits has 4,000
