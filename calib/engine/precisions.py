"""The accuracy of one model in two precisions of its layers in floating point: where it will run, and in f32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from calib.accuracy.budget import Budget
from calib.accuracy.problem import Problem
from calib.accuracy.result import Figure, SearchResult, figure_of
from calib.engine.baseline import Baseline
from calib.engine.budgets import budget_in
from calib.engine.evaluators import Evaluator
from calib.runtime.failures import left_out
from calib.runtime.session import ov, precision_config
from calib.values.accuracy_facts import AccuracyFacts
from calib.values.facts import Status


@dataclass(frozen=True)
class InBoth:
    """The accuracy of the model that a search chose.

    Attributes:
        precision: Precision where the model will run.
        other_precision: f32, or the machine's default where f32 was asked for; "" if both are f32.
        deployed: Figure in ``precision``; None if the search was stopped before any result.
        other: Figure in ``other_precision``; None if it was not measured.
        fp32_drop: Drop of FP32 itself in the one of the two that is not f32; None if there is none.
        warnings: Sentences for the report.
    """

    precision: str
    other_precision: str = ""
    deployed: Figure | None = None
    other: Figure | None = None
    fp32_drop: float | None = None
    warnings: tuple[str, ...] = ()


def in_both(
    problem: Problem,
    evaluator: Evaluator,
    baseline: Baseline,
    result: SearchResult,
    model: Callable[[], ov.Model],
    *,
    judged: str,
) -> InBoth:
    """Measure what the search chose in the precision that it did not judge in, on the same samples.

    Args:
        problem: Problem of the search.
        evaluator: Evaluator of the search.
        baseline: FP32 baseline.
        result: Result of the search.
        model: Function that returns the model, as it is read from its file.
        judged: Precision that the search judged in.
    """
    job, figure = evaluator.job, result.headline
    reduced, warnings = job.reduced_precision, list[str]()
    if not reduced or baseline.reduced is None:
        return InBoth("f32", deployed=figure)
    indices = problem.held_out if result.held_out is not None else problem.search_indices
    own = float(baseline.evaluator.metric.aggregate([baseline.reduced[i] for i in indices.tolist()]))
    fp32_drop = problem.budget.drop(problem.baseline(indices), own)
    if result.status == "fp32_kept":  # the figure of no layers in INT8 is the baseline, which is FP32 in f32
        return InBoth("f32", reduced, figure, fp32_drop=fp32_drop)
    unjudged = "f32" if judged != "f32" else reduced
    figures: dict[str, Figure | None] = {judged: figure, unjudged: None}
    if figure is not None:
        missing = f"The drop in {unjudged} was left out, since OpenVINO can't run it"
        try:
            with left_out(missing, warnings):
                compiled = evaluator.compiled(model(), precision_config(unjudged))
                parts = evaluator.run(compiled, indices.tolist())
                figures[unjudged] = figure_of(problem, dict(zip(indices.tolist(), parts, strict=True)), indices)
        except KeyboardInterrupt:  # the best model is written all the same
            warnings.append(f"The drop in {unjudged} was not measured: the run was interrupted before.")
    precision = job.precision if figures[job.precision] else judged
    other = reduced if precision == "f32" else "f32"
    return InBoth(precision, other, figures[precision], figures[other], fp32_drop, tuple(warnings))


def one_precision(accuracy: AccuracyFacts, stopped: str = "", deployed: str = "") -> tuple[Status, str] | None:
    """Return the status, and its sentences, of a model that keeps its budget in one of the two precisions only.

    None if it keeps the budget in both or in neither, or if only f32 counts: because there is no other, or because it
    was asked for.

    Args:
        accuracy: Accuracy of the model.
        stopped: Why the search ended early.
        deployed: Precision that the model will run in, if that may not have been measured.
    """
    budget = budget_in(accuracy)
    if budget is None:
        return None
    if accuracy.precision == "f32" and deployed not in ("", "f32") and accuracy.other_drop is None:
        return _unmeasured(accuracy, budget, deployed) if budget.fits(accuracy.drop) else None
    if accuracy.other_drop is None or accuracy.precision == "f32":
        return None
    kept, kept_in_f32 = budget.fits(accuracy.drop), budget.fits(accuracy.other_drop)
    if kept == kept_in_f32:
        return None
    allowed = budget.text(budget.max_drop)
    where, early = accuracy.precision, f" The search ended early: {stopped}." if stopped else ""
    own = f", and FP32 itself {budget.text(accuracy.fp32_drop)}" if accuracy.fp32_drop is not None else ""
    if kept:
        return "within_budget_not_in_f32", (
            f"The budget of {allowed} is kept in {where}, where the model will run, but not in f32, where "
            f"it loses {budget.text(accuracy.other_drop)}: run it without INFERENCE_PRECISION_HINT=f32.{early}"
        )
    return "within_budget_in_f32_only", (
        f"The budget of {allowed} is kept in f32, but not in {where}, where the model will run: there it "
        f"loses {budget.text(accuracy.drop)}{own}. Compile it with INFERENCE_PRECISION_HINT=f32, and say so with "
        f"--float-precision f32, or allow a larger drop.{early}"
    )


def _unmeasured(accuracy: AccuracyFacts, budget: Budget, deployed: str) -> tuple[Status, str]:
    """Return the status of a model that keeps its budget in f32, of which nothing is known where it will run."""
    own = f", where FP32 itself loses {budget.text(accuracy.fp32_drop)}" if accuracy.fp32_drop is not None else ""
    return "within_budget_in_f32_only", (
        f"The budget of {budget.text(budget.max_drop)} is kept in f32. In {deployed}, where the model will run{own}, "
        f"its drop was not measured. Measure it with 'calib verify --validation DATA', or run it again with --resume."
    )


def not_by_default(accuracy: AccuracyFacts) -> list[str]:
    """Say that a budget judged in f32, because that was asked for, is not kept in the machine's default precision."""
    budget = budget_in(accuracy)
    if budget is None or accuracy.other_drop is None or accuracy.precision != "f32":
        return []
    if not budget.fits(accuracy.drop) or budget.fits(accuracy.other_drop):
        return []
    return [
        f"the budget holds in f32, which was asked for, but not in {accuracy.other_precision}, which this machine runs "
        "by default: compile the INT8 model with INFERENCE_PRECISION_HINT=f32"
    ]
