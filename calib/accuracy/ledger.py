"""One plan put to the test on real samples: stopped early where hopeless, accepted only on all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from calib.accuracy.budget import Indices, blocks, least_loss
from calib.accuracy.prediction import Outlook, RankedUnit
from calib.accuracy.problem import MarginScoring, Problem
from calib.values.facts import SearchStepFacts

Kind = Literal["int8", "prefix", "bisect", "confirm", "backfill"]

# A scouted plan is looked at to the end in portions that double, while it may fit, until this share of all.
MOST_OF_ALL = 0.7
# INT8 and plans with less of a chance to keep the budget are not looked at to the end.
HOPELESS = 0.02
# A plan with this chance is worth looking at to the end; after one that failed, only a safer one is.
PROMISING, SAFE, CERTAIN = 0.5, 0.8, 0.9
# Before units are ranked the network counts as one of them. Its sensitivity cancels out when the error of everything in
# INT8 has been seen, and where none was seen there is none.
UNRANKED = 1e-30


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
        ranking: the units, most sensitive first; empty until `rank` was called.
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
        self._blocks = blocks(self.indices, scores is not None)
        self.doubtful = problem.doubtful
        self._counted = 0 if scores is None else len(scores)  # a sample without a target does not count
        self.ranking: tuple[RankedUnit, ...] = ()
        self.trials: dict[frozenset[str], Trial] = {}
        self.steps: list[SearchStepFacts] = []
        self.images = len(problem.baseline_parts)
        self.compilations = 0
        self.evaluations = 0
        self._compiled: frozenset[str] | None = None
        self.order, self.counts, self.outlook = self.indices, (), None
        self._learned: list[tuple[frozenset[str], NDArray[np.float64], NDArray[np.float64] | None, int]] = []
        if problem.margins is not None and len(self.doubtful):
            margins = np.asarray(problem.margins, np.float64)[self.indices]
            nearest = np.argsort(np.abs(np.nan_to_num(margins)), kind="stable")
            self.order = self.indices[nearest]
            doubled = [len(self.doubtful) * 2**i for i in range(8)]
            self.counts = *(n for n in doubled if n < MOST_OF_ALL * len(self.indices)), len(self.indices)
            self._margins = margins[nearest]
            self.outlook = Outlook((RankedUnit(problem.layers, UNRANKED),), self._margins, self.counts)

    def rank(self) -> tuple[RankedUnit, ...]:
        """Return the units, most sensitive first; they are measured the first time.

        Raises:
            Stopped: there is no evaluation left that a ranking could be used for, or the time is up.
        """
        if not self.ranking:
            self.check_limits()
            self.ranking = self.problem.rank()
            if self.outlook is not None:
                self.outlook = Outlook(self.ranking, self._margins, self.counts)
                for learned in self._learned:
                    self.outlook.learn(*learned)
        return self.ranking

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
        if known is not None and (known.complete or not (to_the_end or known.scouted)):
            return known
        self.spend()
        parts: dict[int, Any] = dict(known.parts) if known else {}
        scouted = known is not None and known.scouted
        reason = ""
        try:
            # The sequential test needs random samples; a scouted plan is looked at on ever less doubtful ones.
            for block in self._doubling() if scouted else self._blocks:
                block = block[[i not in parts for i in block.tolist()]]
                if not len(block):
                    continue
                self.check_time()
                parts.update(zip(block.tolist(), self.evaluate(reverted, block), strict=True))
                if to_the_end or len(parts) == len(self.indices):
                    continue
                if self._lost(reverted, parts) if scouted else (reason := self._hopeless(parts)):
                    break
        finally:
            # Also after Ctrl-C or the time limit: what was seen of the plan counts for "best seen".
            if parts:
                self._keep(reverted, parts, kind, reason, scouted and len(parts) in self.counts)
        return self.trials[reverted]

    def _doubling(self) -> list[Indices]:
        return [np.sort(block) for block in np.split(self.order, self.counts[:-1])]

    def _lost(self, reverted: frozenset[str], parts: dict[int, Any]) -> bool:
        """Say whether a plan that is looked at in portions has next to no chance left."""
        self._learn(reverted, parts)
        return self.chance(reverted) < HOPELESS

    def _learn(self, reverted: frozenset[str], parts: dict[int, Any]) -> None:
        """Tell the outlook, if these are the samples that plans are looked at on."""
        if self.outlook is None or len(parts) not in self.counts:
            return
        metric, seen = self.problem.metric, [parts[i] for i in self.order[: len(parts)].tolist() if i in parts]
        losses = self.losses(parts)
        if losses is not None and len(seen) == len(parts):
            after = metric.margins(seen) if isinstance(metric, MarginScoring) else None
            self._learned.append((reverted, losses, after, len(parts)))
            self.outlook.learn(*self._learned[-1])

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

    def expected(self, reverted: frozenset[str]) -> float:
        """Return the drop to expect of a plan."""
        assert self.outlook is not None
        return self.outlook.lost(reverted)[0] / max(self._counted, 1) / self.scale

    def chance(self, reverted: frozenset[str]) -> float:
        """Return the probability that a plan keeps the budget."""
        assert self.outlook is not None
        lost, deviation = self.outlook.lost(reverted)
        # Half a sample more: the drop comes in steps of one.
        allowed = self.problem.budget.max_drop * self.scale * self._counted + 0.5
        return float(ndtr((allowed - lost) / max(deviation, 1e-9)))

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
        self.check_limits()
        self.evaluations += 1

    def check_limits(self) -> None:
        """Raise Stopped when no evaluation is left, or the time is up."""
        self.check_time()
        limit = self.problem.limits.max_evaluations
        if limit is not None and self.evaluations >= limit:
            raise Stopped(f"the limit of {limit} evaluation{'s' if limit > 1 else ''} was reached")

    def check_time(self) -> None:
        """Raise Stopped when the time is up."""
        if self.problem.expired():
            raise Stopped("the time limit was reached")

    def affords(self, scouts: int, evaluations: int = 0) -> bool:
        """Say whether so many more scouts, and scouted plans looked at to the end, stay within the allowance."""
        everything, scout = len(self.problem.baseline_parts), len(self.doubtful) or len(self.indices)
        allowed = self.problem.limits.allowance(len(self.problem.units))
        more = scouts * scout + evaluations * (len(self.indices) - scout)
        return self.images + more + len(self.problem.held_out) <= allowed * everything

    def units_of(self, reverted: frozenset[str]) -> int:
        """Return how many units are reverted."""
        return sum(unit <= reverted for unit in self.problem.units)

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
        self._learn(reverted, parts)
        if scouted and not complete:
            drop = self.expected(reverted)
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
