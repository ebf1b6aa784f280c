"""What a search is asked: what may be lost, what may be spent and what that costs at most, known before it begins."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from calib.accuracy.budget import Budget, Floats, Indices, portions_of, shuffled
from calib.accuracy.prediction import RankedUnit, change_probability, invert, margin_forecast
from calib.errors import UsageError
from calib.values.accuracy_facts import SearchStepFacts

Evaluate = Callable[[frozenset[str], Indices], Sequence[Any]]
Latency = Callable[[Sequence[frozenset[str]]], Sequence[float]]
Ranking = Callable[[], tuple[RankedUnit, ...]]

# Screening is on those with the smallest margins, so many that this share of the samples that change near the budget is
# among them; at least and at most these shares of all. (At drops below .02 on the demo MobileNet .95 and more of
# those that change are among a fifth.)
CAUGHT = 0.95
DOUBTFUL = (0.05, 0.2)
FEWEST_TO_SCREEN = 30
FEWEST_DOUBTFUL = 20
# A screened plan is evaluated on portions that double, while it may fit, until this share of all.
MOST_OF_ALL = 0.7
# Without margins a plan is judged on as few samples as these, of no fewer than those.
FEWEST_PROBED, FEWEST_TO_PROBE = 4, 8

# Each step along the ranking reverts at least 1, 3, 9… units more.
STRIDE = 3
# So many times the forecast may fail to halve the gap in bisection before the middle is taken.
TRUST = 2
# Each look at the held-out samples makes them a little less unseen.
CONFIRMATIONS = 3
# Screened plans that are evaluated on all samples, or until they are improbable; screening is right nearly always.
COMPLETIONS = 6
# Few samples are soon run, and take more plans to tell them apart: so many may be spent. (Simulated by top-1, 16
# networks of 40 samples and 16 of 150: 8.4 and 8.7 layers reverted with 12 sets, 9.4 and 9.4 with 8.)
FEWEST_IMAGES = 1800
# So many times `Limits.backfills` plans are screened that give units back at the end; each may be evaluated on all.
RETURNS = 2


class Scoring(Protocol):
    """The part of a Metric that the search needs."""

    higher_is_better: bool

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the metric over these samples."""
        ...

    def per_sample(self, parts: Sequence[Any]) -> NDArray[np.float64] | None:
        """Return scores whose mean is ``aggregate(parts)``, or None."""
        ...


@runtime_checkable
class MarginScoring(Scoring, Protocol):
    """The same of a metric that knows how near a quantized model was to another verdict."""

    def margins(self, parts: Sequence[Any]) -> NDArray[np.float64]:
        """Return the margin of each sample, as `Problem.margins` has it."""
        ...


@runtime_checkable
class InfluenceScoring(MarginScoring, Protocol):
    """The same of a metric that may be no mean over samples: the influence of single ones on it is measured."""

    def results(self, parts: Sequence[Any]) -> list[Any]:
        """Return what each part adds to the metric, without its margin: equal ones have the same influence."""
        ...


@dataclass(frozen=True)
class Limits:
    """Limits of a search.

    Attributes:
        max_evaluations: Most evaluations of plans, on all samples or a part of them; None for the search's own bound.
        backfills: Most plans to try that return reverted units to INT8 at the end.
        images: Number of validation sets that the whole run may take, the FP32 pass included, before refining
            (bisection, back-filling) stops; log2(units/50) more for larger networks. It does not limit finding a plan
            within the budget.
        images_screened: The same where plans can be judged on a part of the samples. (Simulated by top-1, 64 networks:
            8.2 layers reverted with 8 sets, 9.2 with 6, 13.3 with 4.3, and 12.6 by the greedy loop.) Where these are
            fewer than `FEWEST_IMAGES` samples in all it is more, ``images`` at most.
        finalists: Most plans within the budget that are timed.
    """

    max_evaluations: int | None = None
    backfills: int = 6
    images: float = 12.0
    images_screened: float = 8.0
    finalists: int = 4

    def __post_init__(self) -> None:
        if self.max_evaluations is not None and self.max_evaluations < 1:
            raise UsageError(f"max_evaluations must be 1 or more, got {self.max_evaluations}")
        if self.backfills < 0 or self.finalists < 1:
            raise UsageError(f"backfills must be 0 or more and finalists 1 or more, got {self}")

    def allowance(self, units: int, screened: int = 0) -> float:
        """Return the validation sets for a network.

        Args:
            units: Number of units.
            screened: Number of validation samples, where plans can be judged on a part of them; else 0.
        """
        few = min(max(self.images_screened, FEWEST_IMAGES / screened), self.images) if screened else self.images
        return few + max(0.0, math.log2(max(units, 1) / 50))


@dataclass(frozen=True)
class Problem:
    """Everything that a search needs to know; it knows no OpenVINO.

    Attributes:
        units: Smallest sets of layers that can be reverted, no layer in two of them.
        rank: Function ``() → units, most sensitive first``, called once if everything in INT8 misses the budget.
        baseline_parts: Parts of the FP32 model, one per validation sample.
        metric: Metric that aggregates parts.
        budget: Accuracy budget.
        evaluate: Function ``(reverted layers, sample indices) → parts`` of the INT8 model compiled without these
            layers, in the order of the indices. Calls for one plan follow each other: keep the last compiled model.
        latency: Function that times finalists interleaved, in milliseconds; None to take the finalist of the least
            `cost`.
        held_out: Indices that the search must not see; the chosen plan is confirmed on them.
        limits: Limits of the search.
        expired: Function that returns True when the time is up; called before each evaluation and at each look.
        margins: Distance of each sample from another result in FP32, in standard deviations of its outputs,
            ``(samples,)``; negative where FP32 is wrong. The nearer to 0, the smaller the error that changes the
            result: with margins, plans are screened on the doubtful samples first.
        work: Mapping from layer to its multiply-adds; empty if they are unknown.
        progress: Function that receives every step.
    """

    units: tuple[frozenset[str], ...]
    rank: Ranking
    baseline_parts: Sequence[Any]
    metric: Scoring
    budget: Budget
    evaluate: Evaluate
    latency: Latency | None = None
    held_out: Indices = field(default_factory=lambda: np.empty(0, np.int64))
    limits: Limits = field(default_factory=Limits)
    expired: Callable[[], bool] = lambda: False
    margins: NDArray[np.floating] | None = None
    work: Mapping[str, float] = field(default_factory=dict[str, float])
    progress: Callable[[SearchStepFacts], None] = lambda step: None

    def __post_init__(self) -> None:
        if not len(self.search_indices):
            raise UsageError("the validation dataset leaves no sample to search on: give more samples")
        if self.metric.higher_is_better != self.budget.higher_is_better:
            raise UsageError("the metric and the budget disagree on whether higher is better")

    @cached_property
    def search_indices(self) -> Indices:
        """All samples that the search may see, ascending."""
        return np.setdiff1d(np.arange(len(self.baseline_parts), dtype=np.int64), self.held_out)

    @cached_property
    def by_margins(self) -> bool:
        """Whether plans are judged by the samples of the smallest margins first."""
        judged = self._is_mean or isinstance(self.metric, InfluenceScoring)
        return self.margins is not None and len(self.search_indices) >= FEWEST_TO_SCREEN and judged

    @cached_property
    def _is_mean(self) -> bool:
        return self.metric.per_sample([self.baseline_parts[i] for i in self.search_indices]) is not None

    @cached_property
    def _right_or_wrong(self) -> bool:
        """Whether FP32 is right about some samples, wrong about others, and nothing in between.

        Without margins a few of such samples hold too few changes to tell plans apart. (Simulated by recall, 93
        networks: 11.5 layers reverted where plans are judged on all samples, 15.2 on parts; greedy 10.7.)
        """
        scores = self.metric.per_sample([self.baseline_parts[i] for i in self.search_indices])
        return scores is not None and np.array_equal(np.unique(scores), (0, 1))

    @cached_property
    def portions(self) -> tuple[Indices, tuple[int, ...]]:
        """The samples in the order in which a plan is evaluated on them, and how many it may be judged on; last all.

        Those of the smallest margins come first. Without margins their order is random; a plan is judged on all only
        where the metric is no mean over samples, where samples are right or wrong, or where there are few.
        """
        seen = self.search_indices
        if self.by_margins:
            signed = np.nan_to_num(np.asarray(self.margins, np.float64)[seen], posinf=1e6, neginf=-1e6)
            nearest, count = np.argsort(np.abs(signed), kind="stable"), self._doubtful(signed)
            doubled = [count * 2**i for i in range(8)]
            return seen[nearest], (*(n for n in doubled if n < MOST_OF_ALL * len(seen)), len(seen))
        if len(seen) < FEWEST_TO_PROBE or not self._is_mean or self._right_or_wrong:
            return seen, (len(seen),)
        cuts = [count for count in portions_of(len(seen)) if count >= FEWEST_PROBED]
        return shuffled(seen), (*cuts, len(seen))

    def _doubtful(self, signed: NDArray[np.float64]) -> int:
        """Return how many samples of these margins are looked at first."""
        nearest = signed[np.argsort(np.abs(signed), kind="stable")]
        sigma = math.sqrt(2 * invert(margin_forecast(signed), self.budget.max_drop)) or 1e-300
        reached = np.cumsum(change_probability(nearest, sigma))
        count = int(np.searchsorted(reached, CAUGHT * float(reached[-1]))) + 1
        least, most = (math.ceil(share * len(signed)) for share in DOUBTFUL)
        return min(max(count, least, FEWEST_DOUBTFUL), most)

    @property
    def screened(self) -> Indices:
        """The samples that plans are screened on, ascending; empty where they are judged on all samples only."""
        order, counts = self.portions
        return np.sort(order[: counts[0]]) if len(counts) > 1 else np.empty(0, np.int64)

    @property
    def allowance(self) -> float:
        """The number of validation sets that may be taken before refining stops."""
        return self.limits.allowance(len(self.units), len(self.baseline_parts) if len(self.screened) else 0)

    @property
    def layers(self) -> frozenset[str]:
        """All layers that can be reverted."""
        return frozenset[str]().union(*self.units)

    def cost(self, plan: frozenset[str]) -> float:
        """Return what it costs to have the layers of a plan in floating point: the mean of two shares of the network.

        That of its units, and that of the multiply-adds, where these are known.
        """
        shares = self._shares
        return sum(shares[unit] for unit in self.units if unit <= plan)

    @cached_property
    def _shares(self) -> dict[frozenset[str], float]:
        work = {unit: sum(self.work.get(name, 0.0) for name in unit) for unit in self.units}
        total, each = sum(work.values()), 1 / max(len(self.units), 1)
        return {unit: (work[unit] / total + each) / 2 if total else each for unit in self.units}

    def baseline(self, indices: Indices) -> float:
        """Return the FP32 metric over these samples."""
        return float(self.metric.aggregate([self.baseline_parts[i] for i in indices]))

    def losses(self, parts: Mapping[int, Any]) -> Floats | None:
        """Return the losses of these samples against FP32, in the order of their indices; None if there are none.

        Their mean over all samples is what the metric loses. Where it is judged by margins and is no mean over samples
        (F1, accuracy by class), that holds to first order: the loss of a sample is its influence, N times what the
        metric of FP32 over all samples loses where this one alone is quantized (F. R. Hampel, "The influence curve and
        its role in robust estimation", Journal of the American Statistical Association 69 (1974)).

        Args:
            parts: Mapping from sample index to part.
        """
        chosen = sorted(parts)
        before = self.metric.per_sample([self.baseline_parts[i] for i in chosen])
        after = self.metric.per_sample([parts[i] for i in chosen])
        if before is not None and after is not None:
            return before - after if self.metric.higher_is_better else after - before
        if not (self.by_margins and isinstance(self.metric, InfluenceScoring)):
            return None
        old = self.metric.results([self.baseline_parts[i] for i in chosen])
        new = self.metric.results([parts[i] for i in chosen])
        rows = zip(chosen, old, new, strict=True)
        return np.array([self._influence(i, before, after, parts[i]) for i, before, after in rows], np.float64)

    def _influence(self, index: int, old: Any, new: Any, part: Any) -> float:
        if old == new:
            return 0.0
        if (known := (repr(old), repr(new))) not in self._influences:
            others = [self.baseline_parts[i] for i in self.search_indices if i != index]
            value = float(self.metric.aggregate([*others, part]))
            loss = self.budget.loss(self.baseline(self.search_indices), value)
            self._influences[known] = len(self.search_indices) * loss
        return self._influences[known]

    @cached_property
    def _influences(self) -> dict[tuple[str, str], float]:
        return {}


def reversions(units: int) -> int:
    """Return the most evaluations that reverting along the ranking takes for so many units, about log3(2·units)."""
    count = reached = 0
    while reached < units - 1:
        reached += STRIDE**count
        count += 1
    return count


def bisections(units: int) -> int:
    """Return the most evaluations that shortening a prefix takes."""
    return math.ceil(math.log2(units)) + TRUST if units > 2 else 0


def plans_tried(units: int, limits: Limits) -> int:
    """Return the most plans that are tried between everything in INT8 and the last one."""
    return reversions(units) + bisections(units) + limits.backfills


def bound(units: int, limits: Limits | None = None, *, held_out: bool = False, screened: bool = False) -> int:
    """Return the most evaluations that `search` takes for so many units: grows with the logarithm.

    An evaluation is one plan on at most all validation samples; screening a plan, evaluating a screened one on
    all samples, and confirming on held-out samples count as one each.
    """
    limits = limits or Limits()
    if not units:
        return 0
    # Everything in INT8, plans along the ranking, bisection, back-filling, and completing an over-budget plan's figure.
    most = 1 + plans_tried(units, limits) + 1
    if screened:  # of everything in INT8, of plans on all samples, and of units given back at the end
        most += 1 + COMPLETIONS + 2 * RETURNS * limits.backfills
    if held_out:
        most += CONFIRMATIONS + (CONFIRMATIONS - 1) * reversions(units)
    return most if limits.max_evaluations is None else min(most, limits.max_evaluations)


def bound_images(problem: Problem) -> int:
    """Return the most samples that `search` runs through any model, the FP32 pass included.

    Usually far less: refining ends at `Limits.images` validation sets, and plans are rejected early.
    """
    everything, seen, unseen = len(problem.baseline_parts), len(problem.search_indices), len(problem.held_out)
    most_reversions, screened = reversions(len(problem.units)), len(problem.screened)
    allowed = math.floor(problem.allowance * everything)
    # With screening everything in INT8 and one plan are evaluated on all samples, more within the allowance only.
    # Without it either nothing fits, and the best plan's figure is completed, or what fits is refined within it.
    most = max(everything + seen * (2 if screened else 2 + most_reversions), allowed)
    if unseen:
        most += CONFIRMATIONS * unseen + (CONFIRMATIONS - 1) * most_reversions * seen
    limit = problem.limits.max_evaluations
    return most if limit is None else min(most, everything + limit * max(seen, unseen))


@dataclass(frozen=True)
class Expected:
    """Expected cost of a search, known before it begins.

    Attributes:
        evaluations: Most evaluations.
        images: Most samples run through any model, in validation sets, the FP32 pass included.
        usual_s: Seconds if everything in INT8 keeps the budget; 0 if unknown.
        most_s: Most seconds.
        samples: Number of validation samples; 0 where a function runs the model on samples of its own.
    """

    evaluations: int
    images: float
    usual_s: float
    most_s: float
    samples: int

    @property
    def sentence(self) -> str:
        """All of it in plain words."""
        evaluations = f"{self.evaluations} evaluation{'s' * (self.evaluations != 1)}"
        of_samples = (
            f"of {self.samples:,} sample{'s' * (self.samples != 1)}, {self.images:.1f} times the validation set"
        )
        each = of_samples if self.samples else f"by the function over its own samples, {self.images:.0f} calls of it"
        return (
            f"at most {evaluations} {each} in all; by the time FP32 took, about {_duration(self.usual_s)} "
            f"if INT8 keeps the budget, at most about {_duration(self.most_s)}"
        )


def expected_cost(problem: Problem, fp32_s: float) -> Expected:
    """Return what a search costs, by the seconds that one FP32 pass took over the validation set."""
    everything = len(problem.baseline_parts)
    most = bound_of(problem)
    images = bound_images(problem) / everything
    # The FP32 pass is behind us; INT8 takes less than its time, its compilations make up for it.
    return Expected(most, images, fp32_s, (images - 1) * fp32_s, everything)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 100 else f"{max(seconds, 1):.0f} s"


def bound_of(problem: Problem) -> int:
    """Return `bound` for this problem."""
    held_out, screened = bool(len(problem.held_out)), bool(len(problem.screened))
    return bound(len(problem.units), problem.limits, held_out=held_out, screened=screened)
