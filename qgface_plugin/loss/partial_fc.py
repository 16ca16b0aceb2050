"""QGPartialFC: classification of the sharp views plus contrast of the blurred pairs, class centres sharded over ranks.

A drop-in for arcface_torch's PartialFC_V2: same leading arguments, same call, same state-dict key `weight`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..config.method import READ_BY_MARGIN, QGFaceConfig
from ..utils import distributed
from ..utils.errors import ConfigError
from ..utils.registry import QUEUE_KINDS
from . import functional as F
from . import terms
from .batch import all_finite, check_batch, complain_about, labels_fit, places
from .class_sampling import sampled_classes
from .class_softmax import class_logsumexp
from .contrast import Contrast, contrast, pair_gate
from .feature_queue import FeatureQueue
from .heads import ClassifiedRows
from .margin import QGFaceMargin, apply_rule
from .quality import BatchRows
from .running_stats import RunningQuality


class QGPartialFC(nn.Module):
    """Eq. 5, L = L_classification + L_contrastive, over class centres that are sharded as partial FC shards them.

    margin_loss: QGFaceMargin (it brings scale, margin, threshold and statistics); embedding_size d; num_classes n;
    sample_rate in (0, 1]: share of the centres that compete in a step; fp16: cosines in float16 on CUDA;
    queue: "proxy" (default), "momentum", "batch", "none"; options: further fields of QGFaceConfig that QGFaceMargin
    does not read itself;
    paired=False: rows are single views (only with queue="none"); sample_seed: of the draws with sample_rate < 1, the
    same on every rank.

    Collectives of a training step on more than one rank, B pairs on each, R <= 4 B ranks rows that the gates let
    through: all-gathers of embeddings (2B, d) and labels (2B,); all-reduces of (R,) maxima and (2, R) sums; backward:
    a reduce-scatter of the gathered gradient, (2B, d) for each rank. queue="momentum" adds an all-gather of keys
    (2B, d), stats_scope="rank" one of qualities (2B,), a quality that the host measures one of its numbers (2B,),
    quality="certainty" an all-reduce of (2, 2B ranks) maxima, margin="curricularface" one of (R,) cosines. Nothing
    grows with the classes or the queue.
    Raises ConfigError on settings that contradict each other.
    """

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
        if not 0.0 < sample_rate <= 1.0:
            raise ConfigError(f"sample_rate is {sample_rate!r}: it must be in (0, 1]")
        misplaced = sorted(READ_BY_MARGIN & options.keys())
        if misplaced:
            raise ConfigError(
                f"QGPartialFC got {', '.join(misplaced)}: QGFaceMargin reads it, so give it to QGFaceMargin"
            )
        if num_classes < distributed.world_size():
            raise ConfigError(f"num_classes is {num_classes}: each of {distributed.world_size()} ranks needs a class")
        changes = options if queue is None else {"queue": queue, **options}
        self.config = QGFaceConfig.from_mapping({**asdict(margin_loss.config), **changes}, where="QGPartialFC")
        if not paired and self.config.queue != "none":
            raise ConfigError(f"queue={self.config.queue!r} contrasts pairs, but paired=False: use queue='none'")
        self.margin_softmax = margin_loss
        self.embedding_size, self.num_classes = embedding_size, num_classes
        self.sample_rate, self.sample_seed = sample_rate, sample_seed
        self.fp16, self.views = fp16, 2 if paired else 1
        self.class_start, self.num_local = distributed.shard(num_classes)
        self.weight = nn.Parameter(torch.normal(0, 0.01, (self.num_local, embedding_size)))
        if sample_rate < 1.0:
            self.register_buffer("draws", torch.zeros((), dtype=torch.long))
        self.queue = self._make_queue()
        self.terms: dict[str, Tensor] = {}
        self.u_views: Tensor | None = None

    def _make_queue(self) -> FeatureQueue | None:
        return QUEUE_KINDS[self.config.queue].make(self.config.queue_size or self.num_classes, self.embedding_size)

    def forward(
        self,
        local_embeddings: Tensor,
        local_labels: Tensor,
        local_keys: Tensor | None = None,
        local_quality: Tensor | None = None,
    ) -> Tensor:
        """The scalar loss of the GLOBAL batch, the same on every rank.

        local_embeddings (2B, d): raw, rows 0..B-1 the original views, rows B..2B-1 the degraded views of the same
        images; local_labels (2B,) in [0, num_classes); local_keys (2B, d): the momentum encoder's embeddings of the
        same rows, with queue="momentum" only; local_quality (2B,): one number for each of these rows, larger for better
        images, exactly with a source of quality that the host measures. Sets `terms` (0-d tensors by name) and
        `u_views` (2B,), this rank's qualities. Embeddings, keys or numbers that are not finite give a NaN loss and
        leave queue and statistics untouched.
        Raises ValueError on an odd batch, labels out of range, or views that do not belong together.
        """
        check_batch(
            local_embeddings,
            local_labels,
            local_keys,
            local_quality,
            dim=self.embedding_size,
            views=self.views,
            needs_keys=QUEUE_KINDS[self.config.queue].keyed,
            needs_quality=self.config.quality if self.margin_softmax.source.of_images else None,
        )
        wide = torch.promote_types(local_embeddings.dtype, torch.float32)
        raw = distributed.gather_views(local_embeddings.to(wide), self.views)
        labels = distributed.gather_views(local_labels.reshape(-1).long(), self.views)
        keys = None if local_keys is None else distributed.gather_views(local_keys.detach().to(wide), self.views)
        numbers = None if local_quality is None else distributed.gather_views(local_quality.detach(), self.views)
        norms = raw.detach().norm(dim=1)
        finite = all_finite(norms, keys, numbers)
        fit = labels_fit(labels, num_classes=self.num_classes, views=self.views)
        fits, is_finite = torch.stack([fit, finite]).tolist()
        if not fits:
            complain_about(labels, self.num_classes)
        if not is_finite:
            return raw.sum() * float("nan")

        embeddings = normalize(raw)
        column = self._own_column(labels)
        index, position, candidates = self._sample(labels, column)

        margin = self.margin_softmax
        if numbers is None:
            weight = self.weight.detach()
            numbers = margin.source.of_rows(BatchRows(raw.detach(), embeddings.detach(), weight, index, position))
        zhat = self._quality(margin.quality, numbers)
        u = F.unit_scale(zhat)
        margin.follow(u if self.views == 1 else F.pair_indicator(*u.chunk(2)))

        rows, *pairs = places(margin.gate(zhat), *self._pair_gates(u))
        lse, target = self._classify(raw, embeddings, index, position, zhat, rows)
        keys = embeddings if keys is None else normalize(keys)
        part = self._contrast(embeddings, keys, column, pairs, candidates)
        classification, contrastive = self._finish(lse, target, part, len(labels))

        loss = classification + self.config.contrastive_weight * contrastive
        self.u_views = distributed.own_rows(u, self.views)
        self.terms = terms.summary(
            self, loss, classification, contrastive, norms, numbers, u, embeddings.detach(), keys.detach(), column
        )
        return loss

    def _quality(self, statistics: RunningQuality, numbers: Tensor) -> Tensor:
        if self.config.stats_scope == "global":
            return statistics(numbers)
        return distributed.gather_views(statistics(distributed.own_rows(numbers, self.views)), self.views)

    def _pair_gates(self, u: Tensor) -> list[Tensor]:
        """The gate (B,) of the pairs that are contrasted; none without a queue."""
        if self.queue is None:
            return []
        u_original, u_degraded = u.chunk(2)
        return [pair_gate(F.pair_indicator(u_degraded, u_original), self.config, self.margin_softmax.b)]

    def _own_column(self, labels: Tensor) -> Tensor:
        """Index of each row's class among this rank's centres, -1 where another rank owns it. (N,)"""
        column = labels - self.class_start
        return torch.where((column >= 0) & (column < self.num_local), column, -1)

    def _classify(
        self, raw: Tensor, embeddings: Tensor, index: Tensor | None, position: Tensor, zhat: Tensor, rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        """This rank's log-sum-exp and target logit (R,) of the `rows` (R,) that take part, of (2B, ...) each; position:
        the rows' places in `index`. What the margin adds to a row's loss is taken off its target logit."""
        margin, own, given = self.margin_softmax, position[rows], ClassifiedRows(zhat[rows])
        if margin.norm_quality is not None:
            margin_zhat = self._quality(margin.norm_quality, raw.detach().norm(dim=1))
            given = ClassifiedRows(margin_zhat[rows], gate_zhat=given.zhat)
        unit, half = embeddings[rows], self.fp16 and embeddings.is_cuda
        if not margin.head.needs_matrix:
            return class_logsumexp(unit, self.weight, own, margin.rule(given), index=index, half=half)
        if margin.head.wants_norms:
            given = given._replace(norms=raw[rows].norm(dim=1))
        cosine = F.cosines(unit, self.weight if index is None else self.weight[index], half=half)
        given = margin.with_own_cosine(given, cosine, own)
        lse, target = F.logsumexp_and_target(apply_rule(margin.rule(given), cosine, own), own)
        added = margin.head.added_loss(given)
        return lse, target if added is None else target - added.where(own >= 0, 0.0)

    def _sample(self, labels: Tensor, column: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        """Centres that compete in this step (None: all), each row's position among them (-1: elsewhere), their mask."""
        if self.sample_rate >= 1.0:
            return None, column, None
        with torch.no_grad():
            candidates = sampled_classes(
                labels, self.draws, seed=self.sample_seed, rate=self.sample_rate, num_classes=self.num_classes,
                start=self.class_start, length=self.num_local,
            )  # fmt: skip
            index = candidates.nonzero().squeeze(1)
            position = torch.where(column >= 0, torch.searchsorted(index, column.clamp_min(0)), -1)
            if self.training:
                self.draws += 1
        return index, position, candidates

    def _contrast(
        self, embeddings: Tensor, keys: Tensor, column: Tensor, pairs: list[Tensor], candidates: Tensor | None
    ) -> Contrast | None:
        if self.queue is None:
            return None
        if self.training:
            refreshed = QUEUE_KINDS[self.config.queue].refreshed
            proxies = self.weight.detach()[column.clamp_min(0)] if refreshed else None
            self.queue.enqueue(keys.detach(), column, proxies)
        compete = candidates if self.config.queue_policy == "active" else None
        with torch.autocast(embeddings.device.type, enabled=False):
            return contrast(embeddings, keys, column, *pairs, self.queue, self.weight, compete, self.config)

    def _finish(self, lse: Tensor, target: Tensor, part: Contrast | None, rows: int) -> tuple[Tensor, Tensor]:
        """Both terms, their softmaxes finished over the ranks together with two scalars a row."""
        if part is None:
            lse, target = distributed.finish_softmax(lse, target)
            return (lse - target).sum() / rows, lse.new_zeros(())
        count = len(lse)
        lse, share = distributed.finish_softmax(torch.cat([lse, part.negatives]), torch.cat([target, part.positive]))
        return (lse[:count] - share[:count]).sum() / rows, part.loss(lse[count:], share[count:])
