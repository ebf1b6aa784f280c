"""Run a model over samples and measure each one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import CalibError, DataError, MetricError, one_line
from calib.metrics.metric import Metric
from calib.runtime.session import infer_all, notice_memory, ov
from calib.samples.feed import Arrays, Splits, as_batch, feed_of, frames_in, normalize_feed
from calib.samples.sample import Frames, InputSpec, Sample
from calib.samples.sample import Sequence as FrameSequence

Outputs = Sequence[NDArray[Any]]


def evaluate_compiled(
    compiled: ov.CompiledModel,
    samples: Iterable[Sample],
    metric: Metric,
    references: Mapping[str, Any] | None = None,
    read: Callable[[Outputs, Sample], Outputs] = lambda outputs, _: list(outputs),
) -> list[Any]:
    """Run samples on all streams of a compiled model and return the metric's parts, one per sample, in order.

    Args:
        compiled: Compiled model.
        samples: Samples, loaded one at a time.
        metric: Metric that measures the outputs of each sample; of a sequence it gets a list of those of each frame,
            see :class:`calib.metrics.frames.FrameMetric`.
        references: FP32 outputs by sample id, for a metric that needs them; of a sequence those of each frame.
        read: Function of outputs and their sample that gives what the metric takes, such as decoded boxes.

    Raises:
        MetricError: The metric raised an error, or lacks a target or a reference; the message names the sample.
        DataError: The model can't run on a sample.
    """
    waiting: deque[Sample] = deque()
    parts: list[Any] = []

    def feeds() -> Iterator[Arrays | Frames]:
        for sample in samples:
            waiting.append(sample)
            yield feed_of(sample)

    frames: list[Outputs] = []
    try:
        for outputs in infer_all(compiled, feeds()):
            feed = feed_of(waiting[0])
            if not isinstance(feed, Frames):
                sample = waiting.popleft()
                parts.append(measure_sample(metric, read(outputs, sample), sample, references, len(parts)))
                continue
            frames.append(read([np.array(output) for output in outputs], waiting[0]))
            if len(frames) == len(feed):
                parts.append(measure_sample(metric, frames, waiting.popleft(), references, len(parts)))
                frames = []
    except RuntimeError as error:  # what OpenVINO raises, such as for a size that a layer can't take
        where = f"one of the samples from number {len(parts)} on"
        raise DataError(f"the model can't run on {where}: {_reason(error)}") from error
    return parts


def _reason(error: RuntimeError) -> str:
    notice_memory(error)
    return (str(error).strip().splitlines() or ["no reason given"])[-1]


def accept_any_feed(
    run: Callable[[Iterable[Arrays | Frames]], Iterable[Outputs]],
    inputs: Sequence[InputSpec],
    check: Callable[[Sequence[Any], str], None] = lambda feed, where: None,
    splits: Splits = as_batch,
) -> Callable[[Any], list[Any]]:
    """Return a ``predict`` for users' functions that takes an array, a tuple in input order or a dict by input name.

    A feed of N stacked samples runs as N samples, and their outputs are stacked again along the batch axis; so are
    those of the frames of a Sequence, which run in order.

    Args:
        run: Function that runs samples and gives the outputs of each, or of each frame of a sequence, in order.
        inputs: Inputs of the model.
        check: Function that raises an error for a wrong feed, such as :class:`calib.loading.inputs.ShapeCheck`.
        splits: Function that tells a batch from a sample, see :func:`calib.samples.feed.normalize_feed`.
    """
    where = "the feed given to predict"

    def fed(feed: Any) -> Sequence[Arrays | Frames]:
        if isinstance(feed, FrameSequence):
            from calib.samples.sequence import frames_of  # here: few models keep state

            return [frames_of(feed, inputs, where)]
        found = normalize_feed(feed, inputs, where, splits)
        for sample in found:
            check(sample, where)
        return found

    def accepting(feed: Any) -> list[Any]:
        given = fed(feed)
        outputs = list(run(given))
        if len(outputs) == 1:
            return list(outputs[0])
        try:
            return [np.concatenate([np.atleast_1d(one) for one in column]) for column in zip(*outputs, strict=True)]
        except ValueError as error:
            count = sum(map(frames_in, given))
            raise MetricError(
                f"predict was given {count} samples at once, and their outputs have different shapes ({error}). "
                "Call it with one sample at a time"
            ) from error

    return accepting


def measure_sample(
    metric: Metric, outputs: Any, sample: Sample, references: Mapping[str, Any] | None = None, number: int = 0
) -> Any:
    """Return the metric's part of one sample.

    Args:
        metric: Metric.
        outputs: Outputs of the sample; of a sequence those of each frame.
        sample: Sample, for its target.
        references: FP32 outputs by sample id in the same form, for a metric that needs them.
        number: Number of the sample in messages.

    Raises:
        MetricError: The metric raised an error, or lacks a target or a reference; the message names the sample.
    """
    where = _where(sample, number)
    if metric.needs_target and sample.target is None:
        raise MetricError(
            f"{metric.name} needs a target, and {where} has none. Give labels with the data (in an .npz file the array "
            "'labels', or ?labels=NAME; 'calib help data' says it of each format), or a label-free metric (agreement, "
            "relative-l2)"
        )
    reference = (references or {}).get(sample.id)
    if metric.needs_reference and reference is None:
        raise MetricError(f"{metric.name} compares with the FP32 outputs, and there are none for {where}")
    try:
        return metric.measure(outputs, sample.target, reference)
    except CalibError as error:
        raise MetricError(f"{where}: {error}") from error
    except Exception as error:
        raise MetricError(f"{metric.name} raised at {where}: {type(error).__name__}: {one_line(error)}") from error


def _where(sample: Sample, number: int) -> str:
    return f"sample {number} ({sample.where or sample.id or 'unnamed'})"
