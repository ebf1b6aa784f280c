"""One plan put to the test on real samples: stopped early where hopeless, accepted only on all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from calib.accuracy.budget import Budget
from calib.accuracy.rank import Forecast, RankedUnit, root_forecast
from calib.errors import UsageError
from calib.outcome import SearchStepFacts

Kind = Literal["int8", "prefix", "bisect", "confirm", "backfill", "final"]
Indices = NDArray[np.int64]
Evaluate = Callable[[frozenset[str], Indices], Sequence[Any]]
Latency = Callable[[Sequence[frozenset[str]]], Sequence[float]]

# The sequential test: at most ALPHA wrong rejections over all looks (Bonferroni). It only ever rejects.
LOOKS = (0.10, 0.20, 0.35, 0.50, 0.75)
ALPHA = 0.02
# Below this many samples the first looks say too little: they save next to nothing, and the rough drop of a plan
# that was rejected early misleads the forecast.
FEWEST_FOR_LOOKS = 400


class Scoring(Protocol):
    """The part of a Metric that the search needs."""

    higher_is_better: bool

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the metric over these samples."""
        ...

    def per_sample(self, parts: Sequence[Any]) -> NDArray[np.float64] | None:
        """Return scores whose mean is ``aggregate(parts)``, or None."""
        ...


@dataclass(frozen=True)
class Limits:
    """What a search may spend.

    Attributes:
        max_evaluations: plans put to the test, at most; None for the search's own bound.
        backfills: how many evaluations may be spent on giving reverted units back to INT8 at the end.
        images: refining (bisection, back-filling) goes on only while the whole run stays within this many validation
            sets, the FP32 pass and the final pass included; log2(units/50) more for larger networks. Finding a plan
            within the budget is not limited by it.
        final_pass: True where the saved file is going to be evaluated once more, so that one pass is put aside.
        finalists: how many plans within the budget are timed, at most.
        keep_fp32: return the FP32 model where no plan keeps the budget; otherwise the best quantized one.
    """

    max_evaluations: int | None = None
    backfills: int = 2
    images: float = 4.3
    final_pass: bool = False
    finalists: int = 4
    keep_fp32: bool = False

    def __post_init__(self) -> None:
        if self.max_evaluations is not None and self.max_evaluations < 1:
            raise UsageError(f"max_evaluations must be 1 or more, got {self.max_evaluations}")
        if self.backfills < 0 or self.finalists < 1:
            raise UsageError(f"backfills must be 0 or more and finalists 1 or more, got {self}")

    def allowance(self, units: int) -> float:
        """Return ``images`` for a network of so many units."""
        return self.images + max(0.0, math.log2(max(units, 1) / 50))


@dataclass(frozen=True)
class Problem:
    """Everything that a search needs to know; it knows no OpenVINO.

    Attributes:
        ranked: the units that can be reverted, most damaging first (`rank`).
        baseline_parts: the FP32 model's parts, one per validation sample.
        metric: makes a number of parts.
        budget: what may be lost.
        evaluate: ``(reverted layers, sample indices) → parts`` of the INT8 model compiled without these layers, in
            the order of the indices. Calls for one plan follow each other: keep the last compiled model.
        latency: measures finalists interleaved, milliseconds each; None takes the one with fewest units reverted.
        forecast: shape of the drop over the damage that remains.
        held_out: indices that the search must not see; the plan chosen is confirmed on them.
        limits: what may be spent.
        expired: True when the time is up; asked before each evaluation and at each look.
        progress: told every step as it is known.
        seed: of the order in which samples are looked at.
    """

    ranked: tuple[RankedUnit, ...]
    baseline_parts: Sequence[Any]
    metric: Scoring
    budget: Budget
    evaluate: Evaluate
    latency: Latency | None = None
    forecast: Forecast = root_forecast
    held_out: Indices = field(default_factory=lambda: np.empty(0, np.int64))
    limits: Limits = field(default_factory=Limits)
    expired: Callable[[], bool] = lambda: False
    progress: Callable[[SearchStepFacts], None] = lambda step: None
    seed: int = 0

    def __post_init__(self) -> None:
        if not len(self.search_indices):
            raise UsageError("the validation dataset leaves no sample to search on: give more samples")
        if self.metric.higher_is_better != self.budget.higher_is_better:
            raise UsageError("the metric and the budget disagree on whether higher is better")

    @property
    def search_indices(self) -> Indices:
        """All samples that the search may see, ascending."""
        return np.setdiff1d(np.arange(len(self.baseline_parts), dtype=np.int64), self.held_out)

    @property
    def layers(self) -> frozenset[str]:
        """All layers that can be reverted."""
        return frozenset(name for unit in self.ranked for name in unit.layers)

    def baseline(self, indices: Indices) -> float:
        """Return the FP32 metric over these samples."""
        return float(self.metric.aggregate([self.baseline_parts[i] for i in indices]))


@dataclass(frozen=True)
class Trial:
    """What is known of one plan.

    Attributes:
        reverted: its layers in floating point.
        units: how many units that is.
        parts: sample index → part, for the samples looked at.
        value: metric over these samples.
        drop: against FP32 on the same samples, in the budget's scale; +inf without a number.
        complete: every sample that the search may see was looked at.
        within: complete, and the drop fits the budget.
        reason: of a rejection.
    """

    reverted: frozenset[str]
    units: int
    parts: dict[int, Any]
    value: float
    drop: float
    complete: bool
    within: bool
    reason: str = ""

    @property
    def order(self) -> tuple[int, float, list[str]]:
        """Sort key: fewest units, then the smallest drop, then names, so that nothing is left to chance."""
        return self.units, self.drop, sorted(self.reverted)


class Stopped(Exception):
    """The search has to end now: a limit was reached."""


def blocks(indices: Indices, stop_early: bool, seed: int) -> list[Indices]:
    """Return the samples in the portions in which they are looked at.

    The order is a random one that depends on the seed and the count only: a listing sorted by class would make every
    early look a look at the first classes.
    """
    if not stop_early or len(indices) < FEWEST_FOR_LOOKS:
        return [indices]
    shuffled = np.random.default_rng(seed).permutation(indices)
    cuts = [math.ceil(share * len(indices)) for share in LOOKS]
    return [np.sort(block) for block in np.split(shuffled, cuts)]


def least_loss(losses: NDArray[np.float64], total: int) -> float:
    """Return the lower bound of the mean loss over ``total`` samples after a look at some of them.

    One-sided Student bound with the finite-population correction sqrt((N − m)/(N − 1)), at ALPHA over the looks. The
    variance is that of the losses with one more gain and one more loss of the largest size seen: with two or three
    discordant samples the plain variance is too small (4 % wrong rejections at N = 500 instead of 2 %).

    Args:
        losses: ``(m,)`` paired losses of the samples looked at, a random subset; m is 2 or more.
        total: N.
    """
    count, mean = len(losses), float(losses.mean())
    spread = float(((losses - mean) ** 2).sum()) + 2 * float(np.abs(losses).max()) ** 2
    quantile = float(stdtrit(count - 1, 1 - ALPHA / len(LOOKS)))
    correction = math.sqrt((total - count) / (total - 1))
    return mean - quantile * math.sqrt(spread / (count - 1) / count) * correction


class Ledger:
    """Puts plans to the test and keeps account of everything that was spent.

    What the store remembers counts as if it were computed: a resumed search ends with the same account.

    Attributes:
        trials: every plan looked at.
        steps: the same as a story, for the report.
        images: samples run through a model, the FP32 pass included.
        compilations: quantized models compiled.
        evaluations: plans put to the test.
    """

    def __init__(self, problem: Problem):
        self.problem = problem
        self.indices = problem.search_indices
        self.baseline = problem.baseline(self.indices)
        self.scale = problem.budget.scale(self.baseline)
        scores = problem.metric.per_sample([problem.baseline_parts[i] for i in self.indices])
        self._blocks = blocks(self.indices, scores is not None, problem.seed)
        self.trials: dict[frozenset[str], Trial] = {}
        self.steps: list[SearchStepFacts] = []
        self.images = len(problem.baseline_parts)
        self.compilations = 0
        self.evaluations = 0
        self._compiled: frozenset[str] | None = None

    def run(self, reverted: frozenset[str], kind: Kind, *, to_the_end: bool = False) -> Trial:
        """Return the verdict on a plan: remembered, or on as many samples as it takes.

        Args:
            reverted: layers in floating point.
            kind: of the step.
            to_the_end: look at every sample, even where the plan is hopeless already.

        Raises:
            Stopped: no evaluation is left or the time is up.
        """
        known = self.trials.get(reverted)
        if known is not None and (known.complete or not to_the_end):
            return known
        self.spend()
        parts: dict[int, Any] = dict(known.parts) if known else {}
        reason = ""
        try:
            for block in self._blocks:
                if int(block[0]) in parts:
                    continue
                self.check_time()
                parts.update(zip(block.tolist(), self.evaluate(reverted, block), strict=True))
                if not to_the_end and len(parts) < len(self.indices) and (reason := self._hopeless(parts)):
                    break
        finally:
            # Also after Ctrl-C or the time limit: what was seen of the plan counts for "best seen".
            if parts:
                self._keep(reverted, parts, kind, reason)
        return self.trials[reverted]

    def evaluate(self, reverted: frozenset[str], indices: Indices) -> Sequence[Any]:
        """Return the parts of these samples, and enter the cost."""
        if reverted != self._compiled:
            self.compilations += 1
            self._compiled = reverted
        parts = self.problem.evaluate(reverted, indices)
        self.images += len(indices)
        return parts

    def spend(self) -> None:
        """Enter one evaluation.

        Raises:
            Stopped: none is left, or the time is up.
        """
        self.check_time()
        limit = self.problem.limits.max_evaluations
        if limit is not None and self.evaluations >= limit:
            raise Stopped(f"the limit of {limit} evaluation{'s' if limit > 1 else ''} was reached")
        self.evaluations += 1

    def check_time(self) -> None:
        """Raise Stopped when the time is up."""
        if self.problem.expired():
            raise Stopped("the time limit was reached")

    def can_refine(self) -> bool:
        """Say whether one more full evaluation stays within the allowance for refining."""
        everything = len(self.problem.baseline_parts)
        allowed = self.problem.limits.allowance(len(self.problem.ranked))
        put_aside = len(self.problem.held_out) + (everything if self.problem.limits.final_pass else 0)
        return self.images + len(self.indices) + put_aside <= allowed * everything

    def units_of(self, reverted: frozenset[str]) -> int:
        """Return how many units are reverted."""
        return sum(unit.layers <= reverted for unit in self.problem.ranked)

    def enter(self, step: SearchStepFacts) -> None:
        """Keep a step and tell the progress line."""
        self.steps.append(step)
        self.problem.progress(step)

    def _hopeless(self, parts: dict[int, Any]) -> str:
        """Return why the plan can't keep the budget, "" while it may."""
        losses = self.losses(parts)
        if losses is None or len(losses) < 2 or not np.isfinite(losses).all():
            return ""
        least = least_loss(losses, len(self.indices)) / self.scale
        if self.problem.budget.fits(least):
            return ""
        return f"a drop of at least {least:.4g} is certain enough after {len(losses)} of {len(self.indices)} samples"

    def losses(self, parts: dict[int, Any]) -> NDArray[np.float64] | None:
        """Return the paired losses of these samples in index order, None where the metric is no mean."""
        chosen = sorted(parts)
        metric = self.problem.metric
        before = metric.per_sample([self.problem.baseline_parts[i] for i in chosen])
        after = metric.per_sample([parts[i] for i in chosen])
        if before is None or after is None:
            return None
        return before - after if metric.higher_is_better else after - before

    def _keep(self, reverted: frozenset[str], parts: dict[int, Any], kind: Kind, reason: str) -> None:
        problem = self.problem
        chosen = np.array(sorted(parts), np.int64)
        complete = len(chosen) == len(self.indices)
        value = float(problem.metric.aggregate([parts[i] for i in chosen.tolist()]))
        # A part of the samples is compared with FP32 on the same part; the scale stays that of the whole.
        drop = problem.budget.loss(problem.baseline(chosen), value) / self.scale
        within = complete and problem.budget.fits(drop)
        if complete and not within:
            reason = f"the drop of {drop:.4g} is over the budget of {problem.budget.max_drop:g}"
        trial = Trial(reverted, self.units_of(reverted), parts, value, drop, complete, within, reason)
        self.trials[reverted] = trial
        self.enter(
            SearchStepFacts(
                step=len(self.steps) + 1,
                kind=kind,
                reverted=sorted(reverted),
                samples=len(chosen),
                value=value,
                drop=drop,
                within=within,
                reason=reason,
            )
        )
