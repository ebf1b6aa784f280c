"""Metrics of the order in which one score per sample puts the samples: Spearman correlation and ROC AUC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import MetricError
from calib.metrics.scores import first_output


class _OverTheSet:
    """Base of both metrics: a part is [score, target], and a single sample has no score."""

    name: str
    unit: str
    reads: str
    higher_is_better = True
    needs_target = True
    needs_reference = False

    def per_sample(self, parts: Sequence[Any]) -> None:
        """Return None, because the value belongs to the set and not to its samples."""
        return None

    def _pair(self, score: Any, target: Any) -> list[float]:
        values = np.asarray(target)
        if values.size != 1 or values.dtype.kind not in "iubf":
            raise MetricError(f"{self.name}: a target is one number, got {str(target)[:60]!r}")
        pair = [float(score), float(values.reshape(-1)[0])]
        if not np.isfinite(pair).all():
            raise MetricError(f"{self.name}: score {pair[0]} and target {pair[1]} have to be finite")
        return pair

    def _columns(self, parts: Sequence[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if not len(parts):
            raise MetricError(f"{self.name}: no samples to measure")
        pairs = np.array(parts, np.float64)
        return pairs[:, 0], pairs[:, 1]


class Spearman(_OverTheSet):
    """Correlation of the ranks of scores and targets, ties at their mean rank; 0 if one of them is constant."""

    name = "spearman"
    unit = "correlation"
    reads = "first output: one number; target: one number"

    def measure(
        self, outputs: Sequence[NDArray[Any]], target: Any, reference: Sequence[NDArray[Any]] | None = None
    ) -> list[float]:
        """Return [score, target].

        Raises:
            MetricError: The output or the target is not one finite number.
        """
        output = first_output(outputs, self.name)
        if output.size != 1:
            raise MetricError(f"{self.name}: reads one number, the first output has shape {list(output.shape)}")
        return self._pair(output.reshape(-1)[0], target)

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the correlation in −1..1."""
        scores, targets = (mean_ranks(column) for column in self._columns(parts))
        scores, targets = scores - scores.mean(), targets - targets.mean()
        norm = float(np.sqrt((scores @ scores) * (targets @ targets)))
        return float(scores @ targets) / norm if norm > 0 else 0.0


class AreaUnderCurve(_OverTheSet):
    """Probability that a positive scores above a negative, ties half (Mann-Whitney U); 0.5 if a class is missing."""

    name = "auc"
    unit = "area"
    reads = "first output: one score, or two class scores (their difference is taken); target: 0 or 1"

    def measure(
        self, outputs: Sequence[NDArray[Any]], target: Any, reference: Sequence[NDArray[Any]] | None = None
    ) -> list[float]:
        """Return [score, target].

        Raises:
            MetricError: There is neither one score nor two, or the target is not 0 or 1.
        """
        output = first_output(outputs, self.name)
        values = output.astype(np.float64).reshape(-1)
        if values.size not in (1, 2):
            raise MetricError(f"{self.name}: reads one or two scores, the first output has shape {list(output.shape)}")
        pair = self._pair(values[-1] - values[0] if values.size == 2 else values[0], target)
        if pair[1] not in (0.0, 1.0):
            raise MetricError(f"{self.name}: a target is 0 or 1, got {pair[1]:g}")
        return pair

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the area in 0..1."""
        scores, targets = self._columns(parts)
        positives = targets == 1
        count, others = int(positives.sum()), int((~positives).sum())
        if not count or not others:
            return 0.5
        return float(mean_ranks(scores)[positives].sum() - count * (count + 1) / 2) / (count * others)


def mean_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks from 1; equal values get the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse.reshape(-1)]
