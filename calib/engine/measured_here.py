"""Measure a written model on this machine: what its layers execute in, its drop and its speed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calib.accuracy.budget import Budget
from calib.accuracy.problem import Problem
from calib.accuracy.result import figure_of
from calib.engine.bench import random_feed
from calib.engine.budgets import budget_in
from calib.engine.building import executed_in, listed
from calib.engine.evaluators import Evaluator, SampleEvaluator
from calib.engine.job import Job
from calib.engine.layer_facts import layer_facts
from calib.engine.promises import (
    executed_precision,
    promised_drop,
    promised_precision,
    promises_budget,
)
from calib.errors import UsageError
from calib.graph.view import GraphView
from calib.loading.load import Loaded, input_specs
from calib.metrics.metric import Metric
from calib.metrics.several import each_of
from calib.metrics.whole_set import WholeSetMetric
from calib.runtime.session import F32, precision_config
from calib.runtime.timing import TimedModel, measure_speed, time_models
from calib.samples.feed import feed_of
from calib.values.accuracy_facts import AccuracyFacts
from calib.values.facts import Report, SpeedFacts
from calib.values.verification import AccuracyVerification, LayerVerification

Parts = Sequence[Any]  # of a metric, one per sample

SECONDS = 2.0  # of timing, compilation apart
TIMED = 4  # samples that are timed with


def layers_here(job: Job, report: Report, written: Loaded) -> list[LayerVerification]:
    """Return what each layer executes in here, with what the report says of it."""
    view = GraphView(written.model)
    bare = listed(written, view)
    executed = executed_in(written.model, view, bare, precision_config(job.precision))
    here = {fact.name: fact for fact in layer_facts(view, bare, executed)}
    found: list[LayerVerification] = []
    for layer in report.layers:
        promised, fact = promised_precision(layer), here.get(layer.name)
        found.append(
            LayerVerification(
                name=layer.name,
                type=layer.type,
                promised=promised,
                executed=executed_precision(fact) if fact else "",
                primitive=fact.primitive if fact else "",
                kept=promised != "i8" or (fact is not None and executed_precision(fact) == "i8"),
            )
        )
    return found


def accuracy_here(
    job: Job,
    report: Report,
    promised: AccuracyFacts | None,
    written: Loaded,
    evaluator: Evaluator | None,
    fp32: Path | None,
) -> list[AccuracyVerification]:
    """Measure the written model where it will run and in f32, against FP32 in f32."""
    if evaluator is None or (fp32 is None and promised is None):
        return []
    everything = range(len(evaluator.ids))
    baseline = evaluator.run(evaluator.compiled(job.reference, F32), everything) if fp32 else None
    found: list[AccuracyVerification] = []
    for precision in dict.fromkeys((job.precision, "f32")):
        deployed = precision == job.precision
        config = precision_config(precision)
        parts = evaluator.run(evaluator.compiled(written.reference, config), everything)
        own = None
        if baseline is not None and precision != "f32":
            own = evaluator.run(evaluator.compiled(job.reference, config), everything)
        for number, (metric, after) in enumerate(each_of(evaluator.metric, parts)):
            promise = promised.separately()[number] if promised else None
            before, itself = (
                None if them is None else each_of(evaluator.metric, them)[number][1] for them in (baseline, own)
            )
            allowed = budget_in(promise) if promise else None
            drops = _drops(metric, promise, before, after, itself)
            found.append(
                AccuracyVerification(
                    precision=precision,
                    deployed=deployed,
                    metric=metric.name,
                    higher_is_better=metric.higher_is_better,
                    unit=metric.unit,
                    drop_kind=promise.drop_kind if promise else "absolute",
                    samples=len(everything),
                    promised_drop=promised_drop(promise, deployed=deployed) if promise else None,
                    budget=allowed.max_drop if allowed else None,
                    promised=promise is not None and promises_budget(report, promise, deployed=deployed),
                    kept=allowed is None or allowed.fits(drops["drop"]),
                    **drops,
                )
            )
    return found


def _drops(
    metric: Metric | WholeSetMetric,
    promised: AccuracyFacts | None,
    baseline: Parts | None,
    parts: Parts,
    own: Parts | None,
) -> dict[str, Any]:
    """Return value, baseline and drop of the written model, and the drop of FP32 itself.

    Args:
        metric: Metric that they are of.
        promised: Accuracy in the report; its baseline stands in for a missing one.
        baseline: Parts of FP32 in f32; None where it is missing.
        parts: Parts of the written model.
        own: Parts of FP32 in the same precision as ``parts``; None where it is missing, or for f32.
    """
    budget = Budget(0.0, promised.drop_kind if promised else "absolute", metric.higher_is_better)
    if baseline is None:
        assert promised is not None, "without both there is nothing to compare with"
        value = float(metric.aggregate(parts))
        return {
            "baseline": promised.baseline,
            "quantized": value,
            "drop": budget.drop(promised.baseline, value),
        }
    problem = Problem((), lambda: (), baseline, metric, budget, lambda reverted, indices: [])
    figure = figure_of(problem, dict(enumerate(parts)), problem.search_indices)
    lost = None if own is None else figure_of(problem, dict(enumerate(own)), problem.search_indices).drop
    return {
        "baseline": figure.baseline,
        "quantized": figure.value,
        "drop": figure.drop,
        "interval": (figure.interval.low, figure.interval.high) if figure.interval else None,
        "fp32_drop": lost,
    }


def speed_here(
    job: Job, written: Loaded, evaluator: Evaluator | None, fp32: Path | None
) -> tuple[float | None, SpeedFacts | None, list[str]]:
    """Return the latency of the written model, its speed against FP32 if that is there, and notes."""
    notes: list[str] = []
    if isinstance(evaluator, SampleEvaluator):
        feeds = [feed_of(sample) for sample in evaluator.dataset.load(evaluator.ids[:TIMED])]
    else:
        try:
            feeds = [random_feed(input_specs(written.model))]
        except UsageError as error:
            return None, None, [f"The speed was not measured: {error}"]
        notes.append("Timed with random numbers: times that depend on the data need --validation.")
    if fp32 is not None and written.quantized:
        facts = measure_speed(job.reference, written.reference, feeds, precision=job.precision, seconds=SECONDS).facts
        return facts.latency_int8_ms, facts, [*notes, facts.note]
    alone = TimedModel("written", written.reference, precision_config(job.precision))
    times = time_models([alone], feeds, seconds=SECONDS)
    return times.time_ms("written"), None, [*notes, times.note]
