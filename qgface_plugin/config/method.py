"""Settings of the method: symbol, unit, range. The equations are in `loss/functional.py`.

`QGFaceConfig` follows the paper, but for the positive in the denominator of eq. 14;
`QGFaceConfig.from_mapping({"authors": True})` selects the authors' published behaviour at every other point where it
differs from the paper. Keys set beside `authors` win over the preset.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..utils.errors import ConfigError
from ..utils.registry import MARGIN_HEADS, QUALITY_SOURCES, QUEUE_KINDS
from .schema import as_mapping, check_fields, from_mapping, setting


@dataclass(frozen=True)
class QGFaceConfig:
    """The method's settings; `config.qgface` of a recipe. The defaults are the paper's.

    QGPartialFC reads those with section="criterion", QGFaceMargin the others.

    Raises:
        ConfigError: A value is outside its range, or two settings contradict each other.

    Example:
        >>> QGFaceConfig().b, QGFaceConfig.from_mapping({"authors": True, "b": 0.3}).classification_gate
        (0.2, 'sigmoid')
        >>> QGFaceConfig(b=1.5)
        Traceback (most recent call last):
        qgface_plugin.utils.errors.ConfigError: config.qgface.b is 1.5: it must be in [0.0, 1.0]
    """

    # quality: eq. 1
    quality: str = setting(
        "norm", "what tells a view's quality: norm, degradation, certainty, sharpness, teacher, or a custom one"
    )
    c: float = setting(0.333, "slope of the quality indicator: zhat = clip((z - mu) c / sigma, -1, 1)", low=0.0)
    stats_momentum: float = setting(0.01, "weight of the current batch in the running mu, sigma", low=0.0, high=1.0)
    stats_start: str = setting(
        "first_batch", "mu, sigma before any step: the first batch's, or 0 and 0", choices=("first_batch", "zero")
    )
    stats_scope: str = setting(
        "global",
        "numbers that mu, sigma see: of all ranks or of this rank",
        choices=("global", "rank"),
        section="criterion",
    )
    sigma_rule: str = setting("floor", "division by sigma: max(sigma, 1e-3) or sigma + 1e-3", choices=("floor", "add"))

    # gates: eqs. 2-4
    b: float = setting(
        0.2, "threshold on u = (zhat + 1) / 2; 0 leaves every view in the classification", low=0.0, high=1.0
    )
    b_quantile: float | None = setting(
        None, "in place of b: the share of pairs (of views in single-view training) that are to have u <= b", above=0.0
    )
    classification_gate: str = setting(
        "exact",
        "exact: rows with u <= b add nothing; sigmoid: logits times sigmoid(2 s (u - b)); none: all rows",
        choices=("exact", "sigmoid", "none"),
    )
    contrastive_gate: str = setting(
        "exact",
        "exact: pairs with u_p > b add nothing; zero_logits: they add log(1 + Q) and u_p = b is out; none: all pairs",
        choices=("exact", "zero_logits", "none"),
        section="criterion",
    )

    # classification: eqs. 6-10
    margin: str = setting(
        "adaface", "margin head: adaface, arcface, cosface, curricularface, magface, softmax, or a custom one"
    )
    margin_quality: str = setting(
        "same",
        "zhat in AdaFace's margin: the same that the gates have, or always that of the norm",
        choices=("same", "norm"),
    )
    s: float = setting(64.0, "scale of the cosines in both terms", above=0.0)
    m: float = setting(
        0.4, "margin: cosine for adaface, cosface; radians for arcface, curricularface", low=0.0, high=3.14
    )
    curricular_momentum: float = setting(0.01, "curricularface: weight of the current batch in t", low=0.0, high=1.0)
    magface_norms: tuple[float, float] = setting((10.0, 110.0), "magface: norms (a_low, a_high) of the margins below")
    magface_m: tuple[float, float] = setting(
        (0.45, 0.8), "magface: margin in radians at these norms; in between linear"
    )
    magface_weight: float = setting(35.0, "magface: lambda_g, factor of the regulariser", low=0.0)
    cosine_rule: str = setting(
        "exact", "cosines clamped only inside arccos, or all to +-(1 - 1e-3)", choices=("exact", "clamp")
    )
    straight_through: bool = setting(
        False, "derivative of the target logit taken as s, as arcface_torch's ArcFace has it"
    )

    # contrast: eqs. 13-14, section III-C
    queue: str = setting(
        "proxy",
        "where negatives come from: none, batch, momentum, proxy, teacher, or a custom kind",
        section="criterion",
    )
    queue_size: int | None = setting(None, "Q in entries; None: the number of classes n", low=1, section="criterion")
    queue_policy: str = setting(
        "active",
        "sample_rate < 1: entries of sampled classes compete, or all",
        choices=("active", "all"),
        section="criterion",
    )
    key_momentum: float = setting(
        0.999, "EMA of the key encoder (queue = momentum)", low=0.0, high=1.0, section="criterion"
    )
    contrastive_weight: float = setting(1.0, "factor of the contrastive term in eq. 5", low=0.0, section="criterion")
    positive_in_denominator: bool = setting(
        True, "eq. 14 with the positive in its denominator (InfoNCE); False: as printed, without", section="criterion"
    )
    same_identity: str = setting(
        "remove",
        "entries of the query's identity: left out, or cosine 0",
        choices=("remove", "zero"),
        section="criterion",
    )
    renormalise: bool = setting(
        True, "refreshed features are unit vectors again; else cosines are clamped to +-1", section="criterion"
    )
    coupling: str = setting(
        "degraded_to_original",
        "queries of the contrast: the degraded views, or both views (the authors' D2N)",
        choices=("degraded_to_original", "both"),
        section="criterion",
    )
    detach_key: bool = setting(True, "no gradient to the positive from the contrastive term", section="criterion")
    queue_rescale: bool = setting(False, "contrastive term times log 129 / log(1 + Q)", section="criterion")

    # fine-tuning: what eq. 5 is made of, and the pull to a frozen teacher
    classification_weight: float = setting(
        1.0,
        "factor of the classification in eq. 5; 0: no class centres, and no labels are needed",
        low=0.0,
        section="criterion",
    )
    teacher_weight: float = setting(
        0.0,
        "factor of the pull of both views to the frozen teacher's embedding of the original; 0: none",
        low=0.0,
        section="criterion",
    )

    def __post_init__(self) -> None:
        where = "config.qgface"
        check_fields(self, where)
        for key, known in (("quality", QUALITY_SOURCES), ("margin", MARGIN_HEADS), ("queue", QUEUE_KINDS)):
            if (name := getattr(self, key)) not in known:
                raise ConfigError(f"{where}.{key} is {name!r}: it must be one of {', '.join(map(repr, known))}")
        if self.b_quantile is not None and self.b_quantile >= 1.0:
            raise ConfigError(f"{where}.b_quantile is {self.b_quantile!r}: it must be a share in (0, 1), or None")
        for key, least in (("magface_norms", 0.0), ("magface_m", -math.inf)):
            low, high = tuple(getattr(self, key))
            if not least < low < high:
                raise ConfigError(f"{where}.{key} is ({low}, {high}): it must be (low, high), low < high")
            object.__setattr__(self, key, (low, high))
        if self.queue == "none" and self.contrastive_gate == "zero_logits":
            raise ConfigError(
                "config.qgface.contrastive_gate = 'zero_logits' needs a queue; config.qgface.queue is 'none'"
            )
        if self.classification_weight == 0.0:
            self._check_without_classes(where)

    def _check_without_classes(self, where: str) -> None:
        """What needs class centres that learn cannot go without classification."""
        off = f"{where}.classification_weight is 0 (no class centres), but {where}"
        if self.queue == "proxy":
            raise ConfigError(
                f"{off}.queue is 'proxy', whose entries move with the class centres: set queue = 'teacher', "
                "'momentum', 'batch' or 'none'"
            )
        if self.quality == "certainty":
            raise ConfigError(f"{off}.quality is 'certainty', a cosine to the own class centre: set another quality")
        if self.teacher_weight == 0.0 and (self.queue == "none" or self.contrastive_weight == 0.0):
            raise ConfigError(f"{off}.teacher_weight is 0 and nothing is contrasted: nothing is left to train by")

    @property
    def needs_teacher(self) -> bool:
        """Whether a term, the queue or the quality asks for a teacher's embeddings."""
        return self.teacher_weight > 0.0 or "teacher" in (self.queue, self.quality)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], where: str = "config.qgface") -> QGFaceConfig:
        """Checked settings from a recipe's mapping; `authors = True` in it selects AUTHORS first.

        Args:
            values: settings by name, and `authors`.
            where: what the group is called in messages.

        Raises:
            ConfigError: A key is unknown, or a value has a wrong type or is out of range; the message names the key,
                the value and what is allowed.
        """
        given = as_mapping(values, where)
        authors = given.pop("authors", False)
        if not isinstance(authors, bool):
            raise ConfigError(f"{where}.authors is {authors!r}: it must be True or False")
        preset = dict(AUTHORS) if authors else {}
        if given.get("queue") == "none":
            preset.pop("contrastive_gate", None)  # nothing to gate
        return from_mapping(cls, {**preset, **given}, where, also_known=("authors",))


READ_BY_MARGIN = frozenset({"authors"} | {f.name for f in fields(QGFaceConfig) if not f.metadata["section"]})

AUTHORS: dict[str, Any] = {
    "sigma_rule": "add",
    "cosine_rule": "clamp",
    "stats_start": "zero",
    "stats_scope": "rank",
    "classification_gate": "sigmoid",
    "contrastive_gate": "zero_logits",
    "same_identity": "zero",
    "renormalise": False,
    "coupling": "both",
    "detach_key": False,
    "queue_rescale": True,
}
"""The authors' published code where it differs from the paper (docs/method.md)."""
