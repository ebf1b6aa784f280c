"""Measure the FP32 baseline: the accuracy that every other model is compared with, checked before calibration."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.accuracy.baseline import check_baseline, labels_moved
from calib.accuracy.budget import Budget
from calib.accuracy.together import Together, paired
from calib.engine.budgets import budgets_of, references_of
from calib.engine.evaluators import Evaluator, SampleEvaluator
from calib.errors import BaselineError
from calib.interrupts import Interrupts
from calib.metrics.metric import doubts_of
from calib.metrics.several import Several, each_of
from calib.progress import Stage, recorder
from calib.report.numbers import in_unit, plural
from calib.runtime.failures import left_out
from calib.runtime.session import precision_config
from calib.store import FP32_RUN, RunStore, hash_of, open_store, remembered


@dataclass(frozen=True)
class Baseline:
    """Results of the FP32 model on the validation samples.

    Attributes:
        evaluator: Evaluator that measured it, and measures every other model.
        parts: Parts of the metric, one per sample.
        moved: The same with labels moved by −1 and +1; empty if the metric has no labels to move.
        margins: Distance of each sample from another result, ``(samples,)``; None if the metric does not give it.
        marks: The `calib.samples.content.mark` of each sample; empty for a function that reads its own.
        seconds: Duration of the pass.
        warnings: Sentences for the report.
        reduced: Parts of the same model run in `Job.reduced_precision`; None where there is none.
        judged: Precision that INT8 models are searched in: `Job.precision`, or f32 where FP32 itself misses the budget
            in that, since no reverted layer helps there.
    """

    evaluator: Evaluator
    parts: Sequence[Any]
    moved: Sequence[Any]
    margins: NDArray[np.float64] | None
    marks: tuple[str, ...]
    seconds: float
    warnings: tuple[str, ...] = ()
    reduced: Sequence[Any] | None = None
    judged: str = "f32"

    @property
    def contents(self) -> str:
        """Hash of all samples and their targets."""
        return hash_of(self.marks)


def measure_baseline(evaluator: Evaluator, *, store: str | Path | None, resume: bool, stage: Stage) -> Baseline:
    """Return the accuracy of FP32, from the store if it is known there.

    Args:
        evaluator: Evaluator that measures each model.
        store: Path of the file that every result is written to at once; None for a temporary file.
        resume: Whether to continue from the results in the store, which are deleted otherwise.
        stage: Receives remarks.

    Raises:
        BaselineError: It can't be right.
    """
    with open_store(store, resume) as results, Interrupts() as interrupts:
        checked = replace(evaluator, check=interrupts.check)  # between two samples, not while a result is written
        baseline = _measured(results, checked, stage)
        if evaluator.job.reduced_precision:
            missing: list[str] = []
            what = f"The loss of FP32 itself in {evaluator.job.reduced_precision} is unknown, and everything was judged"
            with left_out(f"{what} in f32, since OpenVINO can't run it", missing):
                baseline = replace(baseline, reduced=_reduced(results, baseline))
            baseline = replace(baseline, warnings=(*baseline.warnings, *missing))
    baseline = replace(baseline, evaluator=evaluator, warnings=(*baseline.warnings, *_doubts(baseline)))
    data = _as_data(baseline)
    if (record := recorder(stage)) is not None:
        record("baseline", data)
    values = ", ".join(f"{row['metric']} {in_unit(row['unit'], row['value'])}" for row in data["metrics"])
    samples = f"on {plural(data['samples'], 'sample')}" if data["samples"] else "by the function over its own samples"
    stage.say(f"FP32: {values} {samples}")
    _check(baseline)
    return _judged(_together(baseline), stage)


def _doubts(baseline: Baseline) -> list[str]:
    """Return what makes the values of the metrics doubtful."""
    return [doubt for one in each_of(baseline.evaluator.metric, baseline.parts) for doubt in doubts_of(*one)]


def _as_data(baseline: Baseline) -> dict[str, Any]:
    """Return the value of each metric, for whoever draws it."""
    evaluator = baseline.evaluator
    rows = [
        {
            "metric": metric.name,
            "value": float(metric.aggregate(parts)),
            "unit": metric.unit,
            "higher_is_better": metric.higher_is_better,
        }
        for metric, parts in each_of(evaluator.metric, baseline.parts)
    ]
    return {"metrics": rows, "samples": evaluator.counted(len(evaluator.ids))}


def _together(baseline: Baseline) -> Baseline:
    """Return the baseline against which several metrics with a budget each are judged as one, see `Together`."""
    evaluator, parts = baseline.evaluator, baseline.parts
    several = evaluator.metric
    if not isinstance(several, Several) or not evaluator.job.settings.has_budget:
        return baseline
    assert isinstance(evaluator, SampleEvaluator), "a function over the whole set is measured alone"
    together = Together(several, budgets_of(evaluator.job.settings, several))
    return replace(
        baseline,
        evaluator=replace(evaluator, metric=together, before=parts),
        parts=paired(parts, parts),
        moved=(),
        reduced=None if baseline.reduced is None else paired(baseline.reduced, parts),
    )


def _check(baseline: Baseline) -> None:
    """Refuse a baseline that can't be right; where FP32 only guesses, say whether another scale of images helps.

    Raises:
        BaselineError: It can't be right.
    """
    evaluator = baseline.evaluator
    references = references_of(evaluator.job.settings, evaluator.metric)
    each = each_of(evaluator.metric, baseline.parts)
    try:
        for number, (metric, parts) in enumerate(each):
            first = number == 0  # what is known of labels is of the first of several
            moved = labels_moved(evaluator.metric, baseline.moved) if baseline.moved else None
            check_baseline(
                float(metric.aggregate(parts)),
                metric.name,
                metric.unit,
                samples=len(evaluator.ids),
                higher_is_better=metric.higher_is_better,
                chance=evaluator.chance if first else None,
                reference=references.get(metric.name),
                alone=len(each) == 1,
                with_labels_shifted=moved if first else None,
            )
    except BaselineError as error:
        from calib.engine.scalings import guessing, tried_scalings  # here: no run that goes on needs it

        tried = tried_scalings(evaluator, baseline.parts) if guessing(evaluator, baseline.parts) else ""
        raise BaselineError(*error.lines, *([tried] if tried else []), *_doubts(baseline)) from error


def budget_of(evaluator: Evaluator) -> Budget:
    """Return the budget of the settings; of several metrics those of all as one.

    Without any, everything is allowed: the drop is measured, nothing is reverted.
    """
    metric = evaluator.metric
    return metric.budget if isinstance(metric, Together) else budgets_of(evaluator.job.settings, metric)[0]


def _reduced(store: RunStore, baseline: Baseline) -> list[Any]:
    """Run FP32 in the job's reduced precision, or take its results from the store."""
    evaluator, job = baseline.evaluator, baseline.evaluator.job

    def run(_: frozenset[str], indices: NDArray[np.int64]) -> list[Any]:
        compiled = evaluator.compiled(job.reference, precision_config(job.reduced_precision))
        return evaluator.run(compiled, indices.tolist())

    key = [job.loaded.facts.fingerprint, baseline.contents, job.reduced_precision, *evaluator.identity()]
    everything = np.arange(len(evaluator.ids), dtype=np.int64)
    return list(remembered(store, FP32_RUN + hash_of(key), run)(frozenset(), everything))


def _judged(baseline: Baseline, stage: Stage) -> Baseline:
    """Choose the precision that the search judges in, and say so where FP32 itself misses the budget."""
    metric, job, budget = baseline.evaluator.metric, baseline.evaluator.job, budget_of(baseline.evaluator)
    if baseline.reduced is None or job.precision == "f32":
        return baseline
    lost = budget.drop(float(metric.aggregate(baseline.parts)), float(metric.aggregate(baseline.reduced)))
    if budget.fits(lost):
        return replace(baseline, judged=job.precision)
    text = (
        f"FP32 itself loses {budget.text(lost)} in {job.precision}, over the budget of {budget.text(budget.max_drop)}, "
        "so that no reverted layer helps there; the search judges in f32 instead, and operations are marked to stay in "
        "f32 if that keeps the budget. Otherwise run the model in f32 (--float-precision f32, and "
        "INFERENCE_PRECISION_HINT=f32 where it runs), or allow a larger drop"
    )
    stage.say(text)
    return replace(baseline, warnings=(*baseline.warnings, text))


def _measured(store: RunStore, evaluator: Evaluator, stage: Stage) -> Baseline:
    """Run FP32, or take its results from the store if samples and targets are unchanged."""
    key = FP32_RUN + hash_of([evaluator.job.loaded.facts.fingerprint, *evaluator.identity()])
    everything = np.arange(len(evaluator.ids), dtype=np.int64)
    known: dict[str, Any] | None = store.get(key, "baseline")
    warnings: list[str] = []
    if known is not None:
        marks = evaluator.marks()
        changed = [i for i, mark in enumerate(marks) if mark != known["marks"][i]]
        if changed:
            warnings.append(
                f"the validation data are not what they were in the run to resume: {len(changed)} of {len(marks)} "
                f"samples, {evaluator.ids[changed[0]]} first, have other contents or targets; "
                "everything is evaluated anew"
            )
            stage.say(warnings[0])
            known = None
    if known is not None and len(store.known(f"{key}/{hash_of(known['marks'])}", frozenset())) < len(everything):
        known = None  # the store has lost what was measured
    if known is None:
        started = time.perf_counter()
        rows, marks = evaluator.baseline()
        known = {"marks": marks, "seconds": time.perf_counter() - started}
        store.keep_verdict(f"{key}/{hash_of(marks)}", frozenset(), everything, rows)
        store.put(key, "baseline", known)
    rows = store.known(f"{key}/{hash_of(known['marks'])}", frozenset())
    parts, moved, margins = zip(*(rows[i] for i in everything.tolist()), strict=True)
    return Baseline(
        evaluator,
        parts,
        moved if None not in moved else (),
        np.array(margins, np.float64) if None not in margins else None,
        tuple(known["marks"]),
        known["seconds"],
        tuple(warnings),
    )
