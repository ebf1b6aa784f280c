"""What measures a model: the metric and the validation samples, with the FP32 outputs where a metric compares."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.accuracy.baseline import BaselineMetric
from calib.engine.job import Job, open_samples
from calib.errors import UsageError
from calib.loading.load import input_specs
from calib.loading.shapes import ShapeCheck
from calib.metrics.resolve import resolve_metric
from calib.metrics.whole_set import WholeSetMetric
from calib.runtime.evaluate import accept_any_feed, evaluate_compiled, measure_sample
from calib.runtime.isa import cpu
from calib.runtime.session import F32, Session, compile_model, ov
from calib.samples.identity import content_id, target_id
from calib.samples.open import InMemory
from calib.samples.sample import Dataset, Sample


class WholeSet:
    """A user's function over the whole set, as a Metric over one single "sample": it is asked once for each plan."""

    def __init__(self, metric: WholeSetMetric):
        self.name, self.higher_is_better, self.unit = metric.name, metric.higher_is_better, metric.unit
        self.metric = metric

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the function's value."""
        return float(parts[0][0])

    def per_sample(self, parts: Sequence[Any]) -> NDArray[np.float64] | None:
        """Return the scores that the function gave along with its value, if it did and they average to it."""
        value, scores = parts[0]
        if scores is None or not np.isclose(np.mean(scores), value, rtol=1e-6, atol=1e-9):
            return None
        return np.asarray(scores, np.float64)


@dataclass(frozen=True)
class Exam:
    """Measures models with the metric: on single samples where it can, on the whole set where it must.

    Attributes:
        ids: validation samples in id order; one empty name for a function over the whole set.
        references: FP32 outputs by sample id, for metrics that compare with them.
        check: called between two samples; raises where the run has to end.
    """

    job: Job
    dataset: Dataset | None
    ids: tuple[str, ...]
    metric: Any
    references: Mapping[str, Sequence[NDArray[Any]]]
    check: Callable[[], None] = lambda: None

    def compiled(self, model: ov.Model, config: Mapping[str, Any]) -> Any:
        """Compile a model in the form that ``run`` takes."""
        if isinstance(self.metric, WholeSet):
            return Session(model, config)
        return compile_model(model, config, streams=self.job.streams)

    def run(self, compiled: Any, indices: Sequence[int]) -> list[Any]:
        """Return the metric's parts of these samples."""
        if isinstance(self.metric, WholeSet):
            model = self.job.loaded.model
            predict = accept_any_feed(compiled, input_specs(model), ShapeCheck(model))
            value, scores = self.metric.metric.evaluate(predict)
            return [(value, None if scores is None else scores.tolist())]
        assert self.dataset is not None
        samples = self._checked(self.dataset.load([self.ids[i] for i in indices]))
        return evaluate_compiled(compiled, samples, self.metric, self.references)

    @property
    def chance(self) -> float | None:
        """What guessing gives, None where nobody knows."""
        sizes = list(_shape(self.job.loaded.model.outputs[0])[1:])
        while len(sizes) > 1 and sizes[-1] == 1:
            sizes.pop()
        classes = sizes[-1] if sizes else None
        return self.metric.chance(classes) if hasattr(self.metric, "chance") and classes else None

    def baseline(self) -> tuple[list[Any], list[str]]:
        """Run FP32 once; return what `BaselineMetric` keeps of each sample, and each sample's `mark`.

        FP32 outputs that the metric compares with are the baseline's own: no second pass is made for it.
        """
        if self.dataset is None:
            parts = self.run(self.compiled(self.job.loaded.model, F32), [0])
            return [[part, None, None] for part in parts], []
        marks: list[str] = []
        samples = self._checked(_marked(self.dataset.load(self.ids), marks))
        metric: Any = BaselineMetric(self.metric)
        if not self.references:
            return evaluate_compiled(self.compiled(self.job.loaded.model, F32), samples, metric), marks
        known = self.references
        rows = [measure_sample(metric, known[sample.id], sample, known, i) for i, sample in enumerate(samples)]
        return rows, marks

    def _checked(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        for sample in samples:
            self.check()
            yield sample

    def marks(self) -> list[str]:
        """Return each sample's `mark`; loads every sample, runs no model."""
        marks: list[str] = []
        if self.dataset is not None:
            for _ in _marked(self.dataset.load(self.ids), marks):
                pass
        return marks

    def identity(self) -> list[Any]:
        """Return what the metric's parts depend on besides the model and the samples' contents."""
        blocks = {name: block.model_dump() for name, block in self.job.settings.preprocessing.items()}
        source = self.dataset.source if self.dataset else ""
        direction = bool(self.metric.higher_is_better)
        return [source, self.ids, blocks, self.metric.name, direction, _code(self.metric), ov.get_version(), cpu().name]


def mark(sample: Sample) -> str:
    """Return a hash of a sample's feed and target: another one where a label or a pixel has changed."""
    feed = sample.feed if isinstance(sample.feed, tuple) else (np.asarray(sample.feed),)
    return f"{content_id(feed)[:16]}{target_id(sample.target)}"


def _marked(samples: Iterable[Sample], marks: list[str]) -> Iterator[Sample]:
    for sample in samples:
        marks.append(mark(sample))
        yield sample


def _code(metric: Any) -> str:
    """Return a hash of the file that a metric of the user's own is written in, "" for what ships with calib."""
    own = metric.metric.function if isinstance(metric, WholeSet) else type(metric)
    if getattr(own, "__module__", "").startswith("calib."):
        return ""
    try:
        return hashlib.sha256(inspect.getsource(inspect.getmodule(own) or own).encode()).hexdigest()
    except (OSError, TypeError):  # typed into a console: there is no file
        return ""


def examine(job: Job, validation: Any) -> Exam | None:
    """Resolve the metric and the validation dataset; None where no accuracy was asked for.

    FP32 outputs are computed only for metrics that compare with them.
    """
    metric = job.settings.metric
    if validation is None and metric is None and job.settings.max_drop is None:
        return None
    outputs = [(_shape(port), np.dtype(port.get_element_type().to_dtype())) for port in job.loaded.model.outputs]
    found = resolve_metric(metric, higher_is_better=job.settings.higher_is_better, outputs=outputs)
    if isinstance(found, WholeSetMetric):
        return Exam(job, None, ("",), WholeSet(found), {})
    if validation is None and found.needs_target:
        raise UsageError(f"the metric {found.name} needs labelled samples: give --validation DATA (validation=…)")
    opened = job.calibration if validation is None else open_samples(job, validation)
    assert opened is not None
    dataset = InMemory(opened)
    ids = tuple(dataset.choose(None))
    references: dict[str, Sequence[NDArray[Any]]] = {}
    if found.needs_reference:
        session = Session(job.loaded.model)
        references = {sample.id: session(sample.feed) for sample in dataset.load(ids)}  # pyright: ignore
    return Exam(job, dataset, ids, found, references)


def _shape(port: ov.Output) -> tuple[int | None, ...]:
    partial = port.get_partial_shape()
    if partial.rank.is_dynamic:
        return ()
    return tuple(None if axis.is_dynamic else axis.get_length() for axis in partial)
