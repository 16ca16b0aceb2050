"""QGFace in float64 loops, written from the paper and docs/method.md. Nothing of the package is used here.

One number at a time, so that each line can be read against its equation. `Reference` is one process that sees the
whole global batch; what it computes must not depend on how many ranks the package runs on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

PAPER = {
    "c": 0.333,
    "stats_momentum": 0.01,
    "stats_start": "first_batch",
    "sigma_rule": "floor",
    "b": 0.2,
    "classification_gate": "exact",
    "contrastive_gate": "exact",
    "margin": "adaface",
    "quality": "norm",
    "margin_quality": "same",
    "b_quantile": None,
    "curricular_momentum": 0.01,
    "magface_norms": (10.0, 110.0),
    "magface_m": (0.45, 0.8),
    "magface_weight": 35.0,
    "s": 64.0,
    "m": 0.4,
    "cosine_rule": "exact",
    "queue": "proxy",
    "queue_size": None,
    "contrastive_weight": 1.0,
    "positive_in_denominator": True,
    "same_identity": "remove",
    "renormalise": True,
    "coupling": "degraded_to_original",
    "detach_key": True,
    "queue_rescale": False,
    "classification_weight": 1.0,
    "teacher_weight": 0.0,
}
AUTHORS = PAPER | {
    "stats_start": "zero",
    "sigma_rule": "add",
    "classification_gate": "sigmoid",
    "contrastive_gate": "zero_logits",
    "cosine_rule": "clamp",
    "same_identity": "zero",
    "renormalise": False,
    "coupling": "both",
    "detach_key": False,
    "queue_rescale": True,
}


def clip(x: float, low: float, high: float) -> float:
    return min(max(x, low), high)


def norm(v: np.ndarray) -> float:
    return math.sqrt(sum(float(x) ** 2 for x in v))


def unit(v: np.ndarray) -> np.ndarray:
    return v / norm(v)


def dot(v: np.ndarray, w: np.ndarray) -> float:
    return sum(float(x) * float(y) for x, y in zip(v, w, strict=True))


def log_sum_exp(values: list[float]) -> float:
    """log of the sum of e^value; minus infinity for no values."""
    if not values:
        return -math.inf
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def sample_std(values: list[float]) -> float:
    middle = mean(values)
    return math.sqrt(sum((value - middle) ** 2 for value in values) / (len(values) - 1))


LIMITS = {
    "norm": (1e-3, 100.0),
    "teacher": (1e-3, 100.0),
    "degradation": (-16.0, 0.0),
    "certainty": (-2.0, 2.0),
    "sharpness": (-6.0, 3.0),
}


def indicator(
    z: float, mu: float, sigma: float, c: float, sigma_rule: str = "floor", limits: tuple = LIMITS["norm"]
) -> float:
    """Eq. 1."""
    divisor = max(sigma, 1e-3) if sigma_rule == "floor" else sigma + 1e-3
    return clip((clip(z, *limits) - mu) * c / divisor, -1.0, 1.0)


def certainty(row: np.ndarray, label: int, centres: list[np.ndarray]) -> float:
    """CR-FIQA's ratio: cosine to the own centre by 1 + cosine to the nearest other."""
    cosines = [dot(row, centre) for centre in centres]
    return cosines[label] / (max(c for j, c in enumerate(cosines) if j != label) + 1.001)


def quantile(values: list[float], q: float) -> float:
    """Weibull's: the value at place q (N + 1) of the ordered ones, counted from 1, with a line in between."""
    ordered, place = sorted(values), clip(q * (len(values) + 1), 1, len(values))
    whole = math.floor(place)
    if whole == len(values):
        return ordered[-1]
    return (1 - (place - whole)) * ordered[whole - 1] + (place - whole) * ordered[whole]


def magface_margin(a: float, o: dict) -> float:
    (a_low, a_high), (m_low, m_high) = o["magface_norms"], o["magface_m"]
    return m_low + (m_high - m_low) * (clip(a, a_low, a_high) - a_low) / (a_high - a_low)


def magface_added(a: float, o: dict) -> float:
    a_low, a_high = o["magface_norms"]
    a = clip(a, a_low, a_high)
    return o["magface_weight"] * (1 / a + a / a_high**2)


def target(margin: str, cosine: float, zhat: float, m: float) -> float:
    """Cosine of the own class after the margin: eqs. 6-10 for adaface."""
    if margin == "softmax":
        return cosine
    if margin == "cosface":
        return cosine - m
    theta = math.acos(cosine)
    if margin in ("arcface", "curricularface", "magface"):
        return math.cos(clip(theta + m, 1e-3, math.pi - 1e-3))
    return math.cos(clip(theta - m * zhat, 1e-3, math.pi - 1e-3)) - (m * zhat + m)


def cross_entropy(
    cosines: list[float],
    label: int,
    zhat: float,
    o: dict,
    a: float = 20.0,
    t: float = 0.0,
    margin_zhat: float | None = None,
) -> float:
    """-log P_y of one row from its cosines to all class centres; 0 where its gate leaves it out.

    a: the norm of its embedding, for magface; t: curricularface's; margin_zhat: adaface's, where it is another.
    """
    u = (zhat + 1.0) / 2.0
    if o["classification_gate"] == "exact" and o["b"] > 0 and not u > o["b"]:
        return 0.0
    if o["cosine_rule"] == "clamp":
        cosines = [clip(cosine, -0.999, 0.999) for cosine in cosines]
    m = magface_margin(a, o) if o["margin"] == "magface" else o["m"]
    shifted = target(o["margin"], cosines[label], zhat if margin_zhat is None else margin_zhat, m)
    if o["margin"] == "curricularface":
        cosines = [cosine * (t + cosine) if cosine > shifted else cosine for cosine in cosines]
    logits = [o["s"] * cosine for cosine in cosines]
    logits[label] = o["s"] * shifted
    if o["classification_gate"] == "sigmoid" and o["b"] > 0:
        factor = 1.0 / (1.0 + math.exp(-(zhat + 2.0 * (0.5 - o["b"])) * o["s"]))
        logits = [factor * logit for logit in logits]
    added = magface_added(a, o) if o["margin"] == "magface" else 0.0
    return log_sum_exp(logits) - logits[label] + added


def contrastive(query, key, negatives: list[np.ndarray], same: list[bool], u_pair: float, o: dict) -> float:
    """Eqs. 13-14 of one query; `same` marks the entries of its own identity."""
    gate, b = o["contrastive_gate"], o["b"]
    if gate == "exact" and not u_pair <= b:
        return 0.0
    if gate == "zero_logits" and b > 0 and not u_pair < b:
        return math.log(1 + len(negatives))
    cosines = [dot(query, negative) for negative in negatives]
    positive = dot(query, key)
    if not o["renormalise"]:
        cosines, positive = [clip(cosine, -1.0, 1.0) for cosine in cosines], clip(positive, -1.0, 1.0)
    if o["same_identity"] == "zero":
        logits = [0.0 if own else o["s"] * cosine for cosine, own in zip(cosines, same, strict=True)]
    else:
        logits = [o["s"] * cosine for cosine, own in zip(cosines, same, strict=True) if not own]
    if not logits:
        return 0.0
    if o["positive_in_denominator"]:
        logits = [o["s"] * positive, *logits]
    return log_sum_exp(logits) - o["s"] * positive


def refreshed(feature: np.ndarray, old_centre: np.ndarray, new_centre: np.ndarray) -> np.ndarray:
    """Section III-C."""
    return feature + norm(feature) / norm(old_centre) * (new_centre - old_centre)


@dataclass
class Reference:
    """Statistics, queue and both terms over a run. `step` takes one global batch, originals first.

    The quantities that no gradient goes through (zhat, keys, queue) are frozen by `step`; `losses` recomputes the two
    terms from moved features and centres with those frozen, so that finite differences of it are the gradient.
    """

    options: dict
    mu: float | None = None
    sigma: float | None = None
    entries: list[tuple[np.ndarray, int, np.ndarray]] = field(default_factory=list)  # newest first
    zhat: list[float] = field(default_factory=list)
    norm_statistics: Reference | None = None  # of margin_quality = "norm"
    margin_zhat: list[float] | None = None
    b: float | None = None
    t: float = 0.0

    def __post_init__(self) -> None:
        if self.options["stats_start"] == "zero":
            self.mu = self.sigma = 0.0

    def observe(self, norms: list[float]) -> None:
        if len(norms) < 2:
            return
        norms = [clip(z, *LIMITS[self.options["quality"]]) for z in norms]
        weight = self.options["stats_momentum"] if self.mu is not None else 1.0
        self.mu = (1 - weight) * (self.mu or 0.0) + weight * mean(norms)
        self.sigma = (1 - weight) * (self.sigma or 0.0) + weight * sample_std(norms)

    def enqueue(self, features: list[np.ndarray], labels: list[int], centres: np.ndarray, classes: int) -> None:
        newest = [(f, y, None if centres is None else centres[y].copy()) for f, y in zip(features, labels, strict=True)]
        kind, size = self.options["queue"], self.options["queue_size"] or classes
        self.entries = newest if kind == "batch" else (newest + self.entries)[:size]

    def negatives(self, centres: np.ndarray) -> list[np.ndarray]:
        """Every live entry as the contrast sees it now, newest first."""
        now = [f if self.options["queue"] != "proxy" else refreshed(f, old, centres[y]) for f, y, old in self.entries]
        return [unit(f) for f in now] if self.options["renormalise"] else now

    def indicators(self, numbers: list[float]) -> list[float]:
        """zhat of the rows, after the statistics have seen them."""
        o = self.options
        self.observe(numbers)
        limits = LIMITS[o["quality"]]
        return [indicator(z, self.mu, self.sigma, o["c"], o["sigma_rule"], limits) for z in numbers]

    def follow(self) -> None:
        """The threshold: b, or the running quantile of the pairs' u."""
        o, half = self.options, len(self.zhat) // 2
        if o["b_quantile"] is None:
            self.b = o["b"]
            return
        pairs = [(min(self.zhat[i], self.zhat[i + half]) + 1) / 2 for i in range(half)]
        found = quantile(pairs, o["b_quantile"])
        self.b = found if self.b is None else self.b + o["stats_momentum"] * (found - self.b)

    def step(self, features, labels, centres, keys=None, numbers=None, teacher=None) -> tuple[float, float]:
        """One global batch. teacher: embeddings of the originals, half as many rows as features."""
        o = self.options
        self.teacher = None if teacher is None else [unit(t) for t in teacher]
        self.labels = [int(y) for y in labels]
        norms, w = [norm(h) for h in features], [unit(x) for x in centres]
        if o["quality"] == "norm":
            numbers = norms
        elif o["quality"] == "certainty":
            numbers = [certainty(unit(h), y, w) for h, y in zip(features, self.labels, strict=True)]
        self.numbers, self.zhat = numbers, self.indicators(numbers)
        if o["margin_quality"] == "norm":
            self.norm_statistics = self.norm_statistics or Reference(o | {"quality": "norm"})
            self.margin_zhat = self.norm_statistics.indicators(norms)
        self.follow()
        own = [dot(unit(h), w[y]) for h, y in zip(features, self.labels, strict=True)]
        own = [c for c, zhat in zip(own, self.zhat, strict=True) if (zhat + 1) / 2 > self.b]
        if own and o["margin"] == "curricularface":
            self.t = (1 - o["curricular_momentum"]) * self.t + o["curricular_momentum"] * mean(own)
        self.given = None if keys is None else [unit(k) for k in keys]
        if o["queue"] == "teacher":
            self.given = self.teacher + self.teacher  # what the original of either view has
        self.keys = self.given or [unit(h) for h in features]
        self.queue = []
        if o["queue"] == "teacher":
            self.enqueue(self.teacher, self.labels[: len(self.teacher)], None, len(centres))
            self.queue = self.negatives(centres)
        elif o["queue"] != "none":
            self.enqueue(self.keys, self.labels, centres, len(centres))
            self.queue = self.negatives(centres)
        return self.losses(features, centres)

    def losses(self, features, centres) -> tuple[float, float]:
        """(classification, contrastive), each the mean over all of its rows."""
        o, rows = self.options | {"b": self.b}, len(features)
        h, w = [unit(x) for x in features], [unit(x) for x in centres]
        margin_zhat = self.margin_zhat or self.zhat
        classification = (
            [0.0]
            if not o["classification_weight"]
            else [
                cross_entropy(
                    [dot(h[i], wj) for wj in w],
                    self.labels[i],
                    self.zhat[i],
                    o,
                    norm(features[i]),
                    self.t,
                    margin_zhat[i],
                )
                for i in range(rows)
            ]
        )
        if o["queue"] == "none":
            return mean(classification), 0.0
        keys = self.keys if o["detach_key"] or self.given else h
        half, contrasts = rows // 2, []
        for i in range(half):
            u_pair = (min(self.zhat[i], self.zhat[i + half]) + 1.0) / 2.0
            same = [y == self.labels[i] for _, y, _ in self.entries]
            contrasts.append(contrastive(h[i + half], keys[i], self.queue, same, u_pair, o))
            if o["coupling"] == "both":
                contrasts.append(contrastive(h[i], keys[i + half], self.queue, same, u_pair, o))
        term = mean(contrasts)
        return mean(classification), term * math.log(129) / math.log(1 + len(self.queue)) if o[
            "queue_rescale"
        ] else term

    def pull(self, features) -> float:
        """Both views of each image to what the teacher makes of its original; 0 without a teacher."""
        if self.teacher is None:
            return 0.0
        pairs = len(self.teacher)
        return mean(
            [
                sum(1 - dot(unit(features[i + view]), self.teacher[i]) for view in range(0, len(features), pairs))
                for i in range(pairs)
            ]
        )

    def total(self, features, centres) -> float:
        o, (classification, contrastive) = self.options, self.losses(features, centres)
        loss = o["classification_weight"] * classification + o["contrastive_weight"] * contrastive
        return loss + (o["teacher_weight"] * self.pull(features) if o["teacher_weight"] else 0.0)

    def gradients(self, features, centres, step: float = 1e-6) -> tuple[np.ndarray, np.ndarray]:
        """d loss / d features and d loss / d centres, by central differences of `losses`."""
        out = []
        for moving in (features, centres):
            gradient = np.zeros_like(moving)
            for index in np.ndindex(*moving.shape):
                shift = np.zeros_like(moving)
                shift[index] = step
                low, high = (
                    self.total(features + d, centres) if moving is features else self.total(features, centres + d)
                    for d in (-shift, shift)
                )
                gradient[index] = (high - low) / (2 * step)
            out.append(gradient)
        return out[0], out[1]
