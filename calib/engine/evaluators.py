"""What measures a model with a metric: one validation sample at a time, or by one call of the user's function."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from calib.accuracy.baseline import BaselineMetric, MarginMetric
from calib.accuracy.together import Together, paired
from calib.engine.job import Job
from calib.graph.comparable import compared_form
from calib.loading.inputs import ShapeCheck
from calib.loading.load import input_specs
from calib.metrics.frames import FrameMetric
from calib.metrics.metric import Configured, Metric, WithChance
from calib.metrics.several import Several
from calib.metrics.whole_set import WholeSetMetric
from calib.outputs.decoding import Decoding
from calib.runtime.evaluate import accept_any_feed, evaluate_compiled, measure_sample
from calib.runtime.isa import cpu
from calib.runtime.session import F32, Session, compile_model, ov
from calib.samples.content import mark
from calib.samples.feed import feed_of
from calib.samples.sample import Dataset, Frames, Sample
from calib.values.compared import ComparedOutputs


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
        decoding: How outputs become the boxes, class maps or texts that the metric takes; None if it reads outputs.
        compared_with: Name of the model that the FP32 outputs are from; empty if it is the one of the job.
        before: Parts of FP32 of each sample, for a metric that is measured against them.
    """

    job: Job
    dataset: Dataset
    ids: tuple[str, ...]
    metric: Metric | MarginMetric | Several | Together
    references: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    check: Callable[[], None] = lambda: None
    on_calibration: bool = False
    compared: ComparedOutputs | None = None
    decoding: Decoding | None = None
    compared_with: str = ""
    before: Sequence[Any] | None = None

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
        sizes = list(shape_of(self.job.loaded.model.outputs[0])[1:])
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
        return compile_model(form, config, streams=self.job.streams_for(len(self.ids)))

    def run(self, compiled: ov.CompiledModel, indices: Sequence[int]) -> list[Any]:
        """Return the metric's parts of these samples, in their order."""
        samples = map(self._checked, self.dataset.load([self.ids[i] for i in indices]))
        found = evaluate_compiled(compiled, samples, self.metric, self.references, self.read)
        return found if self.before is None else paired(found, [self.before[i] for i in indices])

    def read(self, outputs: Sequence[Any], sample: Sample) -> list[Any]:
        """Return what the metric takes of the outputs of a sample, or of a frame of it."""
        if self.decoding is not None:
            feed = feed_of(sample)
            size = self.decoding.facts.size_of(feed[0] if isinstance(feed, Frames) else feed)
            return self.decoding.outputs(outputs, size, sample.geometry)
        return self.compared.values(outputs) if self.compared is not None else list(outputs)

    def baseline(self) -> tuple[list[Any], list[str]]:
        """Run FP32 once; return the row of `BaselineMetric` and the `mark` of each sample.

        If the metric compares with FP32 outputs, those outputs serve as the baseline's and there is no second pass.
        """
        marks: list[str] = []
        samples = map(self._checked, _marked(self.dataset.load(self.ids), marks))
        metric: Any = BaselineMetric(self.metric)
        if not self.references:
            compiled = self.compiled(self.job.reference, F32)
            return evaluate_compiled(compiled, samples, metric, read=self.read), marks
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
        if self.decoding is not None:
            parts = [*parts, self.decoding.identity, _code(type(self.decoding.decoder))]
        return [self.source, self.ids, *parts, *_identity(self.job, self.metric, _code_of(self.metric))]

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
    on_calibration = False

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


def _marked(samples: Iterable[Sample], marks: list[str]) -> Iterator[Sample]:
    for sample in samples:
        marks.append(mark(sample))
        yield sample


def _code_of(metric: Any) -> str:
    """Return a hash of the source or configuration of a metric, whatever is around it; of several that of each."""
    if isinstance(metric, Together):
        metric = metric.several
    if isinstance(metric, Several):
        return " ".join(_code_of(one) for one in metric.metrics).strip()
    if isinstance(metric, Configured):
        return metric.configuration
    return _code_of(metric.metric) if isinstance(metric, FrameMetric | MarginMetric) else _code(type(metric))


def _code(own: Any) -> str:
    """Return a hash of the source file of a user's own metric; "" for a metric of calib."""
    if getattr(own, "__module__", "").startswith("calib."):
        return ""
    try:
        return hashlib.sha256(inspect.getsource(inspect.getmodule(own) or own).encode()).hexdigest()
    except (OSError, TypeError):  # typed into a console: there is no file
        return ""


def shape_of(port: ov.Output) -> tuple[int | None, ...]:
    """Return the shape of a port with None for dynamic axes; () if its rank is dynamic."""
    partial = port.get_partial_shape()
    if partial.rank.is_dynamic:
        return ()
    return tuple(None if axis.is_dynamic else axis.get_length() for axis in partial)
