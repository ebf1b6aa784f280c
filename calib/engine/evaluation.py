"""Measure models with a metric over the validation samples, and against the FP32 outputs if the metric needs them."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from calib.accuracy.baseline import BaselineMetric, MarginMetric
from calib.engine.job import Job, check_state, open_samples, prepare, require_allowed
from calib.errors import CalibError, UsageError
from calib.graph.comparable import aligned, compared_form
from calib.loading.inputs import ShapeCheck
from calib.loading.load import input_specs, require_same_inputs
from calib.metrics.classification import is_vector
from calib.metrics.frames import FrameMetric
from calib.metrics.metric import ByParts, Metric, WithChance, WithMovedLabels
from calib.metrics.resolve import resolve_metric
from calib.metrics.whole_set import WholeSetMetric
from calib.runtime.evaluate import accept_any_feed, evaluate_compiled, measure_sample
from calib.runtime.isa import cpu, get_isa, run_as
from calib.runtime.session import F32, Session, compile_model, default_precision, ov, precision_config
from calib.runtime.temporary import temporary_folder
from calib.samples.content import content_id, target_id
from calib.samples.feed import arrays_of, feed_of
from calib.samples.open import InMemory
from calib.samples.sample import Dataset, Frames, Sample
from calib.values.compared import ComparedOutputs
from calib.values.evaluation import Evaluation
from calib.values.version import __version__


@dataclass(frozen=True)
class SampleEvaluator:
    """Measures a model one validation sample at a time.

    Attributes:
        ids: Ids of the validation samples, in order.
        references: FP32 outputs by sample id, or their parts, for metrics that compare with them; of a sequence a list
            of those of each frame.
        notes: Sentences on the samples.
        check: Function called between two samples; it raises an error if the run has to end.
        on_calibration: Whether the samples are those of calibration, because no others were given.
        compared: Parts that the metric takes of the models that are measured; None if it takes their own outputs.
        compared_with: Name of the model that the FP32 outputs are from; empty if it is the one of the job.
    """

    job: Job
    dataset: Dataset
    ids: tuple[str, ...]
    metric: Metric | MarginMetric
    references: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    check: Callable[[], None] = lambda: None
    on_calibration: bool = False
    compared: ComparedOutputs | None = None
    compared_with: str = ""

    @property
    def source(self) -> str:
        """Description of where the samples come from."""
        return self.dataset.source

    def counted(self, samples: int) -> int:
        """Return the number of samples that a figure is from, given how many the search counted."""
        return samples

    @property
    def classes(self) -> int | None:
        """Number of classes that the metric tells apart; None if unknown, or if it is not of classes."""
        sizes = list(_shape(self.job.loaded.model.outputs[0])[1:])
        while len(sizes) > 1 and sizes[-1] == 1:
            sizes.pop()
        return sizes[-1] if sizes and isinstance(self.metric, WithChance) else None

    @property
    def chance(self) -> float | None:
        """Value of the metric for random guesses; None if unknown."""
        return self.metric.chance(self.classes) if isinstance(self.metric, WithChance) and self.classes else None

    def with_margins(self) -> Self:
        """Return the same evaluator with parts that also hold the margin of each sample."""
        return replace(self, metric=MarginMetric(self.metric))

    def compiled(self, model: ov.Model, config: Mapping[str, Any]) -> ov.CompiledModel:
        """Compile a model for `run`, with one stream for each sample that runs at the same time."""
        form = model if self.compared is None else compared_form(model, self.compared)
        return compile_model(form, config, streams=self.job.streams)

    def run(self, compiled: ov.CompiledModel, indices: Sequence[int]) -> list[Any]:
        """Return the metric's parts of these samples, in their order."""
        samples = map(self._checked, self.dataset.load([self.ids[i] for i in indices]))
        parts = self.compared.values if self.compared is not None else list
        return evaluate_compiled(compiled, samples, self.metric, self.references, parts)

    def baseline(self) -> tuple[list[Any], list[str]]:
        """Run FP32 once; return the row of `BaselineMetric` and the `mark` of each sample.

        If the metric compares with FP32 outputs, those outputs serve as the baseline's and there is no second pass.
        """
        marks: list[str] = []
        samples = map(self._checked, _marked(self.dataset.load(self.ids), marks))
        metric: Any = BaselineMetric(self.metric)
        if not self.references:
            return evaluate_compiled(self.compiled(self.job.reference, F32), samples, metric), marks
        known = self.references
        rows = [measure_sample(metric, known[sample.id], sample, known, i) for i, sample in enumerate(samples)]
        return rows, marks

    def marks(self) -> list[str]:
        """Return each sample's `mark`; this loads every sample but runs no model."""
        marks: list[str] = []
        for _ in _marked(self.dataset.load(self.ids), marks):
            pass
        return marks

    def identity(self) -> list[Any]:
        """Return everything that the parts depend on besides the model and the contents of the samples."""
        parts = self.compared.names if self.compared is not None else []
        own: Any = self.metric
        while isinstance(own, FrameMetric | MarginMetric):
            own = own.metric
        return [self.source, self.ids, *parts, *_identity(self.job, self.metric, _code(type(own)))]

    def _checked(self, sample: Sample) -> Sample:
        self.check()
        return sample


@dataclass(frozen=True)
class WholeSetEvaluator:
    """Measures a model by one call of the user's function, which runs it over samples of its own.

    A search sees it as a dataset of one sample: there is no way to run it on fewer samples or to hold some out.

    Attributes:
        check: Function called before the metric; it raises an error if the run has to end.
    """

    job: Job
    metric: WholeSetMetric
    check: Callable[[], None] = lambda: None

    source = ""
    ids = ("",)
    notes = ()
    chance = None
    compared_with = ""

    def counted(self, samples: int) -> int:
        """Return the number of scores that the function returned; 0 if it returned one number for all its samples."""
        return samples if samples > 1 else 0

    def with_margins(self) -> Self:
        """Return the evaluator itself: a function over the whole set gives no margins."""
        return self

    def compiled(self, model: ov.Model, config: Mapping[str, Any]) -> ov.CompiledModel:
        """Compile a model for `run`: one stream, since the function asks for one sample at a time."""
        return compile_model(model, config)

    def run(self, compiled: ov.CompiledModel, indices: Sequence[int]) -> list[Any]:
        """Return the only part: the function's value and its scores per sample, if it returned any."""
        self.check()
        model = self.job.loaded.model
        splits = {"splits": self.job.first_axis} if self.job.first_axis else {}
        predict = accept_any_feed(Session.of(compiled).each, input_specs(model), ShapeCheck(model), **splits)
        value, scores = self.metric.evaluate(predict)
        return [(value, None if scores is None else scores.tolist())]

    def baseline(self) -> tuple[list[Any], list[str]]:
        """Run FP32 once; return the only row (part, no moved labels, no margin) and no marks."""
        parts = self.run(self.compiled(self.job.reference, F32), [0])
        return [[part, None, None] for part in parts], []

    def marks(self) -> list[str]:
        """Return no marks: the samples that the function reads are not known."""
        return []

    def identity(self) -> list[Any]:
        """Return everything that the function's value depends on besides the model."""
        return [self.source, self.ids, *_identity(self.job, self.metric, _code(self.metric.function))]


Evaluator = SampleEvaluator | WholeSetEvaluator


def _identity(job: Job, metric: Any, code: str) -> list[Any]:
    blocks = {name: block.model_dump() for name, block in job.settings.preprocessing.items()}
    return [blocks, metric.name, bool(metric.higher_is_better), code, ov.get_version(), cpu().name]


def mark(sample: Sample) -> str:
    """Return a hash of a sample's feed and target, which changes if a label or a pixel changes."""
    return f"{content_id(arrays_of(sample))[:16]}{target_id(sample.target)}"


def content_of(mark: str) -> str:
    """Return the part of a `mark` that depends on the feed alone."""
    return mark[:16]


def _marked(samples: Iterable[Sample], marks: list[str]) -> Iterator[Sample]:
    for sample in samples:
        marks.append(mark(sample))
        yield sample


def _code(own: Any) -> str:
    """Return a hash of the source file of a user's own metric; "" for a metric of calib."""
    if getattr(own, "__module__", "").startswith("calib."):
        return ""
    try:
        return hashlib.sha256(inspect.getsource(inspect.getmodule(own) or own).encode()).hexdigest()
    except (OSError, TypeError):  # typed into a console: there is no file
        return ""


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
    metric = job.settings.metric
    if validation is None and job.resolved.inputs.validation:
        validation = job.resolved.inputs.validation
        require_allowed(validation, job.allow_python)
    if validation is None and metric is None and job.settings.max_drop is None:
        return None
    form = compared_form(job.loaded.model, job.compared[0]) if metric is None else job.loaded.model
    outputs = [(_shape(port), np.dtype(port.get_element_type().to_dtype())) for port in form.outputs]
    if metric is None:
        outputs = [outputs[part.output] for part in job.compared[0].parts]
    direction, place = job.settings.higher_is_better, job.resolved.places.get("metric", "")
    allowed = not place if job.allow_python is None else job.allow_python
    found = resolve_metric(metric, higher_is_better=direction, outputs=outputs, allow_python=allowed, place=place)
    _check_points(job, found.name, found.unit)
    _check_reference(found, against, against_itself)
    if isinstance(found, WholeSetMetric):
        return WholeSetEvaluator(job, found)
    if validation is None and found.needs_target:
        raise UsageError(f"the metric {found.name} needs labelled samples: give --validation DATA (validation=…)")
    opened = job.calibration if validation is None else open_samples(job, validation)
    if opened is None:
        raise UsageError("there are no samples to measure accuracy on: give --validation DATA (validation=…)")
    dataset = InMemory(opened)
    ids = tuple(dataset.choose(None))
    notes = () if validation is None else tuple(check_state(job, dataset, ids))
    compared, own = _compared(job, against) if isinstance(found, ByParts) and found.by_parts else (None, None)
    notes += tuple(_targets_read(job, found, dataset, ids))
    if job.loaded.model.get_sinks():
        found = FrameMetric(found)
    references: dict[str, Any] = {}
    if found.needs_reference:
        model = (against or job).reference
        session = Session(compared_form(model, own) if own else model)
        parts = own.values if own else list
        references = {sample.id: _outputs(session, sample, parts) for sample in dataset.load(ids)}
    return SampleEvaluator(
        job,
        dataset,
        ids,
        found,
        references,
        notes,
        on_calibration=validation is None,
        compared=compared,
        compared_with=against.loaded.facts.name if against else "",
    )


def _outputs(session: Session, sample: Sample, parts: Callable[[list[Any]], Any]) -> Any:
    """Return what is compared of the outputs of a sample; of a sequence a list of that of each frame."""
    feed = feed_of(sample)
    return [parts(outputs) for outputs in session.each([feed])] if isinstance(feed, Frames) else parts(session(feed))


def _targets_read(job: Job, metric: Metric, dataset: Dataset, ids: Sequence[str]) -> Iterator[str]:
    """Yield how vectors are read as targets of a metric that counts classes."""
    sizes = list(_shape(job.loaded.model.outputs[0]))[1:] if isinstance(metric, WithMovedLabels) else []
    while len(sizes) > 1 and sizes[-1] == 1:
        sizes.pop()
    first = next(iter(dataset.load(ids[:1])), None) if sizes else None
    if first is None or isinstance(first.target, set | frozenset | str | None):
        return
    values = np.asarray(first.target)
    if is_vector(values, sizes):
        yield (
            f"the targets are vectors of {values.shape[-1]} numbers and are read as one-hot: the class is the position "
            "of the 1"
        )


def _compared(job: Job, against: Job | None) -> tuple[ComparedOutputs, ComparedOutputs]:
    """Return what is compared of the models that are measured, and of the one that gives the FP32 outputs."""
    if against is None:
        return job.compared
    _, measured, own = aligned(against.loaded.model, job.reference, against.reference)
    return measured, own


def _check_reference(metric: Metric | WholeSetMetric, against: Job | None, against_itself: bool) -> None:
    """Refuse to compare a model with itself, and another model that nothing is compared with."""
    if metric.needs_reference and against is None and not against_itself:
        raise UsageError(
            f"the metric {metric.name} compares with the outputs of another model; against its own, every model is "
            "perfect. Give the model that this one was made from: --reference-model FILE (reference_model=…)"
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
        UsageError: The two models take different inputs, or do not have equally many outputs.
    """
    against = prepare(model, None, need_float=False, **asked)
    require_same_inputs(against.loaded, job.loaded)
    counts = [len(one.reference.outputs) for one in (against, job)]
    if counts[0] != counts[1]:
        raise UsageError(
            f"{against.loaded.facts.name} has {counts[0]} outputs and {job.loaded.facts.name} {counts[1]}: give the "
            "model that this one was made from as --reference-model (reference_model=…)"
        )
    return against


def _check_points(job: Job, metric: str, unit: str) -> None:
    """Refuse a budget in percentage points for a metric that is no fraction."""
    allowed = job.settings.allowed_drop
    if allowed is not None and allowed.points and unit != "fraction":
        raise UsageError(
            f"max_drop {job.settings.max_drop} is in percentage points, and the metric {metric} is no fraction but in "
            f"{unit!r}: give a number in that unit, or a share of the FP32 baseline such as 1%rel"
        )


def evaluated(job: Job, evaluator: Evaluator | None, precision: str) -> Evaluation:
    """Measure one model on the validation dataset.

    Raises:
        UsageError: There is neither a validation dataset nor a metric.
    """
    if evaluator is None:
        raise UsageError("evaluate needs a validation dataset or a metric")
    metric = evaluator.metric
    config: Mapping[str, Any] = {} if precision == "default" else precision_config(precision)
    parts = evaluator.run(evaluator.compiled(job.reference, config), range(len(evaluator.ids)))
    value = float(metric.aggregate(parts))
    scores = metric.per_sample(parts)
    interval = None
    if scores is not None and len(scores) > 1:
        half = 1.96 * float(np.std(scores, ddof=1)) / len(scores) ** 0.5
        interval = (value - half, value + half)
    return Evaluation(
        calib_version=__version__,
        model=job.loaded.facts,
        validation=evaluator.source,
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        unit=metric.unit,
        value=value,
        interval=interval,
        interval_method="normal" if interval else "",
        samples=evaluator.counted(max(len(evaluator.ids), 0 if scores is None else len(scores))),
        precision=default_precision() if precision == "default" else precision,
        reference=job.settings.reference,
        reference_model=evaluator.compared_with,
        notes=[*evaluator.notes, *job.remarks],
    )


def _shape(port: ov.Output) -> tuple[int | None, ...]:
    partial = port.get_partial_shape()
    if partial.rank.is_dynamic:
        return ()
    return tuple(None if axis.is_dynamic else axis.get_length() for axis in partial)


def evaluate_as(
    isa: str,
    model: str | Path | ov.Model,
    validation: Any,
    metric: Any = None,
    *,
    reference_model: str | Path | ov.Model | None = None,
    precision: str = "f32",
    config: str | Path | None = None,
    sets: Sequence[str] = (),
    allow_python: bool | None = None,
    **settings: Any,
) -> Evaluation:
    """Run ``calib evaluate`` as a CPU limited to an instruction set would, and return what it found.

    Args:
        isa: One of ``ISAS``.
        model: A file, or a model in memory, which is written to a temporary folder.
        validation: A DATA string: a child process can't read Python objects.
        metric: By name; None for the one of the settings.
        reference_model: Model to compare with, like ``model``; None for none.
        precision: Of the layers in floating point.
        config: A file of settings.
        sets: ``"key=value"`` settings.
        allow_python: As for ``calib.quantize``.
        settings: Any setting by name; None is left out.

    Raises:
        UsageError: No such instruction set on this machine, or data or metric that only this process has.
        CalibError: What the evaluation itself raised.
    """
    get_isa(isa)  # before anything is written
    for name, value in (("validation", validation), ("metric", metric)):
        if value is not None and not isinstance(value, str | os.PathLike):
            raise UsageError(
                f"isa {isa} runs in a process of its own, which can't take {name} as a {type(value).__name__}; "
                f"give it as text (data: a file or python:module:function)"
            )
    with temporary_folder() as folder:
        model = _file_of(model, Path(folder, "model.xml"))
        argv: list[str] = [str(model), "--validation", os.fspath(validation), "--precision", precision, "--json"]
        argv += [] if metric is None else ["--metric", os.fspath(metric)]
        if reference_model is not None:
            argv += ["--reference-model", str(_file_of(reference_model, Path(folder, "reference.xml")))]
        argv += [] if config is None else ["--config", os.fspath(config)]
        argv += [part for text in sets for part in ("--set", text)]
        argv += [] if allow_python is None else ["--allow-python" if allow_python else "--no-allow-python"]
        argv += [part for key, value in settings.items() if value is not None for part in ("--set", _set(key, value))]
        # -P: without the current folder on the path, where a file called like a library would be run in its place.
        program = [sys.executable, "-P", "-m", "calib", "--quiet", "evaluate"]
        done = run_as(isa, [*program, *argv])
    if done.returncode:
        text = done.stderr.strip().removeprefix("error: ") or f"it ended with exit code {done.returncode}"
        kind = UsageError if done.returncode == UsageError.exit_code else CalibError
        first, *more = text.splitlines()
        raise kind(f"evaluating as a CPU with {isa}: {first}", *more)
    return Evaluation.model_validate_json(done.stdout).model_copy(update={"isa": isa})


def _file_of(model: str | Path | ov.Model, path: Path) -> str | Path:
    """Return the file of a model; one in memory is written to the path."""
    if not isinstance(model, ov.Model):
        return model
    ov.save_model(model, path, compress_to_fp16=False)
    return path


def _set(key: str, value: Any) -> str:
    """Return a setting as ``--set`` takes it: text as it is, everything else as JSON, which is YAML too."""
    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"
