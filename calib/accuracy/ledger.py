"""Plans are evaluated on real samples: stopped early where the budget is out of reach, accepted only on all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Literal

import numpy as np

from calib.accuracy.budget import Indices, blocks, least_loss, normal_cdf, paired_interval
from calib.accuracy.drop_posterior import DropPosterior
from calib.accuracy.loss_posterior import LossPosterior
from calib.accuracy.prediction import RankedUnit, forecast_by
from calib.accuracy.problem import MarginScoring, Problem
from calib.values.accuracy_facts import SearchStepFacts

Kind = Literal["int8", "prefix", "bisect", "confirm", "backfill"]

# Plans, everything in INT8 too, that keep the budget with less than this probability are not evaluated on all samples.
IMPROBABLE = 0.02
# A screened plan that keeps the budget with this probability is worth all samples.
PROBABLE = 0.5
# Before units are ranked the network counts as one of them. Its sensitivity cancels out when the error of everything in
# INT8 has been seen, and where none was seen there is none.
UNRANKED = 1e-30
# Standard deviations on either side of the mean that hold 95 % of a normal distribution.
TWO_SIDED = 1.96


@dataclass(frozen=True)
class Trial:
    """The evaluation of one plan.

    Attributes:
        reverted: Layers in floating point.
        units: Number of units in floating point.
        parts: Mapping from sample index to part, for the samples it was evaluated on.
        value: Metric over these samples.
        drop: Drop against FP32 on the same samples, in the budget's scale; +inf without a number. For a screened plan,
            the drop expected on all samples.
        complete: Whether it was evaluated on every sample that the search may see.
        within: Whether it is complete and the drop fits the budget.
        screened: Whether it was evaluated on the doubtful samples only.
        reason: Reason of a rejection.
    """

    reverted: frozenset[str]
    units: int
    parts: dict[int, Any]
    value: float
    drop: float
    complete: bool
    within: bool
    reason: str = ""
    screened: bool = False

    @property
    def order(self) -> tuple[int, float, list[str]]:
        """Sort key: fewest units, then the smallest drop, then names, so that nothing is left to chance."""
        return self.units, self.drop, sorted(self.reverted)


class Stopped(Exception):
    """The search has to end now: a limit was reached."""


class Ledger:
    """Evaluates plans and counts evaluations, samples and compilations.

    Results from the store count as if they were computed, so a resumed search ends with the same counts.

    Attributes:
        indices: Samples that the search may see, ascending.
        baseline: Metric of FP32 on these samples.
        scale: Number that a loss is divided by to become a drop.
        screened: Samples that plans are screened on; empty where they are judged on all samples only.
        posterior: Expectations of plans from those evaluated.
        ranking: Units, most sensitive first; empty until `rank` is called.
        trials: Every plan evaluated.
        unconfirmed: Plans that kept the budget in the search, but not on the held-out samples.
        steps: Evaluations in order, for the report.
        images: Number of samples run through a model, the FP32 pass included.
        compilations: Number of quantized models compiled.
        evaluations: Number of evaluations of plans, on all samples or a part of them.
    """

    def __init__(self, problem: Problem):
        self.problem = problem
        self.indices = problem.search_indices
        self.baseline = problem.baseline(self.indices)
        self.scale = problem.budget.scale(self.baseline)
        scores = problem.metric.per_sample([problem.baseline_parts[i] for i in self.indices])
        self._blocks = blocks(self.indices, scores is not None)
        # A sample without a target does not count.
        self._counted = len(scores) if scores is not None else len(self.indices) if problem.by_margins else 0
        self.ranking: tuple[RankedUnit, ...] = ()
        self.trials: dict[frozenset[str], Trial] = {}
        self.unconfirmed: set[frozenset[str]] = set()
        self.steps: list[SearchStepFacts] = []
        self.images = len(problem.baseline_parts)
        self.compilations = 0
        self.evaluations = 0
        self._compiled: frozenset[str] | None = None
        self.screened, self._order, self._counts = problem.screened, *problem.portions
        self._observed: list[tuple[frozenset[str], dict[int, Any]]] = []
        # Before units are ranked the network counts as one of them.
        self.posterior = self._posterior((RankedUnit(problem.layers, UNRANKED),))

    def _posterior(self, ranked: tuple[RankedUnit, ...]) -> LossPosterior | DropPosterior:
        margins = self.problem.margins
        if margins is not None and self.problem.by_margins:
            return LossPosterior(ranked, np.asarray(margins, np.float64)[self._order], self._counts)
        return DropPosterior(ranked, forecast_by(None if margins is None else margins[self.indices]), len(self.indices))

    def rank(self) -> tuple[RankedUnit, ...]:
        """Return the units, most sensitive first; they are measured the first time.

        Raises:
            Stopped: There is no evaluation left that a ranking could be used for, or the time is up.
        """
        if not self.ranking:
            self.check_limits()
            self.ranking = self.problem.rank()
            self.posterior = self._posterior(self.ranking)
            for observed in self._observed:
                self._tell(*observed)
        return self.ranking

    def prefixes(self) -> list[frozenset[str]]:
        """Return the layers of the first k units of the ranking, for each k from none to all."""
        return list(accumulate((unit.layers for unit in self.rank()), frozenset[str].union, initial=frozenset[str]()))

    def run(self, reverted: frozenset[str], kind: Kind, *, to_the_end: bool = False) -> Trial:
        """Evaluate a plan on as many samples as necessary, or return its earlier evaluation.

        Args:
            reverted: Layers in floating point.
            kind: Kind of the step.
            to_the_end: Whether to evaluate it on every sample, even if it can't keep the budget any more.

        Raises:
            Stopped: No evaluation is left or the time is up.
        """
        known = self.trials.get(reverted)
        if known is not None and (known.complete or not (to_the_end or known.screened)):
            return known
        self.spend()
        parts: dict[int, Any] = dict(known.parts) if known else {}
        screened = known is not None and known.screened
        reason = ""
        try:
            # The sequential test needs random samples; a screened plan is evaluated on ever less doubtful ones.
            for block in self._doubling() if screened else self._blocks:
                block = block[[i not in parts for i in block.tolist()]]
                if not len(block):
                    continue
                self.check_time()
                parts.update(zip(block.tolist(), self.evaluate(reverted, block), strict=True))
                if to_the_end or len(parts) == len(self.indices):
                    continue
                if self._improbable(reverted, parts) if screened else (reason := self._rejection(parts)):
                    break
        finally:
            # Also after Ctrl-C or the time limit: what was seen of the plan counts for "best seen".
            if parts:
                self._keep(reverted, parts, kind, reason, screened and len(parts) in self._counts)
        return self.trials[reverted]

    def screen(self, reverted: frozenset[str], kind: Kind) -> Trial:
        """Evaluate a plan on the doubtful samples only, or return what is known of it.

        Raises:
            Stopped: No evaluation is left or the time is up.
        """
        if reverted in self.trials:
            return self.trials[reverted]
        self.spend()
        parts = dict(zip(self.screened.tolist(), self.evaluate(reverted, self.screened), strict=True))
        self._keep(reverted, parts, kind, "", screened=True)
        return self.trials[reverted]

    def expected(self, reverted: frozenset[str]) -> tuple[float, float]:
        """Return the drop expected of a plan, and its standard deviation."""
        if isinstance(self.posterior, DropPosterior):
            return self.posterior.drop(reverted)
        lost, deviation = self.posterior.lost(reverted)
        return lost / max(self._counted, 1) / self.scale, deviation / max(self._counted, 1) / self.scale

    def probability(self, reverted: frozenset[str]) -> float:
        """Return the probability that a plan keeps the budget."""
        drop, deviation = self.expected(reverted)
        one = 1 / max(self._counted, 1) / self.scale
        step = self.posterior.step if isinstance(self.posterior, DropPosterior) else one
        allowed = self.problem.budget.max_drop
        # Of a metric that counts samples: between the last drop that is allowed and the next.
        if step and math.isfinite(allowed / step):
            allowed = (math.floor(allowed / step + 1e-9) + 0.5) * step
        return float(normal_cdf((allowed - drop) / max(deviation, 1e-12 * max(1.0, allowed))))

    def keeps(self, trial: Trial) -> bool:
        """Say whether a plan keeps the budget, or probably does where it was only screened."""
        return trial.within or (trial.screened and self.probability(trial.reverted) >= PROBABLE)

    def seen(self, trial: Trial) -> float:
        """Return the drop of a plan on the samples that every plan was evaluated on at least."""
        common = [i for i in (self.screened if len(self.screened) else self.indices).tolist() if i in trial.parts]
        value = float(self.problem.metric.aggregate([trial.parts[i] for i in common]))
        return self.problem.budget.loss(self.problem.baseline(np.array(common, np.int64)), value) / self.scale

    def feasible(self) -> list[Trial]:
        """Return the plans that keep the budget as far as is known, fewest units reverted first."""
        fit = [t for t in self.trials.values() if t.within and not any(t.reverted <= r for r in self.unconfirmed)]
        return sorted(fit, key=lambda trial: trial.order)

    def units_of(self, reverted: frozenset[str]) -> int:
        """Return how many units are reverted."""
        return sum(unit <= reverted for unit in self.problem.units)

    def reverted_units(self, trial: Trial) -> list[RankedUnit]:
        """Return the units that a plan reverts, least sensitive first."""
        return sorted((u for u in self.rank() if u.layers <= trial.reverted), key=lambda unit: unit.sensitivity)

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
            Stopped: None is left, or the time is up.
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

    def affords(self, first: int, completed: int = 0) -> bool:
        """Say whether more evaluations stay within the allowance of samples.

        Args:
            first: Evaluations of new plans, each a screening if plans are judged in part, else on all samples.
            completed: Evaluations of screened plans on the remaining samples.
        """
        everything, screened = len(self.problem.baseline_parts), len(self.screened) or len(self.indices)
        more = first * screened + completed * (len(self.indices) - screened)
        return self.images + more + len(self.problem.held_out) <= self.problem.allowance * everything

    def enter(
        self,
        kind: Kind,
        reverted: frozenset[str],
        samples: int,
        value: float,
        drop: float,
        within: bool,
        reason: str,
        interval: tuple[float, float] | None,
    ) -> None:
        """Keep a step of the search and tell the progress line."""
        step = SearchStepFacts(
            step=len(self.steps) + 1,
            kind=kind,
            reverted=sorted(reverted),
            samples=samples,
            value=value,
            drop=drop,
            interval=interval,
            within=within,
            reason=reason,
        )
        self.steps.append(step)
        self.problem.progress(step)

    def _doubling(self) -> list[Indices]:
        """Return all samples, those of the smallest margins first, in portions that double."""
        return [np.sort(block) for block in np.split(self._order, self._counts[:-1])]

    def _improbable(self, reverted: frozenset[str], parts: dict[int, Any]) -> bool:
        """Say whether a plan that is evaluated in doubling portions is too improbable to go on."""
        self._observe(reverted, parts)
        return self.probability(reverted) < IMPROBABLE

    def _rejection(self, parts: dict[int, Any]) -> str:
        """Return why the plan can't keep the budget by the sequential test, "" while it may."""
        losses = self.problem.losses(parts)
        if losses is None or len(losses) < 2 or not np.isfinite(losses).all():
            return ""
        least = least_loss(losses, len(self.indices)) / self.scale
        if self.problem.budget.fits(least):
            return ""
        least_text = self.problem.budget.text(least)
        return f"a drop of at least {least_text} is certain enough after {len(losses)} of {len(self.indices)} samples"

    def _observe(self, reverted: frozenset[str], parts: dict[int, Any]) -> None:
        """Tell the posterior, if these are the samples that plans are screened on, a portion more, or all."""
        if len(parts) in self._counts and all(i in parts for i in self._order[: len(parts)].tolist()):
            self._observed.append((reverted, dict(parts)))
            self._tell(reverted, parts)

    def _tell(self, reverted: frozenset[str], parts: dict[int, Any]) -> None:
        metric, problem = self.problem.metric, self.problem
        counts = [count for count in self._counts if count <= len(parts)]
        if isinstance(self.posterior, LossPosterior):
            # Within the nested portions, what each adds.
            added = [self._order[first:last].tolist() for first, last in pairwise([0, *counts])]
            losses = [self.problem.losses({i: parts[i] for i in portion}) for portion in added]
            after = None
            if isinstance(metric, MarginScoring):
                after = metric.margins([parts[i] for i in self._order[: counts[-1]].tolist()])
            self.posterior.observe(reverted, [found for found in losses if found is not None], after)
            return
        nested = [self.problem.losses({i: parts[i] for i in self._order[:count].tolist()}) for count in counts]
        losses = [found / self.scale for found in nested if found is not None]
        chosen = np.array(sorted(parts), np.int64)
        value = float(metric.aggregate([parts[i] for i in chosen.tolist()]))
        drop = problem.budget.loss(problem.baseline(chosen), value) / self.scale
        self.posterior.observe(reverted, drop, losses, len(parts) == len(self.indices))

    def _keep(
        self, reverted: frozenset[str], parts: dict[int, Any], kind: Kind, reason: str, screened: bool = False
    ) -> None:
        problem = self.problem
        chosen = np.array(sorted(parts), np.int64)
        complete = len(chosen) == len(self.indices)
        value = float(problem.metric.aggregate([parts[i] for i in chosen.tolist()]))
        # A part of the samples is compared with FP32 on the same part; the scale stays that of the whole.
        drop = problem.budget.loss(problem.baseline(chosen), value) / self.scale
        within = complete and problem.budget.fits(drop)
        self._observe(reverted, parts)
        if screened and not complete:
            drop = self.expected(reverted)[0]
            which = "the {} most doubtful" if self.problem.by_margins else "{}"
            reason = f"expected after {which.format(len(chosen))} of {len(self.indices)} samples"
        elif complete and not within:
            text = problem.budget.text
            reason = f"the drop of {text(drop)} is over the budget of {text(problem.budget.max_drop)}"
        units = self.units_of(reverted)
        trial = Trial(reverted, units, parts, value, drop, complete, within, reason, screened and not complete)
        self.trials[reverted] = trial
        interval = self._interval(reverted, parts, trial.screened)
        self.enter(kind, reverted, len(chosen), value, drop, within, reason, interval)

    def _interval(self, reverted: frozenset[str], parts: dict[int, Any], screened: bool) -> tuple[float, float] | None:
        """Return the 95 % interval of a drop: expected on all samples where screened; None for metrics without scores.

        That of a metric that is no mean takes a bootstrap, which only the model that is written is worth.
        """
        if screened:
            drop, deviation = self.expected(reverted)
            return drop - TWO_SIDED * deviation, drop + TWO_SIDED * deviation
        chosen, metric = sorted(parts), self.problem.metric
        before = metric.per_sample([self.problem.baseline_parts[i] for i in chosen])
        after = metric.per_sample([parts[i] for i in chosen])
        if before is None or after is None:
            return None
        found = paired_interval(np.asarray(before, float), np.asarray(after, float), metric.higher_is_better)
        return None if found is None else (found.low / self.scale, found.high / self.scale)
