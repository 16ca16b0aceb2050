"""Plain ways of computing the losses, for comparison only: every row against every class, whole matrices, copies."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, normalize

CLAMP = 1.0 - 1e-3


class _SoftmaxInPlace(torch.autograd.Function):
    """Mean cross-entropy that turns the logits into probabilities where they lie, one matrix of ones for the labels
    in the backward pass."""

    @staticmethod
    def forward(ctx, logits: Tensor, labels: Tensor) -> Tensor:
        logits.sub_(logits.amax(1, keepdim=True)).exp_()
        logits.div_(logits.sum(1, keepdim=True))
        ctx.save_for_backward(logits, labels)
        ctx.mark_non_differentiable(labels)
        return -logits.gather(1, labels.unsqueeze(1)).clamp_min(1e-30).log().mean()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        probabilities, labels = ctx.saved_tensors
        ones = torch.zeros_like(probabilities).scatter_(1, labels.unsqueeze(1), 1.0)
        return probabilities.sub_(ones).mul_(gradient / len(labels)), None


class PlainArcFace(nn.Module):
    """Partial FC with ArcFace on all rows (Deng et al., eq. 3; An et al.): full logits, an angle for every class."""

    def __init__(self, dim: int, classes: int, s: float = 64.0, m: float = 0.5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.normal(0, 0.01, (classes, dim)))
        self.s, self.m = s, m

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        cosine = linear(normalize(embeddings), normalize(self.weight)).clamp(-1.0, 1.0)
        with torch.no_grad():
            rows = torch.arange(len(labels), device=labels.device)
            cosine.arccos_()
            cosine[rows, labels] += self.m
            cosine.cos_()
        return _SoftmaxInPlace.apply(cosine * self.s, labels)


class PlainHeads(nn.Module):
    """The two heads as the authors' code has them (docs/method.md): AdaFace with arccos and cos on every class and a
    matrix of ones for the labels; all 2B views contrasted with the other view and a refreshed copy of the queue."""

    mean: Tensor
    std: Tensor
    queue: Tensor
    old: Tensor
    labels: Tensor

    def __init__(self, dim: int, classes: int, s: float = 64.0, m: float = 0.4, c: float = 0.333, b: float = 0.2):
        super().__init__()
        self.weight = nn.Parameter(torch.normal(0, 0.01, (classes, dim)))
        self.s, self.m, self.c, self.b = s, m, c, b
        self.register_buffer("mean", torch.tensor(20.0))
        self.register_buffer("std", torch.tensor(1.0))
        self.register_buffer("queue", normalize(torch.randn(classes, dim)))
        self.register_buffer("old", self.weight.detach().clone())
        self.register_buffer("labels", torch.arange(classes))
        self.cursor = 0

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        norms = embeddings.detach().norm(dim=1, keepdim=True).clamp(1e-3, 100.0)
        zhat = ((norms - self.mean) / (self.std + 1e-3) * self.c).clamp(-1.0, 1.0)
        unit = normalize(embeddings)
        return self._classification(unit, labels, zhat) + self._contrast(unit, labels, zhat)

    def _classification(self, unit: Tensor, labels: Tensor, zhat: Tensor) -> Tensor:
        cosine = linear(unit, normalize(self.weight)).clamp(-CLAMP, CLAMP)
        ones = torch.zeros_like(cosine).scatter_(1, labels.unsqueeze(1), 1.0)
        theta = (cosine.acos() - ones * self.m * zhat).clamp(1e-3, math.pi - 1e-3)
        logits = (theta.cos() - ones * (self.m + self.m * zhat)) * self.s
        gate = torch.sigmoid((zhat + 2 * (0.5 - self.b)) * self.s)
        return cross_entropy(logits * gate, labels)

    def _contrast(self, unit: Tensor, labels: Tensor, zhat: Tensor) -> Tensor:
        count, size = len(unit) // 2, len(self.queue)
        with torch.no_grad():
            slots = (self.cursor + torch.arange(2 * count, device=labels.device)) % size
            self.queue[slots], self.labels[slots] = unit, labels
            self.old[slots], self.cursor = self.weight[labels], (self.cursor + 2 * count) % size
            now = self.weight[self.labels]
            ratio = self.queue.norm(dim=1, keepdim=True) / self.old.norm(dim=1, keepdim=True)
            refreshed = self.queue + ratio * (now - self.old)
        high, low = unit.chunk(2)
        quality = torch.minimum(*zhat.chunk(2))
        gate = ((quality + 1) / 2 < self.b).float()
        terms = []
        for query, key in ((low, high), (high, low)):
            negatives = (query @ refreshed.T).clamp(-1.0, 1.0)
            negatives = negatives * (labels[:count].unsqueeze(1) != self.labels.unsqueeze(0))
            logits = torch.cat([(query * key).sum(1, keepdim=True), negatives], 1) * self.s * gate
            terms.append(cross_entropy(logits, labels.new_zeros(count)))
        return (terms[0] + terms[1]) / 2 * math.log(129) / math.log(1 + size)
