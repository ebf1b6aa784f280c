"""Run a model over samples and measure each one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from calib.errors import CalibError, MetricError
from calib.metrics.metric import Metric
from calib.samples.sample import Sample

Outputs = Sequence[NDArray[Any]]


def evaluate(
    predict: Callable[[Any], Outputs],
    samples: Iterable[Sample],
    metric: Metric,
    references: Mapping[str, Outputs] | None = None,
) -> list[Any]:
    """Return the metric's parts, one a sample in the samples' order.

    Args:
        predict: takes a sample's feed (arrays in input order) and returns the outputs in output order.
        samples: loaded one at a time.
        metric: what to keep of each sample's outputs.
        references: the FP32 outputs by sample id, for a metric that needs them.

    Raises:
        MetricError: the metric raised, or lacks a target or a reference; the message names the sample.
    """
    return [
        measure_sample(metric, predict(sample.feed), sample, references, number)
        for number, sample in enumerate(samples)
    ]


def measure_sample(
    metric: Metric, outputs: Outputs, sample: Sample, references: Mapping[str, Outputs] | None = None, number: int = 0
) -> Any:
    """Return what the metric keeps of one sample.

    Raises:
        MetricError: the metric raised, or lacks a target or a reference; the message names the sample.
    """
    where = f"sample {number} ({sample.where or sample.id or 'unnamed'})"
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
