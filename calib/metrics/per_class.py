"""Accuracy of each class by itself, averaged over the classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import MetricError
from calib.metrics.classification import IGNORED, TopK, class_targets
from calib.metrics.scores import class_scores


class ClassAccuracy:
    """Mean over classes of the share of its samples that are right: each class counts alike, however rare it is.

    Also known as balanced accuracy, or mean recall. Classes without a sample do not count.
    """

    name = "class-accuracy"
    higher_is_better = True
    unit = "fraction"
    reads = "first output: class scores [1, C]; target: a class index or a one-hot vector; −1 is ignored"
    needs_target = True
    needs_reference = False
    takes = "scores"

    def __init__(self):
        self._top = TopK(1)

    def measure(
        self, outputs: Sequence[NDArray[Any]], target: Any, reference: Sequence[NDArray[Any]] | None = None
    ) -> list[int] | None:
        """Return [class, 1 if it is right], or None if the target is −1.

        Raises:
            MetricError: The output does not hold class scores, or the target is not one class index.
        """
        scores = class_scores(outputs, self.name)
        targets = class_targets(target, scores, self.name).ravel()
        if scores.ndim != 1 or len(targets) != 1:
            raise MetricError(
                f"{self.name}: reads one class of a sample, got {len(targets)} targets for scores {list(scores.shape)}"
            )
        label = int(targets[0])
        return None if label == IGNORED else [label, int(self._top.measure(outputs, label) or 0)]

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the mean over the classes that have a sample."""
        rows = [part for part in parts if part is not None]
        if not rows:
            raise MetricError(f"{self.name}: no sample with a target to measure")
        labels, right = np.array(rows, np.int64).T
        counts = np.bincount(labels)
        shares = np.bincount(labels, weights=right)[counts > 0] / counts[counts > 0]
        return float(shares.mean())

    def per_sample(self, parts: Sequence[Any]) -> None:
        """Return None, because classes are averaged, and not samples."""
        return None

    def chance(self, classes: int) -> float:
        """Return the value for random guesses."""
        return 1 / classes

    def margin(self, outputs: Sequence[NDArray[Any]], target: Any) -> float:
        """Return the distance of the sample from another result."""
        return self._top.margin(outputs, target)

    def moved_target(self, outputs: Sequence[NDArray[Any]], target: Any, by: int) -> NDArray[np.int64]:
        """Return the target with its class number moved, wrapping around at the ends."""
        return self._top.moved_target(outputs, target, by)
