"""Run a model over samples and measure each one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import CalibError, DataError, MetricError
from calib.metrics.metric import Metric
from calib.runtime.session import infer_all, notice_memory, ov
from calib.samples.feed import arrays_of, normalize_feed
from calib.samples.sample import InputSpec, Sample

Outputs = Sequence[NDArray[Any]]


def evaluate_compiled(
    compiled: ov.CompiledModel,
    samples: Iterable[Sample],
    metric: Metric,
    references: Mapping[str, Outputs] | None = None,
    parts_of: Callable[[Outputs], Outputs] = list,
) -> list[Any]:
    """Run samples on all streams of a compiled model and return the metric's parts, one per sample, in order.

    Args:
        compiled: Compiled model.
        samples: Samples, loaded one at a time.
        metric: Metric that measures the outputs of each sample.
        references: FP32 outputs by sample id, for a metric that needs them.
        parts_of: Function that gives what the metric takes of the outputs of a sample.

    Raises:
        MetricError: The metric raised an error, or lacks a target or a reference; the message names the sample.
        DataError: The model can't run on a sample.
    """
    waiting: deque[Sample] = deque()
    parts: list[Any] = []

    def feeds() -> Iterator[Mapping[int, NDArray[Any]]]:
        for sample in samples:
            waiting.append(sample)
            yield dict(enumerate(arrays_of(sample)))

    try:
        for number, outputs in enumerate(infer_all(compiled, feeds())):
            parts.append(measure_sample(metric, parts_of(outputs), waiting.popleft(), references, number))
    except RuntimeError as error:  # what OpenVINO raises, such as for a size that a layer can't take
        where = f"one of the samples from number {len(parts)} on"
        raise DataError(f"the model can't run on {where}: {_reason(error)}") from error
    return parts


def _reason(error: RuntimeError) -> str:
    notice_memory(error)
    return (str(error).strip().splitlines() or ["no reason given"])[-1]


def accept_any_feed(
    predict: Callable[[Any], Outputs],
    inputs: Sequence[InputSpec],
    check: Callable[[Sequence[Any], str], None] = lambda feed, where: None,
) -> Callable[[Any], list[Any]]:
    """Return a ``predict`` for users' functions that takes an array, a tuple in input order or a dict by input name.

    A feed of N stacked samples runs as N samples, and their outputs are stacked again along the batch axis.

    Args:
        predict: Function of one sample's arrays in input order, with the batch axis.
        inputs: Inputs of the model.
        check: Function that raises an error for a wrong feed, such as :class:`calib.loading.inputs.ShapeCheck`.
    """

    def accepting(feed: Any) -> list[Any]:
        samples = normalize_feed(feed, inputs, "the feed given to predict")
        for sample in samples:
            check(sample, "the feed given to predict")
        outputs = [predict(sample) for sample in samples]
        if len(outputs) == 1:
            return list(outputs[0])
        try:
            return [np.concatenate([np.atleast_1d(one) for one in column]) for column in zip(*outputs, strict=True)]
        except ValueError as error:
            raise MetricError(
                f"predict was given {len(samples)} samples at once, and their outputs have different shapes ({error}). "
                "Call it with one sample at a time"
            ) from error

    return accepting


def measure_sample(
    metric: Metric, outputs: Outputs, sample: Sample, references: Mapping[str, Outputs] | None = None, number: int = 0
) -> Any:
    """Return the metric's part of one sample.

    Raises:
        MetricError: The metric raised an error, or lacks a target or a reference; the message names the sample.
    """
    where = _where(sample, number)
    if metric.needs_target and sample.target is None:
        raise MetricError(
            f"{metric.name} needs a target, and {where} has none. Give labels with the data, or a label-free metric "
            "(agreement, relative-l2)"
        )
    reference = (references or {}).get(sample.id)
    if metric.needs_reference and reference is None:
        raise MetricError(f"{metric.name} compares with the FP32 outputs, and there are none for {where}")
    try:
        return metric.measure(outputs, sample.target, reference)
    except CalibError as error:
        raise MetricError(f"{where}: {error}") from error
    except Exception as error:
        raise MetricError(f"{metric.name} raised at {where}: {type(error).__name__}: {error}") from error


def _where(sample: Sample, number: int) -> str:
    return f"sample {number} ({sample.where or sample.id or 'unnamed'})"
