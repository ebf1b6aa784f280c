"""One plan put to the test on real samples: stopped early where hopeless, accepted only on all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from calib.accuracy.budget import Budget
from calib.accuracy.rank import Forecast, RankedUnit
from calib.accuracy.sequential import Indices, blocks, least_loss, others_change
from calib.errors import UsageError
from calib.outcome import SearchStepFacts

Kind = Literal["int8", "prefix", "bisect", "confirm", "backfill", "final"]
Evaluate = Callable[[frozenset[str], Indices], Sequence[Any]]
Latency = Callable[[Sequence[frozenset[str]]], Sequence[float]]

# A scout looks at this share of the samples, those with the smallest margins: near the budget nearly all samples that
# change are among them (at drops below .02 on the demo MobileNet .95 and more of them among a fifth).
DOUBTFUL = 0.2
FEWEST_TO_SCOUT = 100
# So many standard deviations fewer of the other samples may change than expected before a plan is called hopeless.
DEVIATIONS = 2.0


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
        backfills: how many plans may be tried to give reverted units back to INT8 at the end.
        images: refining (bisection, back-filling) goes on only while the whole run stays within this many validation
            sets, the FP32 pass and the final pass included; log2(units/50) more for larger networks. Finding a plan
            within the budget is not limited by it.
        final_pass: True where the saved file is going to be evaluated once more, so that one pass is put aside.
        finalists: how many plans within the budget are timed, at most.
        keep_fp32: return the FP32 model where no plan keeps the budget; otherwise the best quantized one.
    """

    max_evaluations: int | None = None
    backfills: int = 6
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
        forecast: shape of the drop over the damage that remains; by default what the margins give, else the root.
        held_out: indices that the search must not see; the plan chosen is confirmed on them.
        limits: what may be spent.
        expired: True when the time is up; asked before each evaluation and at each look.
        margins: ``(samples,)`` how far each sample is from another verdict in FP32, in standard deviations of its
            outputs; negative where FP32 is wrong. The nearer to 0, the sooner a small error changes the verdict: with
            margins plans are scouted on the doubtful samples before all are spent.
        progress: told every step as it is known.
        seed: of the order in which samples are looked at.
    """

    ranked: tuple[RankedUnit, ...]
    baseline_parts: Sequence[Any]
    metric: Scoring
    budget: Budget
    evaluate: Evaluate
    latency: Latency | None = None
    forecast: Forecast | None = None
    held_out: Indices = field(default_factory=lambda: np.empty(0, np.int64))
    limits: Limits = field(default_factory=Limits)
    expired: Callable[[], bool] = lambda: False
    margins: NDArray[np.floating] | None = None
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
    def doubtful(self) -> Indices:
        """The samples a scout looks at, ascending: none where nobody knows the margins, or no sample counts alone."""
        seen = self.search_indices
        parts = [self.baseline_parts[i] for i in seen]
        if self.margins is None or len(seen) < FEWEST_TO_SCOUT or self.metric.per_sample(parts) is None:
            return np.empty(0, np.int64)
        margins = np.abs(np.nan_to_num(np.asarray(self.margins, np.float64)[seen]))
        return np.sort(seen[np.argsort(margins, kind="stable")[: math.ceil(DOUBTFUL * len(seen))]])

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
        drop: against FP32 on the same samples, in the budget's scale; +inf without a number. Of a scout: expected on
            all samples.
        complete: every sample that the search may see was looked at.
        within: complete, and the drop fits the budget.
        scouted: looked at on the doubtful samples only.
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
    scouted: bool = False

    @property
    def order(self) -> tuple[int, float, list[str]]:
        """Sort key: fewest units, then the smallest drop, then names, so that nothing is left to chance."""
        return self.units, self.drop, sorted(self.reverted)


class Stopped(Exception):
    """The search has to end now: a limit was reached."""


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
        self.doubtful = problem.doubtful
        self._counted = 0 if scores is None else len(scores)  # a sample without a target does not count
        self.trials: dict[frozenset[str], Trial] = {}
        self.steps: list[SearchStepFacts] = []
        self.images = len(problem.baseline_parts)
        self.compilations = 0
        self.evaluations = 0
        self._compiled: frozenset[str] | None = None
        self._others = others_change(problem.margins, self.indices, self.doubtful)

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
        # The test needs random samples: a plan that was scouted is looked at to the end.
        to_the_end = to_the_end or (known is not None and known.scouted)
        if known is not None and (known.complete or not to_the_end):
            return known
        self.spend()
        parts: dict[int, Any] = dict(known.parts) if known else {}
        reason = ""
        try:
            for block in self._blocks:
                block = block[[i not in parts for i in block.tolist()]]
                if not len(block):
                    continue
                self.check_time()
                parts.update(zip(block.tolist(), self.evaluate(reverted, block), strict=True))
                if not to_the_end and len(parts) < len(self.indices) and (reason := self._hopeless(parts)):
                    break
        finally:
            # Also after Ctrl-C or the time limit: what was seen of the plan counts for "best seen".
            if parts:
                self._keep(reverted, parts, kind, reason, known is not None and known.scouted)
        return self.trials[reverted]

    def scout(self, reverted: frozenset[str], kind: Kind) -> Trial:
        """Return what the doubtful samples say of a plan; without margins, `run` it.

        Raises:
            Stopped: no evaluation is left or the time is up.
        """
        if reverted in self.trials:
            return self.trials[reverted]
        if not len(self.doubtful):
            return self.run(reverted, kind)
        self.spend()
        parts = dict(zip(self.doubtful.tolist(), self.evaluate(reverted, self.doubtful), strict=True))
        self._keep(reverted, parts, kind, "", scouted=True)
        return self.trials[reverted]

    def promising(self, trial: Trial, share: float = 1.0) -> bool:
        """Say whether a plan keeps the budget, or is expected to keep a share of it after a scout."""
        return trial.within or (trial.scouted and self.problem.budget.fits(self._expected(trial.parts) / share))

    def _expected(self, parts: dict[int, Any]) -> float:
        """Return the drop to expect on all samples from what the doubtful ones lost."""
        losses = self.losses({int(i): parts[int(i)] for i in self.doubtful})
        if losses is None or not np.isfinite(losses).all():
            return math.inf
        _, others = self._others(float(np.abs(losses).mean()))
        return (float(losses.sum()) + others * self._surprise()) / max(self._counted, 1) / self.scale

    def hopeless(self, trial: Trial) -> bool:
        """Say whether a scouted plan is over the budget even where the other samples fare better than expected."""
        losses = self.losses({int(i): trial.parts[int(i)] for i in self.doubtful}) if trial.scouted else None
        if losses is None or not np.isfinite(losses).all():
            return False
        changed, lost = self._others(float(np.abs(losses).mean()))
        least = float(losses.sum()) + lost / 2 - DEVIATIONS * math.sqrt(changed)
        return not self.problem.budget.fits(least / max(self._counted, 1) / self.scale)

    def _surprise(self) -> float:
        """Return how many times more of the other samples changed than expected, with plans looked at to the end."""
        expected = changed = 1.0  # one more of each, so that a single sample is no surprise
        for trial in self.trials.values():
            if trial.complete and trial.reverted:
                doubtful = self.losses({int(i): trial.parts[int(i)] for i in self.doubtful})
                everything = self.losses(trial.parts)
                if doubtful is not None and everything is not None:
                    expected += self._others(float(np.abs(doubtful).mean()))[0]
                    changed += float(np.abs(everything).sum() - np.abs(doubtful).sum())
        return max(1.0, changed / expected)

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

    def affords(self, scouts: int, evaluations: int = 0) -> bool:
        """Say whether so many more scouts, and scouted plans looked at to the end, stay within the allowance."""
        everything, scout = len(self.problem.baseline_parts), len(self.doubtful) or len(self.indices)
        allowed = self.problem.limits.allowance(len(self.problem.ranked))
        put_aside = len(self.problem.held_out) + (everything if self.problem.limits.final_pass else 0)
        more = scouts * scout + evaluations * (len(self.indices) - scout)
        return self.images + more + put_aside <= allowed * everything

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

    def _keep(
        self, reverted: frozenset[str], parts: dict[int, Any], kind: Kind, reason: str, scouted: bool = False
    ) -> None:
        problem = self.problem
        chosen = np.array(sorted(parts), np.int64)
        complete = len(chosen) == len(self.indices)
        value = float(problem.metric.aggregate([parts[i] for i in chosen.tolist()]))
        # A part of the samples is compared with FP32 on the same part; the scale stays that of the whole.
        drop = problem.budget.loss(problem.baseline(chosen), value) / self.scale
        within = complete and problem.budget.fits(drop)
        if scouted and not complete:
            drop = self._expected(parts)
            reason = f"expected after the {len(chosen)} most doubtful of {len(self.indices)} samples"
        elif complete and not within:
            reason = f"the drop of {drop:.4g} is over the budget of {problem.budget.max_drop:g}"
        units = self.units_of(reverted)
        trial = Trial(reverted, units, parts, value, drop, complete, within, reason, scouted and not complete)
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
