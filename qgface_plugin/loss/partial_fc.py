"""QGPartialFC: classification of the sharp views plus contrast of the blurred pairs, class centres sharded over ranks.

A drop-in for arcface_torch's PartialFC_V2: same leading arguments, same call, same state-dict key `weight`.
`QGPartialFC.forward` is the paper from eq. 1 to eq. 5; docs/method.md says where each equation stands.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..config.method import READ_BY_MARGIN, QGFaceConfig
from ..utils import distributed
from ..utils.errors import ConfigError
from ..utils.late_read import LateRead
from ..utils.registry import QUEUE_KINDS
from . import functional as F
from . import terms
from .batch import BatchSpec, GlobalBatch, complain_about
from .class_sampling import CompetingClasses, sampled_classes
from .class_softmax import class_logsumexp
from .contrast import contrast, mean_contrast
from .feature_queue import FeatureQueue
from .gates import Gates, Taking, pair_gate, true_indices
from .heads import ClassifiedRows
from .margin import QGFaceMargin, apply_rule
from .partial_softmax import PartialSoftmax, finish
from .quality import BatchRows, Quality, of_images
from .running_stats import RunningQuality
from .teacher import pull


class Pairs(Protocol):
    """What `QGPartialFC` takes of a batch of pairs; `data.pair_batch.PairBatch` is one."""

    def images(self) -> Tensor:
        """Both views, originals first, as the network takes them."""

    def targets(self) -> Tensor:
        """Their labels."""

    def strengths(self) -> Tensor | None:
        """How strongly they are degraded."""


class QGPartialFC(nn.Module):
    """Eq. 5, L = L_classification + L_contrastive, over class centres that are sharded as partial FC shards them.

    Collectives of a training step on more than one rank, B pairs on each, R <= 4 B ranks rows that the gates let
    through: all-gathers of embeddings (2B, d) and labels (2B,); all-reduces of (R,) maxima and (2, R) sums; backward:
    a reduce-scatter of the gathered gradient, (2B, d) for each rank. queue="momentum" adds an all-gather of keys
    (2B, d), a teacher one of its embeddings (B, d), stats_scope="rank" one of qualities (2B,), a quality that the
    training loop measures one of its scores (2B,), quality="certainty" an all-reduce of (2, 2B ranks) maxima,
    margin="curricularface" one of (R,) cosines.
    Nothing grows with the classes or the queue.

    Args:
        margin_loss: brings scale, margin, threshold and statistics.
        embedding_size: d.
        num_classes: n over all ranks.
        sample_rate: share of the centres that compete in a step, in [0, 1]; 0: those of the batch only.
        fp16: cosines in float16 on CUDA.
        queue: "proxy", "momentum", "batch", "none", or a custom kind; None: as `margin_loss` was configured ("proxy").
        paired: False: rows are single views (only with queue="none").
        sample_seed: of the draws with sample_rate < 1, the same on every rank.
        options: further fields of QGFaceConfig that QGFaceMargin does not read itself.

    Attributes:
        terms: named scalars of the last step, 0-d tensors; see `terms.summary`.
        u_views: (2B,) u of this rank's rows in the last step.
        late: a step reads nothing of its device, so that a GPU never waits: all rows and pairs are computed, those that
            take no part with weight 0, and labels that do not fit are refused one step later, until when the loss is
            NaN. Losses, gradients and buffers are the same. None: on CUDA.
        looks_at_queue: `terms` has what the queue is like.
        kept: logits that are kept for the backward pass at most, beyond which they are computed again;
            None: class_softmax.KEPT.
        is_rolled_back: whoever calls puts queue and statistics back after a loss that is not finite, so that a late
            step need not leave them untouched itself.

    Raises:
        ConfigError: settings that contradict each other.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> criterion = QGPartialFC(QGFaceMargin(b=0.45), embedding_size=4, num_classes=3, queue_size=8)
        >>> embeddings = torch.randn(4, 4, requires_grad=True)  # two originals, then their degraded views
        >>> loss = criterion(embeddings, torch.tensor([0, 2, 0, 2]))
        >>> loss.backward()
        >>> bool(loss == criterion.terms["classification"] + criterion.terms["contrastive"])  # eq. 5
        True
    """

    draws: Tensor  # with sample_rate < 1: how often centres were drawn

    def __init__(
        self,
        margin_loss: QGFaceMargin,
        embedding_size: int,
        num_classes: int,
        sample_rate: float = 1.0,
        fp16: bool = False,
        queue: str | None = None,
        *,
        paired: bool = True,
        sample_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        if not isinstance(margin_loss, QGFaceMargin):
            raise ConfigError(f"QGPartialFC needs a QGFaceMargin as margin_loss, got {type(margin_loss).__name__}")
        if not 0.0 <= sample_rate <= 1.0:
            raise ConfigError(f"sample_rate is {sample_rate!r}: it must be in [0, 1]")
        misplaced = sorted(READ_BY_MARGIN & options.keys())
        if misplaced:
            raise ConfigError(
                f"QGPartialFC got {', '.join(misplaced)}: QGFaceMargin reads it, so give it to QGFaceMargin"
            )
        if num_classes < distributed.world_size():
            raise ConfigError(f"num_classes is {num_classes}: each of {distributed.world_size()} ranks needs a class")
        changes = options if queue is None else {"queue": queue, **options}
        of_margin = asdict(margin_loss.config)
        if queue == "none":
            del of_margin["contrastive_gate"]  # that of `authors`, say, has nothing to gate
        self.config = QGFaceConfig.from_mapping({**of_margin, **changes}, where="QGPartialFC")
        if not paired and self.config.queue != "none":
            raise ConfigError(f"queue={self.config.queue!r} contrasts pairs, but paired=False: use queue='none'")
        self.margin_softmax = margin_loss
        self.embedding_size, self.num_classes = embedding_size, num_classes
        self.sample_rate, self.sample_seed = sample_rate, sample_seed
        self.fp16, self.views = fp16, 2 if paired else 1
        self.class_start, self.num_local = distributed.shard(num_classes)
        centres = torch.normal(0, 0.01, (self.num_local, embedding_size))
        if not self.config.classification_weight:
            centres = centres[:0].clone()  # none, whatever the number of identities: nothing is classified
        self.weight = nn.Parameter(centres, requires_grad=len(centres) > 0)
        if sample_rate < 1.0:
            self.register_buffer("draws", torch.zeros((), dtype=torch.long))
        self.queue: FeatureQueue | None = QUEUE_KINDS[self.config.queue].make(
            self.config.queue_size or num_classes, embedding_size
        )
        self.late: bool | None = None
        self.looks_at_queue = True
        self.is_rolled_back = False
        self.kept: int | None = None
        self._fit = LateRead()  # the labels of the step before
        self._labels: Tensor | None = None
        self.terms: dict[str, Tensor] = {}
        self.u_views: Tensor | None = None

    @property
    def reads_nothing(self) -> bool:
        """Whether a step reads nothing of its device, see `late`; a margin head of one's own has to allow it."""
        late = self.weight.is_cuda if self.late is None else self.late
        return late and self.margin_softmax.head.row_by_row

    def forward(
        self,
        local_embeddings: Tensor | Pairs,
        local_labels: Tensor,
        local_keys: Tensor | None = None,
        local_quality: Tensor | None = None,
        local_teacher: Tensor | None = None,
    ) -> Tensor:
        """The scalar loss of the GLOBAL batch, the same on every rank; sets `terms` and `u_views`.

        Args:
            local_embeddings: (2B, d) raw, rows 0..B-1 the original views, rows B..2B-1 the degraded views of the same
                images. The gradient reaches them, exactly 0 in a row that takes part in neither term.
                Or a batch of `pair_loader`, and second the embeddings of `batch.images()`: `criterion(batch, emb)`.
                Labels, and the scores of a source that measures images or degradation, then come from the batch.
            local_labels: (2B,) in [0, num_classes).
            local_keys: (2B, d) the momentum encoder's embeddings of the same rows, with queue="momentum" only.
            local_quality: (2B,) one score for each of these rows, larger for better images, exactly with a source of
                quality that the training loop measures.
            local_teacher: (B, d) the frozen teacher's embeddings of the original views, exactly with queue="teacher" or
                a `teacher_weight`; no gradient.

        Returns:
            (); NaN for embeddings, keys or scores that are not finite, which leave queue and statistics untouched.

        Raises:
            ValueError: an odd batch, labels out of range, or views that do not belong together.
        """
        if not isinstance(local_embeddings, Tensor):
            pairs, local_embeddings = local_embeddings, local_labels
            local_labels = pairs.targets()
            if local_quality is None and self.margin_softmax.source.given:
                local_quality = of_images(self.config.quality, pairs.images(), pairs.strengths())
        batch = self.gather(local_embeddings, local_labels, local_keys, local_quality, local_teacher)
        if not batch.finite:
            return batch.raw.sum() * math.nan
        classes = self.sample(batch)  # centres that compete, and each row's own among them
        quality = self.quality(batch, classes)  # eq. 1
        gates = self.gates(quality.zhat)  # eqs. 2-4: rows that are classified, pairs that are contrasted
        hq = self.classify(batch, classes, quality, gates.rows)  # eqs. 6-10, over this rank's class centres
        lq = self.contrast(batch, classes, gates.pairs)  # eqs. 13-14, over this rank's queue entries
        hq, lq = finish(hq, lq)  # over all ranks: two all-reduces
        classification = gates.rows.total(hq.lse - hq.target) / batch.rows  # cross entropy; rows gated out add 0
        contrastive = mean_contrast(lq, self.config, gates.pairs, self.entries)  # eqs. 13-14
        taught = self.pull(batch)  # both views towards the teacher's original
        loss = self.total(classification, contrastive, taught)  # eq. 5
        losses = terms.Losses(loss, classification, contrastive, taught)
        self.u_views = distributed.own_rows(gates.u, self.views)
        queue = self.queue if self.looks_at_queue else None
        self.terms = terms.summary(losses, batch, quality, gates, queue, self.weight)
        if batch.usable is None:
            return loss
        return torch.where(batch.usable, loss, terms.constant(math.nan, loss.dtype, loss.device))

    def gather(
        self,
        embeddings: Tensor,
        labels: Tensor,
        keys: Tensor | None,
        quality: Tensor | None,
        teacher: Tensor | None,
    ) -> GlobalBatch:
        """The global batch, checked; where nothing is read of the device, it is the labels before that are refused."""
        spec = self._spec()
        before, self._labels = self._labels, None
        if before is not None and not self._fit.take():
            complain_about(before, spec)
        batch = GlobalBatch.gather(embeddings, labels, keys, quality, spec, teacher)
        if batch.fits is not None:
            self._fit.put(batch.fits)
            self._labels = batch.given
        return batch

    def sample(self, batch: GlobalBatch) -> CompetingClasses:
        """This rank's centres that compete in this step: all, or those of the batch and a draw (`sample_rate` < 1)."""
        if self.sample_rate >= 1.0:
            return CompetingClasses(batch.column)
        with torch.no_grad():
            mask = sampled_classes(
                batch.labels, self.draws, seed=self.sample_seed, rate=self.sample_rate, num_classes=self.num_classes,
                start=self.class_start, length=self.num_local,
            )  # fmt: skip
            index = mask.nonzero().squeeze(1)
            column = batch.column
            position = torch.where(column >= 0, torch.searchsorted(index, column.clamp_min(0)), -1)
            if self.training:
                self.draws += 1
        return CompetingClasses(position, index, mask)

    def quality(self, batch: GlobalBatch, classes: CompetingClasses) -> Quality:
        """Eq. 1: zhat of every view from its score, by statistics that move in training mode. No gradient."""
        margin, scores, margin_zhat = self.margin_softmax, batch.quality, None
        if scores is None:
            centres = self.weight.detach()
            rows = BatchRows(
                batch.raw.detach(), batch.unit.detach(), centres, classes.index, classes.position, batch.norms
            )
            scores = margin.source.of_rows(rows)
        zhat = self._indicator(margin.quality, scores, batch)
        if margin.norm_quality is not None:
            margin_zhat = self._indicator(margin.norm_quality, batch.norms, batch)
        statistics = margin.quality
        return Quality(scores, statistics.mean, statistics.std, zhat, margin_zhat, self.config.quality == "norm")

    def gates(self, zhat: Tensor) -> Gates:
        """Eqs. 2-4, and the threshold where it follows a quantile. One read of the device, on a CPU."""
        margin, u = self.margin_softmax, F.unit_scale(zhat)
        if self.views == 2:
            u_original, u_degraded = u.chunk(2)
            u_pair = F.pair_indicator(u_degraded, u_original)  # eq. 2
        else:
            u_pair = u[:0]
        margin.follow(u_pair if self.views == 2 else u)
        contrasted = pair_gate(u_pair if self.queue is not None else u[:0], self.config, margin.b)  # eq. 4
        classified = margin.gate_of(u if self.config.classification_weight else u[:0])  # eq. 3
        taking = [None, None] if self.reads_nothing else true_indices(classified, contrasted)
        return Gates(margin.b, u, u_pair, Taking(classified, taking[0]), Taking(contrasted, taking[1]))

    def classify(self, batch: GlobalBatch, classes: CompetingClasses, quality: Quality, rows: Taking) -> PartialSoftmax:
        """Eqs. 6-10: this rank's part of the classification's softmax, of the R `rows` that are computed.

        What the margin adds to the loss of a row is taken off its target logit, on the rank that owns its class. Empty
        with `classification_weight` 0.
        """
        if not self.config.classification_weight:
            return PartialSoftmax.empty(like=batch.unit.detach())
        margin, unit, own = self.margin_softmax, rows.of(batch.unit), rows.of(classes.position)
        half = self.fp16 and unit.is_cuda
        given = ClassifiedRows(rows.of(quality.zhat), part=rows.part if rows.indices is None else None)
        if quality.margin_zhat is not None:
            given = given._replace(zhat=rows.of(quality.margin_zhat), gate_zhat=given.zhat)
        if not margin.head.needs_matrix:
            owned = self.num_local == self.num_classes
            rule = margin.rule(given)
            return class_logsumexp(
                unit, self.weight, own, rule, index=classes.index, half=half, kept=self.kept, owned=owned
            )
        if margin.head.wants_norms:
            given = given._replace(norms=rows.of(batch.raw).norm(dim=1))
        cosine = F.cosines(unit, classes.of(self.weight), half=half)
        given = margin.with_own_cosine(given, cosine, own)
        lse, target = F.logsumexp_and_target(apply_rule(margin.rule(given), cosine, own), own)
        added = margin.head.added_loss(given)
        return PartialSoftmax(lse, target if added is None else target - added.where(own >= 0, 0.0))

    def contrast(self, batch: GlobalBatch, classes: CompetingClasses, pairs: Taking) -> PartialSoftmax:
        """Eqs. 13-14: this rank's part of the contrast's softmax, of the `pairs` that are computed; empty without a
        queue. In training mode both views of every image are enqueued first (section III-C), of a teacher's the
        originals."""
        if self.queue is None:
            return PartialSoftmax.empty(like=batch.unit.detach())
        self.queue.late, self.queue.usable = self.reads_nothing, None
        if not self.is_rolled_back:
            self.queue.usable = batch.usable
        if self.training:
            kind = QUEUE_KINDS[self.config.queue]
            proxies = self.weight.detach()[_some_class(batch.column)] if kind.refreshed else None
            rows = len(batch.teacher) if kind.taught and batch.teacher is not None else batch.rows
            self.queue.enqueue(batch.keys.detach()[:rows], batch.column[:rows], proxies)
        candidates = classes.mask if self.config.queue_policy == "active" else None
        with torch.autocast(batch.unit.device.type, enabled=False):
            return contrast(
                batch.unit, batch.keys, batch.column, pairs, self.queue, self.weight, candidates, self.config,
                owned=self.num_local == self.num_classes,
            )  # fmt: skip

    def pull(self, batch: GlobalBatch) -> Tensor | None:
        """The pull of both views to what the teacher makes of their original; None without."""
        if not self.config.teacher_weight:
            return None
        assert batch.teacher is not None  # `check_batch`
        return pull(batch.unit, batch.teacher, batch.column)

    def total(self, classification: Tensor, contrastive: Tensor, pull: Tensor | None) -> Tensor:
        """Eq. 5: the sum of the weighted terms, of the paper's two with weight 1 each; and of the pull, if any."""
        config = self.config
        loss = _times(config.classification_weight, classification) + _times(config.contrastive_weight, contrastive)
        return loss if pull is None else loss + _times(config.teacher_weight, pull)

    def entries(self) -> Tensor:
        """() living queue entries over all ranks; 0 without a queue."""
        return self.weight.new_zeros(()) if self.queue is None else self.queue.living()

    @property
    def needs_teacher(self) -> bool:
        """Whether `forward` takes a teacher's embeddings of the originals."""
        return self.config.teacher_weight > 0 or QUEUE_KINDS[self.config.queue].taught

    def _spec(self) -> BatchSpec:
        kind = QUEUE_KINDS[self.config.queue]
        return BatchSpec(
            self.embedding_size,
            self.views,
            self.num_classes,
            self.class_start,
            self.num_local,
            needs_keys=kind.keyed,
            needs_quality=self.config.quality if self.margin_softmax.source.given else None,
            late=self.reads_nothing,
            needs_teacher=self.needs_teacher,
            taught=kind.taught,
        )

    def _indicator(self, statistics: RunningQuality, scores: Tensor, batch: GlobalBatch) -> Tensor:
        """zhat (N,), from the scores of all ranks or of each rank by itself (`stats_scope`)."""
        if batch.usable is not None and not self.is_rolled_back:
            scores = scores.where(batch.usable, math.nan)  # of which the statistics take no notice
        if self.config.stats_scope == "global":
            return statistics(scores)
        return distributed.gather_views(statistics(distributed.own_rows(scores, self.views)), self.views)


def _times(weight: float, term: Tensor) -> Tensor:
    return term if weight == 1.0 else weight * term


def _some_class(column: Tensor) -> Tensor:
    """(N,) what can be looked up for each row; of a row whose class another rank owns, whatever it is."""
    return column if distributed.world_size() == 1 else column.clamp_min(0)
