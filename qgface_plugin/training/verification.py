"""Verification during a run: the pair sets as they are, degraded copies of them, and the weights that are kept.

A set is verified three ways. Sharp: as it is. Degraded: both images of each pair degraded by the run's own policy.
Mixed: the first image of a pair as it is, the second one degraded, as a blurred probe meets a sharp gallery. The copies
are a function of the set, the policy and `config.qgface.verify.degraded_seed`, so every verification sees the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from ..config.degradation import DegradationPolicy
from ..config.run import Run
from ..data.degradation.cpu import degrade
from ..evaluation.metrics.verification import pair_distances
from ..evaluation.protocols.pair_sets import DecodedPairs, VerificationResult, check_flags, verify, verify_embeddings
from ..models.embeddings import Embeddings, embed
from ..models.weights import export_backbone
from ..utils.errors import DataError
from ..utils.files import write_json
from ..utils.sampling import evenly_spaced
from .recorder import RunRecorder

LOGGER = logging.getLogger(__name__)
SHARP, DEGRADED, MIXED = "sharp", "degraded", "mixed"
ENDING = {SHARP: "", DEGRADED: "_degraded", MIXED: "_mixed"}  # of a set's name
BEST = "model_best.pt"
HELP = "docs/finetuning.md says what to look at"


class Standing(NamedTuple):
    """Means over the sets after one verification, fractions.

    Attributes:
        step: the global step.
        accuracy: by kind: sharp, degraded, mixed.
        auc: the same.
    """

    step: int
    accuracy: Mapping[str, float]
    auc: Mapping[str, float]


class Verification:
    """Verifies on rank 0 while a run trains, prints what has changed since before the first step, keeps the best.

    Args:
        run: the resolved recipe.
        pair_sets: decoded; none on other ranks than 0.
        recorder: of the run.
        device: of the backbone.
    """

    def __init__(
        self, run: Run, pair_sets: Sequence[DecodedPairs], recorder: RunRecorder, device: torch.device
    ) -> None:
        self.run, self.recorder, self.device = run, recorder, device
        self.pair_sets = [share_of(pairs, run.verify.pairs) for pairs in pair_sets]
        self.kinds = (SHARP, DEGRADED, MIXED) if run.verify.degraded else (SHARP,)
        self._copies: dict[str, np.ndarray] = {}
        if run.verify.keep_best != "none" and not pair_sets:
            LOGGER.warning(
                "config.qgface.verify.keep_best is %r, but there is no set to verify on: no %s is kept. Name sets in "
                "config.val_targets",
                run.verify.keep_best, BEST,
            )  # fmt: skip

    def __call__(self, backbone: nn.Module, step: int, hurry: Callable[[], bool] = lambda: False) -> None:
        """Verify on the sets that have no result of this step yet; none further once `hurry()` holds.

        Args:
            backbone: the encoder, of which no module's mode changes.
            step: global step that is done.
            hurry: has the run been asked to leave?
        """
        for pairs in self.pair_sets:
            if not hurry() and not self._done(pairs.name, step):
                self._verify(backbone, pairs, step)
        names = [pairs.name for pairs in self.pair_sets]
        found = standings(self.recorder.history, names, self.kinds)
        if not found or found[-1].step != step:
            return
        if self.run.verify.before or self.run.verify.degraded:
            self._compare(found)
        if self.run.verify.keep_best != "none":
            self._keep(backbone, found)

    def _done(self, name: str, step: int) -> bool:
        verified = (self.recorder.verified.get(name + ENDING[kind]) for kind in self.kinds)
        return all(line is not None and line["step"] == step for line in verified)

    def _verify(self, backbone: nn.Module, pairs: DecodedPairs, step: int) -> None:
        if self.kinds == (SHARP,):
            self.recorder.verification(pairs.name, verify(backbone, pairs, device=self.device).as_dict(), step)
            return
        sharp = embed(backbone, pairs.images, device=self.device)
        degraded = embed(backbone, self._degraded(pairs), device=self.device)
        for kind, embeddings in {SHARP: sharp, DEGRADED: degraded, MIXED: mixed(sharp, degraded)}.items():
            name = pairs.name + ENDING[kind]
            result = verify_embeddings(embeddings, pairs.same, name)
            similar = mean_cosines(embeddings, pairs.same)
            self.recorder.verification(name, {**result.as_dict(), **similar}, step)
            LOGGER.info("[%s][%d]%s", name, step, _line(result, similar))

    def _degraded(self, pairs: DecodedPairs) -> np.ndarray:
        if pairs.name not in self._copies:
            policy, verify = self.run.degradation, self.run.verify
            assert policy is not None  # Run has checked
            self._copies[pairs.name] = degraded_copies(pairs.images, policy, verify.degraded_seed, pairs.name)
        return self._copies[pairs.name]

    def _compare(self, found: Sequence[Standing]) -> None:
        """Say what has become of the means since before the first step, and warn of what sharp faces have lost."""
        start, now = found[0], found[-1]
        first = start.step == 0
        shown = [
            f"{kind} {100 * now.accuracy[kind]:.2f} %"
            + (f" ({100 * (now.accuracy[kind] - start.accuracy[kind]):+.2f})" if first and now is not start else "")
            for kind in self.kinds
        ]
        since = "the encoder that the run starts from" if now.step == 0 else "in brackets since the start"
        LOGGER.info("step %d, accuracy over the sets: %s; %s", now.step, ", ".join(shown), since)
        lost, limit = start.accuracy[SHARP] - now.accuracy[SHARP], self.run.verify.max_regression
        if first and lost > limit:
            LOGGER.warning(
                "step %d: sharp faces have lost %.2f points of accuracy since the start, more than "
                "config.qgface.verify.max_regression = %s: %s",
                now.step, 100 * lost, limit, HELP,
            )  # fmt: skip

    def _keep(self, backbone: nn.Module, found: Sequence[Standing]) -> None:
        """Write model_best.pt where the latest verification is the best so far."""
        rule, limit = self.run.verify.keep_best, self.run.verify.max_regression
        best = best_of(found, rule, limit)
        if best is not found[-1]:
            return
        folder = Path(self.run.output)
        export_backbone(folder / BEST, backbone.state_dict())
        accuracy = {kind: best.accuracy[kind] for kind in self.kinds}
        write_json(
            folder / "model_best.json", {"step": best.step, "keep_best": rule, "max_regression": limit, **accuracy}
        )
        LOGGER.info("step %d is the best so far (%s): %s", best.step, describe(rule, limit), folder / BEST)

    def close(self) -> None:
        """Name, at the end of the run, the weights that were kept."""
        rule, limit = self.run.verify.keep_best, self.run.verify.max_regression
        names = [pairs.name for pairs in self.pair_sets]
        if rule == "none" or not (found := standings(self.recorder.history, names, self.kinds)):
            return
        best = best_of(found, rule, limit)
        shown = ", ".join(f"{kind} {100 * best.accuracy[kind]:.2f} %" for kind in self.kinds)
        what = "the encoder that the run started from" if best.step == 0 else f"step {best.step}"
        LOGGER.info("%s is %s: %s (%s)", Path(self.run.output) / BEST, what, shown, describe(rule, limit))


def share_of(pairs: DecodedPairs, count: int | None) -> DecodedPairs:
    """At most `count` pairs of a set, evenly spaced; None: all of them.

    Raises:
        DataError: too few of them are of one kind for a verification.
    """
    if count is None or count >= len(pairs.same):
        return pairs
    rows = evenly_spaced(len(pairs.same), count)
    images = pairs.images.reshape(len(pairs.same), 2, *pairs.images.shape[1:])[rows]
    share = DecodedPairs(pairs.name, pairs.same[rows], images.reshape(-1, *pairs.images.shape[1:]))
    try:
        check_flags(share.same)
    except DataError as error:
        raise DataError(f"config.qgface.verify.pairs is {count}, of the set {pairs.name}: {error}") from error
    return share


def degraded_copies(images: np.ndarray, policy: DegradationPolicy, seed: int, name: str | None = None) -> np.ndarray:
    """A degraded copy of each image: image i by the generator of (seed, i).

    Args:
        images: uint8 (N, 112, 112, 3) RGB.
        policy: of the degradation.
        seed: at least 0.
        name: of the set, for a progress bar; None shows none.
    """
    rows = tqdm(images, desc=f"{name}: degrading", unit="image", leave=False, disable=None if name else True)
    return np.stack([degrade(image, policy, np.random.default_rng((seed, i))) for i, image in enumerate(rows)])


def mixed(sharp: Embeddings, degraded: Embeddings) -> Embeddings:
    """Pairs of a sharp and a degraded image, from the embeddings of both kinds of 2N images: rows 2i, and 2i + 1."""

    def each(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        rows = one.copy()
        rows[1::2] = other[1::2]
        return rows

    return Embeddings(each(sharp.original, degraded.original), each(sharp.mirrored, degraded.mirrored))


def mean_cosines(embeddings: Embeddings, same: np.ndarray) -> dict[str, float]:
    """Mean cosine of the fused features of genuine pairs and of the others.

    Where the accuracy has nothing left to gain, these still move.
    """
    cosine = 1.0 - pair_distances(embeddings.original.astype(np.float64) + embeddings.mirrored) / 2.0
    return {"cosine_same": float(cosine[same].mean()), "cosine_other": float(cosine[~same].mean())}


def standings(history: Iterable[Mapping[str, Any]], names: Sequence[str], kinds: Sequence[str]) -> list[Standing]:
    """The means over the sets after each verification of all of them, by step.

    Args:
        history: lines of metrics.jsonl, of verifications.
        names: of the sets.
        kinds: of SHARP, DEGRADED, MIXED.
    """
    lines: dict[int, dict[str, Mapping[str, Any]]] = {}
    for line in history:
        lines.setdefault(line["step"], {})[line["name"]] = line
    found = []
    for step in sorted(lines):
        of_kind = {kind: [lines[step].get(name + ENDING[kind]) for name in names] for kind in kinds}
        whole = {kind: [line for line in all_ if line is not None] for kind, all_ in of_kind.items()}
        if not names or any(len(whole[kind]) < len(names) for kind in kinds):
            continue
        accuracy, auc = (
            {kind: float(np.mean([line.get(key, 0.0) for line in whole[kind]])) for kind in kinds}
            for key in ("accuracy", "auc")
        )
        found.append(Standing(step, accuracy, auc))
    return found


def best_of(found: Sequence[Standing], rule: str, max_regression: float) -> Standing:
    """The best of at least one verification.

    Args:
        found: in the order of the steps.
        rule: the kind whose mean accuracy counts; of equal ones the higher area under the curve, then the earlier.
        max_regression: where there is a verification before the first step, the others count only if their mean sharp
            accuracy is at most this much (a fraction) below it.

    Example:
        >>> def at(step, sharp, degraded):
        ...     accuracy = {"sharp": sharp, "degraded": degraded}
        ...     return Standing(step, accuracy, accuracy)
        >>> best_of([at(0, 0.99, 0.6), at(10, 0.988, 0.7), at(20, 0.97, 0.8)], "degraded", 0.005).step
        10
    """
    start = found[0]
    allowed = [
        one for one in found if start.step != 0 or start.accuracy[SHARP] - one.accuracy[SHARP] <= max_regression + 1e-12
    ]
    return max(allowed, key=lambda one: (one.accuracy[rule], one.auc[rule], -one.step))


def describe(rule: str, max_regression: float) -> str:
    """A rule of `config.qgface.verify.keep_best` in words."""
    words = {SHARP: "the sets as they are", DEGRADED: "their degraded copies", MIXED: "originals against copies"}[rule]
    return f"highest accuracy on {words} among those that lose at most {100 * max_regression:g} points on sharp faces"


def _line(result: VerificationResult, similar: Mapping[str, float]) -> str:
    tar = ", ".join(f"{point.far:g}: {point.strict:.4f}" for point in result.tar_at_far)
    same, other = similar["cosine_same"], similar["cosine_other"]
    return f"TAR@FAR {tar}   Cosine of matched pairs: {same:.4f}, of others: {other:.4f}"
