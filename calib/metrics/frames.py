"""Measure sequences with a metric of single samples: frame by frame, or by what follows the last frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.metrics.metric import Metric, WithChance, WithMargin, WithMovedLabels
from calib.samples.sample import FrameTargets

Frame = tuple[Any, Any, Any]
"""Outputs, target and FP32 outputs."""


class FrameMetric:
    """A metric whose samples are sequences, each of them a list of the outputs of its frames.

    With a target for each frame, all frames that have one are measured. A target of the whole sequence is compared with
    the outputs after the last frame. A metric that needs no targets measures every frame. The outputs of a single frame
    are measured as they are.

    A sequence counts as one sample, whatever its length: where the metric is a mean over samples, its score is the mean
    of those of its frames. Other metrics are those of all frames together.

    Args:
        metric: Metric of single samples.
    """

    def __init__(self, metric: Metric):
        self.metric = metric
        self.name, self.unit, self.higher_is_better = metric.name, metric.unit, metric.higher_is_better
        self.reads = metric.reads
        self.needs_target, self.needs_reference = metric.needs_target, metric.needs_reference
        # Only what the metric has itself: whether it is `WithChance` is read off the attributes.
        if isinstance(metric, WithChance):
            self.chance = metric.chance
        if isinstance(metric, WithMovedLabels):
            self._moved = metric.moved_target
            self.moved_target = self._moved_target
        if isinstance(metric, WithMargin):
            self._margin_of = metric.margin
            self.margin = self._margin

    def measure(self, outputs: Any, target: Any, reference: Any = None) -> list[Any]:
        """Return the metric's part of each frame that is measured."""
        measure = self.metric.measure
        return [measure(y, wanted, before) for y, wanted, before in self._frames(outputs, target, reference)]

    def aggregate(self, parts: Sequence[list[Any]]) -> float:
        """Return the metric over these sequences."""
        scores = self.per_sample(parts)
        if scores is None or not len(scores):
            return float(self.metric.aggregate([part for frames in parts for part in frames]))
        return float(scores.mean())

    def per_sample(self, parts: Sequence[list[Any]]) -> NDArray[np.float64] | None:
        """Return the mean score of each sequence; None if the metric is no mean over samples."""
        found = [self.metric.per_sample(frames) for frames in parts if frames]
        scores = [one for one in found if one is not None]
        if len(scores) < len(found):
            return None
        return np.array([one.mean() for one in scores if len(one)], np.float64)

    def _moved_target(self, outputs: Any, target: Any, by: int) -> Any:
        if isinstance(target, FrameTargets):
            pairs = zip(outputs, target, strict=True)
            return FrameTargets(None if t is None else self._moved(y, t, by) for y, t in pairs)
        return self._moved(_of_frames(outputs)[-1], target, by)

    def _margin(self, outputs: Any, target: Any, *reference: Any) -> float:
        frames = self._frames(outputs, target, reference[0] if reference else None)
        found = (self._margin_of(y, wanted, *([before] if reference else [])) for y, wanted, before in frames)
        return float(min(found, default=np.inf))

    def _frames(self, outputs: Any, target: Any, reference: Any) -> Iterator[Frame]:
        """Yield what is measured of a sequence."""
        frames = _of_frames(outputs)
        before = [None] * len(frames) if reference is None else _of_frames(reference)
        if isinstance(target, FrameTargets):
            known = zip(frames, target, before, strict=True)
            yield from (frame for frame in known if frame[1] is not None or not self.needs_target)
        elif self.needs_target:
            yield frames[-1], target, before[-1]
        else:
            yield from zip(frames, [target] * len(frames), before, strict=True)


def _of_frames(outputs: Any) -> Sequence[Any]:
    """Return the outputs of each frame: a list of lists of arrays, where those of a single frame are arrays."""
    return outputs if outputs and isinstance(outputs[0], list) else [outputs]
