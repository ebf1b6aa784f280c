"""Which samples change most from FP32 to INT8, by what a metric measured of each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from calib.errors import MetricError
from calib.metrics.several import each_of
from calib.values.pictures import ChangedFacts

MOST = 12  # samples that are drawn; a report shows the first of them
MOST_NAMES = 200  # of samples that got worse


@dataclass(frozen=True)
class Change:
    """How a sample changed.

    Attributes:
        index: Position of the sample in the validation dataset.
        words: What changed, such as "top-1 1 → 0".
    """

    index: int
    words: str


@dataclass(frozen=True, eq=False)
class _Compared:
    """Parts of one metric from both models for the same samples.

    Attributes:
        metric: Metric, the first of several, without margins.
        indices: Positions of the samples.
        before, after: Parts of each.
        margins: How far the margin of each moved, 0 where there are none.
    """

    metric: Any
    indices: list[int]
    before: list[Any]
    after: list[Any]
    margins: NDArray[np.float64]

    @property
    def boxes(self) -> bool:
        """Whether the parts are boxes, which have no score for each sample."""
        return isinstance(self.before[0], dict) and "found" in cast(dict[str, Any], self.before[0])

    def scores(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return a number for each sample, before and after."""
        return _scores(self.metric, self.before), _scores(self.metric, self.after)

    def worse(self, scores: tuple[NDArray[np.float64], NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return by how much each sample got worse."""
        return (scores[0] - scores[1]) * (1 if self.metric.higher_is_better else -1)


def _compared(metric: Any, before: Mapping[int, Any], after: Mapping[int, Any]) -> _Compared | None:
    """Return what both models were measured on; None if there is nothing."""
    indices: list[int] = sorted(set(before) & set(after))
    if not indices:
        return None
    one, old, new = _first(metric, [before[i] for i in indices], [after[i] for i in indices])
    margins = np.zeros(len(indices))
    if hasattr(one, "margins"):
        margins = np.abs(np.nan_to_num(one.margins(new) - one.margins(old), posinf=1e6, neginf=-1e6))
        one, old, new = one.metric, [part for part, _ in old], [part for part, _ in new]
    return _Compared(one, indices, old, new, margins)


def most_changed(metric: Any, before: Mapping[int, Any], after: Mapping[int, Any]) -> tuple[Change, ...]:
    """Return the samples that change most, at most MOST of them, by the parts of the (first) metric.

    Boxes change by what they are, other samples by their score; where scores are as far apart, by their margins.

    Args:
        metric: Metric, or several.
        before: Parts of FP32 by sample.
        after: Parts of INT8, of some samples at least.
    """
    found = _compared(metric, before, after)
    if found is None:
        return ()
    indices, margins = found.indices, found.margins
    if found.boxes:
        pairs: list[tuple[Any, Any]] = list(zip(found.before, found.after, strict=True))
        changes = np.array([boxes_changed(a["found"], b["found"]) for a, b in pairs], np.float64)
        words = [f"the boxes differ by {change:.2f}" for change in changes.tolist()]
        most: list[int] = np.argsort(-changes, kind="stable").tolist()
        return tuple(Change(indices[i], words[i]) for i in most[:MOST] if changes[i] > 0)
    scores = found.scores()
    worse = found.worse(scores)
    order: list[int] = np.lexsort((np.arange(len(indices)), -margins, -worse, -np.abs(worse))).tolist()
    return tuple(
        Change(indices[i], f"{found.metric.name} {scores[0][i]:.4g} → {scores[1][i]:.4g}")
        for i in order[:MOST]
        if worse[i] or margins[i] > 0
    )


def counted(
    metric: Any, before: Mapping[int, Any], after: Mapping[int, Any], ids: Sequence[str]
) -> ChangedFacts | None:
    """Return how many samples got worse and better, and which got worse; None where samples have no scores.

    Args:
        metric: Metric, or several.
        before: Parts of FP32 by sample.
        after: Parts of INT8, of some samples at least.
        ids: Name of each sample.
    """
    found = _compared(metric, before, after)
    if found is None or found.boxes:
        return None
    scores = found.scores()
    worse = found.worse(scores)
    order: list[int] = np.lexsort((np.arange(len(worse)), -found.margins, -worse)).tolist()
    return ChangedFacts(
        metric=found.metric.name,
        samples=len(worse),
        right_or_wrong=bool(np.isin(scores, (0.0, 1.0)).all()),
        worse=int((worse > 0).sum()),
        better=int((worse < 0).sum()),
        names=[ids[found.indices[i]] for i in order[:MOST_NAMES] if worse[i] > 0],
    )


def _first(metric: Any, before: list[Any], after: list[Any]) -> tuple[Any, list[Any], list[Any]]:
    """Return the first of several metrics with its parts of both models."""
    (one, old), (_, new) = (each_of(metric, parts)[0] for parts in (before, after))
    return one, old, new


def _scores(metric: Any, parts: Sequence[Any]) -> NDArray[np.float64]:
    """Return a number for each sample: its score, or the metric over it alone."""
    scores = metric.per_sample(parts)
    if scores is not None and len(scores) == len(parts):
        return np.nan_to_num(np.asarray(scores, np.float64))
    found: list[float] = []
    for part in parts:
        try:
            found.append(float(metric.aggregate([part])))
        except MetricError:
            found.append(0.0)
    return np.nan_to_num(np.array(found))


def boxes_changed(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]) -> float:
    """Return how far two sets of boxes are apart, rows of x1, y1, x2, y2, score, label.

    Boxes of one class are paired, those that overlap most first. A pair counts the change of its score and the better
    score times what is missing of its overlap (1 − IoU), a box without a partner its score.
    """
    old, new = (np.asarray(rows, np.float64).reshape(-1, 6) for rows in (before, after))
    overlaps = _overlaps(old[:, :4], new[:, :4]) * (old[:, 5:] == new[:, 5])
    left, right, total = set(range(len(old))), set(range(len(new))), 0.0
    for place in np.argsort(-overlaps, axis=None, kind="stable").tolist():
        a, b = divmod(place, len(new))
        if overlaps[a, b] <= 0:
            break
        if a in left and b in right:
            left.remove(a)
            right.remove(b)
            total += abs(old[a, 4] - new[b, 4]) + max(old[a, 4], new[b, 4]) * (1 - overlaps[a, b])
    return float(total + sum(old[a, 4] for a in left) + sum(new[b, 4] for b in right))


def _overlaps(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the IoU of every two boxes, ``(n, m)``."""
    first = np.maximum(one[:, None, :2], other[None, :, :2])
    last = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.clip(last - first, 0, None).prod(-1)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(-1) for boxes in (one, other)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
