"""What a search found: figures that can be checked, and the account of what they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from calib.accuracy.budget import Budget, Indices, Interval, bootstrap_interval, noise_note, paired_interval
from calib.accuracy.ledger import Trial
from calib.accuracy.prediction import RankedUnit
from calib.accuracy.problem import Problem, Scoring
from calib.accuracy.together import Together, share_of
from calib.metrics.metric import Resampled
from calib.metrics.several import Several, each_of
from calib.values.accuracy_facts import FinalistFacts, SearchStepFacts

SearchStatus = Literal["within_budget", "over_budget", "fp32_kept"]


@dataclass(frozen=True)
class Figure:
    """The metric of a plan on some samples.

    Attributes:
        samples: Number of samples.
        baseline: Metric of FP32 on the same samples.
        value: Metric of the plan.
        drop: Drop in the budget's scale; +inf if the model gave no number.
        interval: 95 % interval of the drop in the same scale; None if the samples do not allow one.
        each: Figures of the single metrics, where there are several.
    """

    samples: int
    baseline: float
    value: float
    drop: float
    interval: Interval | None = None
    each: tuple[Figure, ...] = ()


@dataclass(frozen=True)
class SearchResult:
    """The best plan found.

    Attributes:
        status: Outcome. within_budget: the plan was evaluated on every sample and fits (on the held-out samples too, if
            there are any and the search was not stopped before). over_budget: it is the quantized model with the
            smallest drop of all that were evaluated. fp32_kept: everything is reverted.
        reason: Reason in one or two sentences.
        reverted: Layers in floating point.
        ranking: Units, most sensitive first; empty if everything in INT8 kept the budget.
        figure: Metric on the samples that the search saw; None if it was stopped before any result.
        held_out: Metric on the samples that it never saw; None without a split, or if it was stopped before.
        stopped: Why it ended early, else "".
        undecided: Whether it ended before a single plan was judged on all samples of the search.
        note: Remark if the budget is below the noise.
        evaluations: Number of evaluations of plans, on all samples or a part of them, confirmations included.
        images_evaluated: Number of samples run through any model, the FP32 pass included.
        compilations: Number of quantized models compiled.
        steps: Every evaluation in order.
        finalists: Plans within the budget that were timed; empty if there was no choice.
    """

    status: SearchStatus
    reason: str
    reverted: frozenset[str]
    ranking: tuple[RankedUnit, ...]
    figure: Figure | None
    held_out: Figure | None
    stopped: str
    undecided: bool
    note: str
    evaluations: int
    images_evaluated: int
    compilations: int
    steps: tuple[SearchStepFacts, ...]
    finalists: tuple[FinalistFacts, ...]

    @property
    def headline(self) -> Figure | None:
        """The figure to print: that of the samples the search never saw, where there are any."""
        return self.held_out or self.figure


def figure_of(problem: Problem, parts: Mapping[int, Any], indices: Indices, scale: float | None = None) -> Figure:
    """Return the figure of a plan on these samples.

    Args:
        problem: Problem with the baseline, the metric and the budget.
        parts: Mapping from sample index to part, for these samples at least.
        indices: Indices of the samples, ascending.
        scale: Number that a loss is divided by; by default that of FP32 on the same samples.
    """
    budget, metric = problem.budget, problem.metric
    before = [problem.baseline_parts[i] for i in indices]
    after = [parts[i] for i in indices.tolist()]
    if isinstance(metric, Together):
        return _largest_share(metric, after)
    if isinstance(metric, Several):
        pairs = zip(each_of(metric, before), each_of(metric, after), strict=True)
        own = [replace(budget, higher_is_better=one.higher_is_better, unit=one.unit) for one in metric.metrics]
        each = [_figure(one, allowed, old, new) for ((one, old), (_, new)), allowed in zip(pairs, own, strict=True)]
        return replace(each[0], each=tuple(each))
    return _figure(metric, budget, before, after, scale)


def _largest_share(metric: Together, parts: Sequence[Any]) -> Figure:
    """Return the figure of the metric that lost the largest share of its budget, as a share, with those of each."""
    each = [
        _figure(one, budget, before, after)
        for (one, before, after), budget in zip(metric.apart(parts), metric.budgets, strict=True)
    ]
    shares = [share_of(budget, figure.drop) for budget, figure in zip(metric.budgets, each, strict=True)]
    worst = max(range(len(shares)), key=shares.__getitem__)
    figure, budget, interval = each[worst], metric.budgets[worst], each[worst].interval
    if interval is not None:
        low, high = share_of(budget, interval.low), share_of(budget, interval.high)
        interval = Interval(low, high, f"{metric.several.metrics[worst].name}: {interval.method}")
    return Figure(figure.samples, 0.0, shares[worst], shares[worst], interval, tuple(each))


def _figure(metric: Scoring, budget: Budget, before: list[Any], after: list[Any], scale: float | None = None) -> Figure:
    """Return the figure of one metric from its parts of FP32 and of a plan."""
    baseline, value = float(metric.aggregate(before)), float(metric.aggregate(after))
    divisor = budget.scale(baseline) if scale is None else scale
    old, new = metric.per_sample(before), metric.per_sample(after)
    if old is not None and new is not None:
        interval = paired_interval(np.asarray(old, float), np.asarray(new, float), budget.higher_is_better)
        if interval is not None:
            # The baseline in the divisor of a relative drop is taken as known.
            interval = Interval(interval.low / divisor, interval.high / divisor, interval.method)
    else:
        old_of, new_of = _over_any(metric, before), _over_any(metric, after)
        interval = bootstrap_interval(lambda chosen: budget.loss(old_of(chosen), new_of(chosen)) / divisor, len(after))
    counted = len(after) if old is None else max(len(after), len(old))  # a function over a whole set is one part
    return Figure(counted, baseline, value, budget.loss(baseline, value) / divisor, interval)


def _over_any(metric: Scoring, parts: Sequence[Any]) -> Callable[[Indices], float]:
    """Return the function ``indices of parts → metric over these``."""
    if isinstance(metric, Resampled):
        return metric.resampled(parts)
    return lambda chosen: float(metric.aggregate([parts[i] for i in chosen.tolist()]))


def note_of(problem: Problem, figure: Figure | None) -> str:
    """Return the sentence on the noise of a figure, "" where the budget lies above it."""
    if figure is None or figure.interval is None:
        return ""
    return noise_note(problem.budget, figure.samples, figure.interval.half_width)


def reason_of(problem: Problem, status: SearchStatus, best: Trial | None, held_out: Figure | None, stopped: str) -> str:
    """Return what happened in one or two plain sentences.

    Args:
        problem: Problem of the search.
        status: Status of the result.
        best: Plan returned; None if there is none.
        held_out: Figure of the plan on the held-out samples; None if it was not evaluated on any.
        stopped: Why the search ended early, else "".
    """
    budget, samples = problem.budget.text(problem.budget.max_drop), len(problem.search_indices)
    early = f" The search ended early: {stopped}." if stopped else ""
    if status == "within_budget":
        unseen = " The held-out samples were not reached." if len(problem.held_out) and held_out is None else ""
        return f"The budget of {budget} is kept.{early}{unseen}"
    if status == "fp32_kept":
        return f"This is the FP32 model: there is no layer to quantize (budget {budget}).{early}"
    if best is None:
        return f"No model was evaluated.{early}"
    if held_out is not None:
        return f"The budget of {budget} was kept on the samples searched, not on the held-out ones.{early}"
    lost = problem.budget.text(best.drop)
    if undecided(best, stopped):
        loses = "is expected to lose" if best.screened else "loses"
        return (
            f"No plan was judged on all {samples} samples yet, so that the budget of {budget} is neither kept nor "
            f"missed; the best so far {loses} {lost} after {len(best.parts)} of them.{early}"
        )
    part = "" if best.complete else f", on {len(best.parts)} of {samples} samples"
    return f"No quantized model evaluated keeps the budget of {budget}; the best loses {lost}{part}.{early}"


def undecided(best: Trial | None, stopped: str) -> bool:
    """Say whether a search ended early with a plan that was judged on a part of the samples only, and not rejected."""
    return bool(stopped) and best is not None and not best.complete and (best.screened or not best.reason)
