"""Several metrics measured on the same outputs, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from calib.errors import UsageError
from calib.metrics.metric import Metric, Takes, WithChance, WithMovedLabels, compares_parts


class Several:
    """Metrics of the same samples; where one number is asked for it is that of the first.

    A part holds the part of each metric.

    Args:
        metrics: Metrics, two or more, of different names.

    Raises:
        UsageError: Two have the same name, some compare the outputs with those of FP32 in parts and others do not, or
            they take different things, such as boxes and texts.
    """

    def __init__(self, metrics: Sequence[Metric]):
        names = [metric.name for metric in metrics]
        if twice := [name for name in names if names.count(name) > 1]:
            raise UsageError(f"the metric {twice[0]} is given twice: name each metric once")
        parted = [metric.name for metric in metrics if compares_parts(metric)]
        if parted and len(parted) < len(metrics):
            other = next(name for name in names if name not in parted)
            raise UsageError(
                f"the metric {parted[0]} compares outputs with those of FP32 whatever they mean, and {other} reads "
                "what they mean: the two can't be measured together. Measure them in two runs"
            )
        kinds = {metric.takes: metric.name for metric in metrics if isinstance(metric, Takes)}
        if len(kinds) > 1:
            told = " and ".join(f"{name} takes {kind}" for kind, name in kinds.items())
            raise UsageError(f"{told}: outputs are decoded in one way for all metrics. Measure them in two runs")
        first = metrics[0]
        self.metrics = tuple(metrics)
        self.name, self.unit, self.higher_is_better = ", ".join(names), first.unit, first.higher_is_better
        self.reads = "; ".join(f"{metric.name}: {metric.reads}" for metric in metrics)
        self.needs_target = any(metric.needs_target for metric in metrics)
        self.needs_reference = any(metric.needs_reference for metric in metrics)
        self.by_parts = bool(parted)
        for kind in kinds:
            self.takes = kind
        # Only what the first has itself: whether it is `WithChance` is read off the attributes.
        if isinstance(first, WithChance):
            self.chance = first.chance
        if isinstance(first, WithMovedLabels):
            self.moved_target = first.moved_target

    def measure(self, outputs: Any, target: Any, reference: Any = None) -> list[Any]:
        """Return the part of each metric."""
        return [metric.measure(outputs, target, reference) for metric in self.metrics]

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the first metric over these samples."""
        return float(self.metrics[0].aggregate([part[0] for part in parts]))

    def per_sample(self, parts: Sequence[Any]) -> Any:
        """Return the scores of the first metric."""
        return self.metrics[0].per_sample([part[0] for part in parts])


def each_of(metric: Any, parts: Sequence[Any]) -> list[tuple[Any, list[Any]]]:
    """Return each single metric with its parts; of one that is single, itself with these."""
    if not isinstance(metric, Several):
        return [(metric, list(parts))]
    return [(one, [part[number] for part in parts]) for number, one in enumerate(metric.metrics)]
