"""Accuracy control: search for the fastest plan within the budget."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.accuracy.budget import Budget
from calib.accuracy.prediction import RankedUnit, rank
from calib.accuracy.problem import Expected, Limits, Problem, expected_cost
from calib.accuracy.result import Figure, SearchResult
from calib.accuracy.search import search
from calib.accuracy.together import Together
from calib.corrections.candidate import Candidate, identity_of
from calib.corrections.sensitivity import executed_sensitivities, executes_as_simulated, sensitivities_of
from calib.engine.baseline import Baseline, budget_of
from calib.engine.budgets import budgets_of
from calib.engine.building import Int8Model
from calib.engine.candidates import Candidates, Layers
from calib.engine.evaluators import Evaluator, SampleEvaluator, WholeSetEvaluator
from calib.engine.job import Job
from calib.engine.precisions import InBoth, in_both, not_by_default
from calib.errors import UsageError
from calib.graph.layers import multiply_accumulates
from calib.interrupts import INTERRUPTED, Interrupts
from calib.progress import Stage, recorder
from calib.report.numbers import in_unit, plural
from calib.runtime.failures import left_out
from calib.runtime.isa import saturates
from calib.samples.content import split_ids
from calib.store import RunStore, hash_of, open_store, remembered, remembered_latency
from calib.values.accuracy_facts import AccuracyFacts, MetricFacts, RankFacts, SearchStepFacts

# Most reverted layers of a plan that an event names; beyond that the report does.
NAMED = 50

# A larger budget, as a fraction, is probably one in percent.
LARGE_DROP = 0.2


@dataclass(frozen=True)
class Controlled:
    """The result of accuracy control.

    Attributes:
        built: Model to write; None for the FP32 model.
        facts: Accuracy of that model, for the report.
        result: Result of the search; None where there was no search.
        ranking: Layers by their sensitivity; empty if they did not have to be ranked.
        warnings: Sentences for the report.
        parts: Parts of the metric of that model by sample, as far as they were measured for the search.
    """

    built: Int8Model | None
    facts: AccuracyFacts
    result: SearchResult | None
    ranking: tuple[RankFacts, ...] = ()
    warnings: tuple[str, ...] = ()
    parts: Mapping[int, Any] = field(default_factory=dict[int, Any])


def control_accuracy(
    job: Job,
    whole: Int8Model,
    baseline: Baseline,
    *,
    store: str | Path | None = None,
    stage: Stage,
) -> Controlled:
    """Find the fastest plan within the budget, or the best one there is.

    Args:
        job: Run with a budget in its settings; without one the drop is measured and nothing is reverted.
        whole: Model with everything in INT8.
        baseline: FP32 baseline, with the evaluator that measures each model.
        store: Path of the file that every result is written to at once, and earlier ones are read from; None for a
            temporary file.
        stage: Receives the progress of every step.

    Raises:
        UsageError: The time was up before a single INT8 model was evaluated.
    """
    with open_store(store, resume=True) as verdicts, Interrupts() as interrupts:
        # between two samples, not while a verdict is written
        evaluator = replace(baseline.evaluator, check=interrupts.check)
        asked = _asked(job, whole, evaluator, baseline, verdicts)
        if count := verdicts.verdicts(asked.run):
            stage.say(f"resumed: {plural(count, 'verdict')} of an earlier run")
        result = search(_watched(asked, job, stage))
        if result.stopped and not result.steps:
            raise _nothing_known(result.stopped)
        controlled = _controlled(job, asked, baseline, result)
        controlled = replace(controlled, parts=verdicts.known(asked.run, result.reverted))
        if interrupts.noted:  # also where the search had ended already
            stopped = {"stopped": result.stopped or INTERRUPTED}
            controlled = replace(controlled, facts=controlled.facts.model_copy(update=stopped))
        metric: Any = evaluator.metric
        budgets = metric.budgets if isinstance(metric, Together) else (asked.problem.budget,)
        doubts = [sentence for budget in budgets for sentence in _doubts_about(budget)]
        return replace(controlled, warnings=(*baseline.warnings, *doubts, *controlled.warnings))


def _doubts_about(budget: Budget) -> list[str]:
    """Ask about a budget so large that another unit was probably meant."""
    relative, given = budget.kind == "relative", budget.max_drop
    if not (relative or budget.unit == "fraction") or not LARGE_DROP < given < sys.float_info.max:
        return []
    allowed, meant = f"{100 * given:g} percentage points", f"{given:g}pt"
    if relative:
        allowed, meant = f"{100 * given:g} % of the FP32 baseline", f"{given:g}%rel"
    return [f"the budget allows a drop of {allowed}; if that is not what you meant, give --max-drop {meant}"]


@dataclass(frozen=True)
class _Asked:
    """The problem for the search and the objects that evaluate its plans.

    Attributes:
        run: Key under which results are stored.
        problem: Problem for the search.
        expected: Upper bound on the cost of the search.
        candidates: INT8 models of the plans.
        evaluator: Evaluator of the models; it keeps margins if the baseline has them.
    """

    run: str
    problem: Problem
    expected: Expected
    candidates: Candidates
    evaluator: Evaluator


def _asked(job: Job, whole: Int8Model, evaluator: Evaluator, baseline: Baseline, verdicts: RunStore) -> _Asked:
    settings, candidate = job.settings, whole.candidate
    run = _run(job, evaluator, candidate, baseline)
    units, parts = candidate.plan.units(), baseline.parts
    if baseline.margins is not None:
        evaluator = evaluator.with_margins()
        parts = list(zip(parts, baseline.margins.tolist(), strict=True))
    candidates = Candidates(job, whole, evaluator, baseline.judged, verdicts.folder)
    problem = Problem(
        tuple(units),
        partial(_ranking, verdicts, run, job, whole, units, candidates.warnings),
        parts,
        evaluator.metric,
        budget_of(evaluator),
        remembered(verdicts, run, candidates.parts),
        # Timings differ from run to run: unless a speed-up is required, the choice is the same in every run.
        latency=None if settings.require_speedup is None else remembered_latency(verdicts, run, candidates.latency),
        held_out=_held_out(evaluator, settings.confirm_split),
        limits=Limits(max_evaluations=settings.max_evaluations if settings.has_budget else 1),
        expired=_deadline(settings.time_limit),
        margins=baseline.margins,
        work={layer.name: float(multiply_accumulates(job.of_sample, layer.name)) for layer in candidate.plan.layers},
    )
    expected = expected_cost(problem, baseline.seconds)
    expected = replace(expected, samples=evaluator.counted(expected.samples))
    return _Asked(run, problem, expected, candidates, evaluator)


def _watched(asked: _Asked, job: Job, stage: Stage) -> Problem:
    """Return the problem with progress reports to the stage: first the most it can cost, then every step."""
    problem, budget = asked.problem, ""
    record, numbers = recorder(stage), dict[frozenset[str], int]()
    if job.settings.has_budget:
        stage.say(f"search: {asked.expected.sentence}")
        budget = f" of {problem.budget.text(problem.budget.max_drop)} allowed"

    def tell(step: SearchStepFacts) -> None:
        drop = f"{step.step} of at most {asked.expected.evaluations}, drop {problem.budget.text(step.drop)}{budget}"
        stage.update(1, f"{drop}, {len(step.reverted)} of {len(problem.layers)} layers in floating point")
        if step.kind == "int8":
            stage.say(_of_everything(step, problem, budget, asked.evaluator.counted(step.samples)))
        numbers[frozenset(step.reverted)] = step.step
        if record is not None:
            record("search", _point(step, problem, asked.expected, budgeted=bool(budget)))

    def timed(plans: Sequence[frozenset[str]]) -> Sequence[float]:
        assert problem.latency is not None and record is not None
        found = list(problem.latency(plans))
        rows = [
            {"step": numbers.get(plan), "reverted": len(plan), "latency_ms": float(ms)}
            for plan, ms in zip(plans, found, strict=True)
        ]
        record("timed", {"plans": rows})
        return found

    latency = problem.latency if problem.latency is None or record is None else timed
    return replace(problem, progress=tell, latency=latency)


def _of_everything(step: SearchStepFacts, problem: Problem, allowed: str, samples: int) -> str:
    """Return the line on the model with everything in INT8, once it was evaluated on so many samples; 0 if unknown."""
    metric: Any = problem.metric
    drop = f"drop {problem.budget.text(step.drop)}{allowed}"
    if step.samples < len(problem.search_indices):  # of such a choice the metric's own value tells nothing
        return f"INT8: {drop}, expected from {plural(samples, 'sample')} near to another answer"
    value = "" if isinstance(metric, Together) else f"{metric.name} {in_unit(metric.unit, step.value)}, "
    return f"INT8: {value}{drop}" + (f", on {plural(samples, 'sample')}" if samples else "")


def _point(step: SearchStepFacts, problem: Problem, expected: Expected, *, budgeted: bool) -> dict[str, Any]:
    """Return a plan evaluated as data: ``reverted`` is a number, and ``layers`` names them where they are few.

    ``drop``, ``interval`` and ``budget`` are in ``unit``, or fractions of the baseline where ``drop_kind`` is relative;
    ``text`` gives the drop as it is printed.
    """
    budget = problem.budget
    return {
        **step.model_dump(),
        "reverted": len(step.reverted),
        "layers": step.reverted if len(step.reverted) <= NAMED else [],
        "of_layers": len(problem.layers),
        "at_most": expected.evaluations,
        "most_s": expected.most_s,
        "budget": budget.max_drop if budgeted else None,
        "drop_kind": budget.kind,
        "unit": budget.unit,
        "text": budget.text(step.drop),
    }


def _run(job: Job, evaluator: Evaluator, candidate: Candidate, baseline: Baseline) -> str:
    """Return a hash of everything that a stored result depends on: the models of all plans, the samples and the metric.

    Budgets, limits and the split are left out: they decide which plans are evaluated, not with what result.
    """
    kept = "margins" if baseline.margins is not None else ""
    return hash_of(
        [
            kept,
            job.loaded.facts.fingerprint,
            identity_of(candidate),
            baseline.contents,
            baseline.judged,
            job.precision,
            *evaluator.identity(),
        ]
    )


def _nothing_known(why: str) -> BaseException:
    """Return the error of a search that was stopped before its first result: there is no best model then."""
    if why == INTERRUPTED:
        return KeyboardInterrupt()
    return UsageError(f"{why} before a single INT8 model was evaluated; raise --time-limit, or leave out the budget")


def _ranking(
    store: RunStore, run: str, job: Job, whole: Int8Model, units: Sequence[Layers], warnings: list[str]
) -> tuple[RankedUnit, ...]:
    """Return the units, most sensitive first; read them from the store if they were ranked before.

    They are ranked in a simulation, which does not show that this CPU's INT8 sums saturate: where they can, and the
    whole INT8 model gives clearly other outputs than its simulation, the units are run as well.
    """
    ids = job.ids[: job.settings.rank_samples]
    key = f"{run}/{hash_of([*ids, 'executed'] if saturates(whole.candidate.plan) else ids)}"
    if (known := store.ranking(key)) is None:
        ranked = ranked_units(job, whole, units, warnings)
        store.keep_ranking(key, [(unit.layers, unit.sensitivity) for unit in ranked])
        known = store.ranking(key)
    return tuple(RankedUnit(*row) for row in known or ())


def ranked_units(job: Job, whole: Int8Model, units: Sequence[Layers], warnings: list[str]) -> tuple[RankedUnit, ...]:
    """Return the units, most sensitive first, measured; in their order if OpenVINO can't, which the warnings say."""
    candidate, feeds, form = whole.candidate, job.feeds(job.ids[: job.settings.rank_samples]), job.compared[0]
    given: dict[str, Any] = {"streams": job.streams, "compared": form}
    sensitivities = dict.fromkeys(units, 1.0)
    missing = "The layers were not ranked, and go back in their order, since OpenVINO can't run what ranks them"
    with left_out(missing, warnings):
        sensitivities = sensitivities_of(candidate, units, feeds, memory_limit=job.settings.memory_limit, **given)
        explained = partial(executes_as_simulated, whole=(whole.model, whole.compiled))
        if saturates(candidate.plan) and not explained(candidate, feeds, **given):
            sensitivities = executed_sensitivities(candidate, sensitivities, feeds, **given)
    return rank(units, sensitivities)


def _held_out(evaluator: Evaluator, share: float) -> NDArray[np.int64]:
    if not share or not isinstance(evaluator, SampleEvaluator):
        return np.empty(0, np.int64)
    held = frozenset(split_ids(evaluator.ids, share, "confirm")[1])
    return np.array([index for index, name in enumerate(evaluator.ids) if name in held], np.int64)


def _deadline(limit: float | None) -> Callable[[], bool]:
    end = time.monotonic() + (math.inf if limit is None else limit)
    return lambda: time.monotonic() > end


def _why_no_interval(evaluator: Evaluator, figure: Figure | None) -> str:
    """Return why a figure has no interval, "" if it has one."""
    if figure is None or figure.interval is not None:
        return ""
    if not evaluator.counted(figure.samples):
        return "no interval: the function returns one number and no score for each sample"
    return "no interval: one sample" if figure.samples == 1 else "no interval: not every sample has a finite score"


def _controlled(job: Job, asked: _Asked, baseline: Baseline, result: SearchResult) -> Controlled:
    """Return the model that the search chose, with its accuracy where it will run and in the other precision."""
    problem, metric, candidates = asked.problem, asked.evaluator.metric, asked.candidates
    shipped = partial(candidates.shipped, result.reverted)
    both = in_both(problem, asked.evaluator, baseline, result, shipped, judged=candidates.precision)
    built = None if result.status == "fp32_kept" else candidates.built(result.reverted)
    both, built, names, said = _with_marks(asked, result, both, built)
    figure, interval = both.deployed, both.deployed.interval if both.deployed else None
    facts = AccuracyFacts(
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        unit=metric.unit,
        baseline=figure.baseline if figure else problem.baseline(problem.search_indices),
        quantized=figure.value if figure else float("nan"),
        drop=figure.drop if figure else float("nan"),
        drop_kind=problem.budget.kind,
        interval=(interval.low, interval.high) if interval else None,
        interval_method=interval.method if interval else "",
        interval_note=_why_no_interval(asked.evaluator, figure),
        budget=problem.budget.max_drop if job.settings.has_budget else None,
        samples=asked.evaluator.counted(figure.samples) if figure else 0,
        confirmed_samples=len(problem.held_out) if result.held_out is not None else 0,
        each=_each(asked.evaluator, both, budgeted=job.settings.has_budget),
        precision=both.precision,
        other_precision=both.other_precision,
        other_drop=both.other.drop if both.other else None,
        fp32_drop=both.fp32_drop,
        kept_in_f32=list(names),
        note=result.note if job.settings.has_budget else "",
        stopped=result.stopped,
        undecided=result.undecided,
        images_evaluated=0 if isinstance(asked.evaluator, WholeSetEvaluator) else result.images_evaluated,
        compilations=result.compilations,
        bound_evaluations=asked.expected.evaluations,
        bound_s=asked.expected.most_s,
    )
    noted = [note for note in asked.evaluator.notes if note not in job.warnings]
    warnings = (*noted, *candidates.warnings, *both.warnings, *said, *not_by_default(facts))
    ranked = tuple(RankFacts(layers=sorted(unit.layers), sensitivity=unit.sensitivity) for unit in result.ranking)
    return Controlled(built, facts, result, ranked, warnings)


def _each(evaluator: Evaluator, both: InBoth, *, budgeted: bool) -> list[MetricFacts]:
    """Return each of several metrics with its budget; empty where there is only one."""
    if both.deployed is None or not both.deployed.each:
        return []
    metric: Any = evaluator.metric
    several = metric.several if isinstance(metric, Together) else metric
    others = both.other.each if both.other else [None] * len(several.metrics)
    rows = zip(several.metrics, budgets_of(evaluator.job.settings, several), both.deployed.each, others, strict=True)
    return [
        MetricFacts(
            metric=one.name,
            higher_is_better=one.higher_is_better,
            unit=one.unit,
            baseline=figure.baseline,
            quantized=figure.value,
            drop=figure.drop,
            drop_kind=budget.kind,
            interval=(figure.interval.low, figure.interval.high) if figure.interval else None,
            interval_method=figure.interval.method if figure.interval else "",
            budget=budget.max_drop if budgeted else None,
            other_drop=other.drop if other else None,
        )
        for one, budget, figure, other in rows
    ]


def _with_marks(
    asked: _Asked, result: SearchResult, both: InBoth, built: Int8Model | None
) -> tuple[InBoth, Int8Model | None, tuple[str, ...], tuple[str, ...]]:
    """Return accuracy, model, operations marked to run in f32, and sentences; the same where no mark is needed."""
    problem = asked.problem
    if built is None or both.precision == "f32":
        return both, built, (), ()
    from calib.engine.precise_marks import in_f32_only, marked  # here: only CPUs with bf16 or f16 need it

    if not in_f32_only(problem.budget, both):
        return both, built, (), ()
    indices = problem.held_out if result.held_out is not None else problem.search_indices
    found = marked(problem, asked.evaluator, built, both, indices)
    return found.both, found.built, found.names, found.warnings
