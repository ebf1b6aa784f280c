"""Measure models with a metric over the validation samples, and against the FP32 outputs if the metric needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from calib.accuracy.baseline import nothing_right
from calib.accuracy.budget import value_interval
from calib.config.settings import metric_names
from calib.engine.budgets import budgets_of, references_of
from calib.engine.evaluators import Evaluator, SampleEvaluator, WholeSetEvaluator, shape_of
from calib.engine.job import Job
from calib.engine.prepare import check_state, open_samples, prepare, require_allowed
from calib.errors import UsageError
from calib.graph.comparable import aligned, compared_form
from calib.loading.alike import require_same_inputs, require_same_outputs
from calib.metrics.classification import is_vector
from calib.metrics.frames import FrameMetric
from calib.metrics.metric import ByNames, Metric, WithMovedLabels, compares_parts, doubts_of, taken
from calib.metrics.resolve import resolve_metrics
from calib.metrics.several import Several, each_of
from calib.metrics.whole_set import WholeSetMetric
from calib.outputs.decoding import Decoding
from calib.runtime.session import Session, default_precision, ov, precision_config
from calib.samples.feed import feed_of
from calib.samples.open import InMemory
from calib.samples.sample import Dataset, Frames, Sample
from calib.values.compared import ComparedOutputs
from calib.values.evaluation import Evaluation, MetricValue
from calib.values.version import __version__


def open_evaluator(
    job: Job, validation: Any, against: Job | None = None, *, against_itself: bool = True
) -> Evaluator | None:
    """Resolve the metric and the validation dataset; return None if no accuracy is to be measured.

    The FP32 outputs are computed only for metrics that compare with them.

    Args:
        job: Run with the settings; its model is the FP32 model, or one that is to be measured.
        validation: Validation samples; None for those that the config file names, or those of calibration.
        against: Run whose model gives the FP32 outputs; None for the job's own.
        against_itself: Whether the job's own model may give them: it is another one that is measured.

    Raises:
        UsageError: The metric needs labels and there is no validation dataset, or it compares with another model and
            there is none, or there is one and it does not.
        MetricError: There is no such metric, or it does not fit the outputs.
    """
    metric = job.settings.judged_by
    if validation is None and job.resolved.inputs.validation:
        validation = job.resolved.inputs.validation
        require_allowed(validation, job.allow_python)
    if validation is None and metric is None and not job.settings.has_budget:
        return None
    form = compared_form(job.loaded.model, job.compared[0]) if metric is None else job.loaded.model
    outputs = [(shape_of(port), np.dtype(port.get_element_type().to_dtype())) for port in form.outputs]
    if metric is None:
        outputs = [outputs[part.output] for part in job.compared[0].parts]
    direction, place = job.settings.higher_is_better, job.resolved.places.get("metric", "")
    allowed = not place if job.allow_python is None else job.allow_python
    named = metric_names(metric) if isinstance(metric, str) else metric
    found = resolve_metrics(named, higher_is_better=direction, outputs=outputs, allow_python=allowed, place=place)
    found = _told_of_outputs(found, job.loaded.model)
    budgets_of(job.settings, found)
    _check_reference(found, against, against_itself, named=metric is not None)
    if isinstance(found, WholeSetMetric):
        if job.settings.decode is not None:
            raise UsageError(
                f"decode: {found.name} is a function that runs the model itself: decode there, or leave it out"
            )
        return WholeSetEvaluator(job, found)
    if validation is None and found.needs_target:
        raise UsageError(f"the metric {found.name} needs labelled samples: give --validation DATA (validation=…)")
    opened = job.calibration if validation is None else open_samples(job, validation)
    if opened is None:
        raise UsageError("there are no samples to measure accuracy on: give --validation DATA (validation=…)")
    decoding = _decoding(job, found)
    dataset = InMemory(opened)
    ids = tuple(dataset.choose(None))
    notes = () if validation is None else (*check_state(job, dataset, ids), *dataset.notes)
    compared, own = _compared(job, against) if compares_parts(found) else (None, None)
    notes += tuple(_targets_read(job, found, dataset, ids))
    if job.loaded.model.get_sinks():
        found = (
            Several([FrameMetric(one) for one in found.metrics]) if isinstance(found, Several) else FrameMetric(found)
        )
    references: dict[str, Any] = {}
    evaluator = SampleEvaluator(
        job,
        dataset,
        ids,
        found,
        references,
        notes,
        on_calibration=validation is None,
        compared=compared,
        compared_with=against.loaded.facts.name if against else "",
        decoding=decoding,
    )
    if found.needs_reference:
        model = (against or job).reference
        session = Session(compared_form(model, own) if own else model)
        read = replace(evaluator, compared=own).read
        references |= {sample.id: _outputs(session, sample, read) for sample in dataset.load(ids)}
    return evaluator


def _decoding(job: Job, metric: Metric) -> Decoding | None:
    """Return how outputs become what the metric takes; None if it reads them as they are."""
    if job.settings.decode is None and taken(metric) is None:
        return None
    from calib.engine.decoding import decoding_for  # here: few metrics take anything but outputs

    return decoding_for(job.loaded, job.settings, metric)


def _outputs(session: Session, sample: Sample, read: Callable[[list[Any], Sample], Any]) -> Any:
    """Return what is compared of the outputs of a sample; of a sequence a list of that of each frame."""
    feed = feed_of(sample)
    if isinstance(feed, Frames):
        return [read(outputs, sample) for outputs in session.each([feed])]
    return read(session(feed), sample)


def _targets_read(job: Job, metric: Metric, dataset: Dataset, ids: Sequence[str]) -> Iterator[str]:
    """Yield how vectors are read as targets of a metric that counts classes, and that targets have no say."""
    sizes = list(shape_of(job.loaded.model.outputs[0]))[1:] if isinstance(metric, WithMovedLabels) else []
    while len(sizes) > 1 and sizes[-1] == 1:
        sizes.pop()
    unnamed = job.settings.judged_by is None
    first = next(iter(dataset.load(ids[:1])), None) if sizes or unnamed else None
    if first is not None and first.target is not None and unnamed:
        yield (
            f"No metric was given: the targets of the validation samples have no say, and {metric.name} compares with "
            "the outputs of FP32. --metric NAME measures with them (calib help metrics)"
        )
    if first is None or not sizes or isinstance(first.target, set | frozenset | str | None):
        return
    values = np.asarray(first.target)
    if is_vector(values, sizes):
        yield (
            f"the targets are vectors of {values.shape[-1]} numbers and are read as one-hot: the class is the position "
            "of the 1"
        )


def _told_of_outputs(metric: Any, model: ov.Model) -> Any:
    """Return a metric, or several, with the names of the model's outputs told to those that look for them."""
    if isinstance(metric, Several):
        return Several([_told_of_outputs(one, model) for one in metric.metrics])
    return metric.with_names([_names_of(port) for port in model.outputs]) if isinstance(metric, ByNames) else metric


def _names_of(port: ov.Output) -> list[str]:
    """Return the names of an output: of its tensor, and of the operation that gives it."""
    maker = port.get_node().input_value(0).get_node().get_friendly_name()
    return [*sorted(port.get_names()), maker]


def _compared(job: Job, against: Job | None) -> tuple[ComparedOutputs, ComparedOutputs]:
    """Return what is compared of the models that are measured, and of the one that gives the FP32 outputs."""
    if against is None:
        return job.compared
    _, measured, own = aligned(against.loaded.model, job.reference, against.reference)
    return measured, own


def _check_reference(
    metric: Metric | WholeSetMetric, against: Job | None, against_itself: bool, *, named: bool
) -> None:
    """Refuse to compare a model with itself, and another model that nothing is compared with."""
    if metric.needs_reference and against is None and not against_itself:
        what = "" if named else "no metric was given: give one with --metric ('calib help metrics' lists them), since "
        raise UsageError(
            f"{what}the metric {metric.name} compares with the outputs of another model; against its own, every model "
            "is perfect. Give the model that this one was made from: --reference-model FILE (reference_model=…)"
        )
    if against is not None and not metric.needs_reference:
        raise UsageError(
            f"the metric {metric.name} compares with no other model: leave out --reference-model (reference_model=…), "
            "or take a metric that does: agreement, relative-l2"
        )


def reference_job(model: Any, job: Job, **asked: Any) -> Job:
    """Return the run of a model that gives the FP32 outputs that another one's are compared with.

    Args:
        model: Model, as a path or in memory.
        job: Run of the model that is measured.
        asked: Settings, as for `prepare`.

    Raises:
        UsageError: The two models take different inputs, or have outputs that can't be compared one by one.
    """
    against = prepare(model, None, need_float=False, **asked)
    require_same_inputs(against.loaded, job.loaded)
    require_same_outputs(against.loaded, job.loaded)
    return against


def evaluated(job: Job, evaluator: Evaluator | None, precision: str) -> Evaluation:
    """Measure one model on the validation dataset.

    Raises:
        UsageError: There is neither a validation dataset nor a metric.
    """
    if evaluator is None:
        raise UsageError("evaluate needs a validation dataset or a metric")
    metric = evaluator.metric
    references = references_of(job.settings, metric)
    config: Mapping[str, Any] = {} if precision == "default" else precision_config(precision)
    parts = evaluator.run(evaluator.compiled(job.reference, config), range(len(evaluator.ids)))
    each = [_value_of(*one, references) for one in each_of(metric, parts)]
    scores = metric.per_sample(parts)
    doubts = [doubt for one in each_of(metric, parts) for doubt in doubts_of(*one)]
    return Evaluation(
        calib_version=__version__,
        model=job.loaded.facts,
        validation=evaluator.source,
        **dict(each[0]),
        each=each if len(each) > 1 else [],
        samples=evaluator.counted(max(len(evaluator.ids), 0 if scores is None else len(scores))),
        precision=default_precision() if precision == "default" else precision,
        reference_model=evaluator.compared_with,
        notes=[*_guesses(evaluator, parts), *doubts, *evaluator.notes, *job.remarks],
    )


def _value_of(metric: Metric | WholeSetMetric, parts: Sequence[Any], references: Mapping[str, float]) -> MetricValue:
    """Return one metric over these samples."""
    value = float(metric.aggregate(parts))
    scores = metric.per_sample(parts)
    interval = None if scores is None else value_interval(np.asarray(scores, float), share=metric.unit == "fraction")
    return MetricValue(
        reference=references.get(metric.name),
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        unit=metric.unit,
        value=value,
        interval=(interval.low, interval.high) if interval else None,
        interval_method=interval.method if interval else "",
    )


def _guesses(evaluator: Evaluator, parts: Sequence[Any]) -> list[str]:
    """Say that a model only guesses, and whether another scale of images helps."""
    from calib.engine.scalings import guessing, tried_scalings  # here: few runs need it

    values = [(metric, float(metric.aggregate(part))) for metric, part in each_of(evaluator.metric, parts)]
    empty = [one.name for one, value in values if nothing_right(value, one.unit, one.higher_is_better)]
    if empty:
        return [
            f"{name} is 0: no sample is right, or none has targets. Check preprocessing, the numbers of the classes "
            "and how outputs are decoded (--decode)."
            for name in empty
        ]
    if not guessing(evaluator, parts):
        return []
    value, name = float(evaluator.metric.aggregate(parts)), evaluator.metric.name
    guess = f"no better than guessing ({evaluator.chance:.4g})"
    doubt = f"{name} is {value:.4g}, {guess}: check preprocessing and labels."
    return [f"{doubt} {tried_scalings(evaluator, parts)}".strip()]
