"""Average precision of boxes from parts of images: Pascal VOC's (Everingham 2010) and COCO's (Lin et al. 2014)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.accuracy_check.fields import Fields
from calib.accuracy_check.measure import IGNORED, Measure
from calib.accuracy_check.values import Boxes, Labels, Value
from calib.errors import MetricError

_ALL = np.linspace(0.5, 0.95, 10)  # COCO's thresholds of overlap


def _boxes(annotation: Value, prediction: Value) -> tuple[Boxes, Boxes]:
    if not isinstance(annotation, Boxes) or not isinstance(prediction, Boxes):
        raise MetricError("a metric of boxes takes boxes")
    return annotation, prediction


def _mean(values: Iterable[float | None]) -> float:
    """Return the mean of the classes that have a value; 0 without one."""
    found = [value for value in values if value is not None]
    return float(np.mean(found)) if found else 0.0


def _by_class(parts: Sequence[Any]) -> Iterator[list[Any]]:
    """Yield the rows of each class that occurs, in the order of their numbers."""
    labels = sorted({label for part in parts for label in part}, key=int)
    return ([part[label] for part in parts if label in part] for label in labels)


def overlaps(found: NDArray[Any], truth: NDArray[Any], edge: float, own: bool | NDArray[np.bool_] = False) -> Any:
    """Return the overlap of each pair of boxes, ``(N, M)``.

    Args:
        found: Corners, ``(N, 4)``.
        truth: Corners, ``(M, 4)``.
        edge: Length added to each side.
        own: Whether the shared area is divided by the found box alone (IoA) and not by the union, for all or each of M.
    """
    low = np.maximum(found[:, None, :2], truth[None, :, :2])
    high = np.maximum(low, np.minimum(found[:, None, 2:], truth[None, :, 2:]))
    shared = np.prod(high - low + edge, axis=2)
    area, other = (np.prod(one[:, 2:] - one[:, :2] + edge, axis=1) for one in (found, truth))
    base = np.where(own, area[:, None] + 0 * other, area[:, None] + other - shared)
    return np.divide(shared, base, out=np.zeros_like(shared, dtype=float), where=base != 0)


@dataclass(frozen=True)
class _VocMap:
    labels: Sequence[int]
    least: float
    skip: bool
    edge: int
    distinct: bool
    several: bool
    by_own: bool
    filtered: bool
    points: bool
    unit: str = "fraction"
    mean: bool = False
    higher: bool = True

    def part(self, annotation: Value, prediction: Value) -> Any:
        """Return for each class that occurs: scores, hits and misses of the found boxes, and the number to find."""
        truth, found = _boxes(annotation, prediction)
        parts: dict[str, Any] = {}
        for label in self.labels:
            true, mine = truth.labels == label, found.labels == label
            if not true.any() and not mine.any():
                continue
            hard = truth.difficult[true] if self.skip else np.zeros(int(true.sum()), bool)
            order = np.argsort(-found.scores[mine], kind="stable")
            ignored = (found.difficult[mine] & self.skip)[order]
            hits, misses = self._matched(found.corners[mine][order], truth.corners[true], hard, ignored)
            scores = found.scores[mine][order].astype(float).tolist()
            parts[str(label)] = [scores, hits.tolist(), misses.tolist(), int((~hard).sum())]
        return parts

    def _matched(
        self, boxes: NDArray[Any], truth: NDArray[Any], hard: NDArray[np.bool_], ignored: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Match found boxes, best first, with those to find; return (hits, misses), 0 or 1 for each."""
        hits, misses = np.zeros(len(boxes), np.int64), np.zeros(len(boxes), np.int64)
        if not len(truth):
            return hits, misses + 1
        used = np.zeros(len(truth), bool)
        own = hard if self.skip and self.several else np.zeros(len(truth), bool)
        shared = overlaps(boxes, truth, self.edge, own | self.by_own)
        for number, row in enumerate(shared):
            best = row[~hard].max(initial=-np.inf)
            if best < self.least and hard.any():
                best = row[hard].max()
            at, counts = row == best, int(not ignored[number])
            if best < self.least:
                misses[number] = counts
            elif not hard[at].any():
                if used[at].any():
                    misses[number] = counts
                elif counts or self.filtered:
                    hits[number] = 1
                    used |= at
            elif not self.several:
                misses[number] = counts if used[at].any() else 0
                used |= at
        return hits, misses

    def value(self, parts: Sequence[Any]) -> float:
        """Return the mean over the classes of which any box was found."""
        return _mean(self._class(rows) for rows in _by_class(parts))

    def _class(self, rows: Sequence[Any]) -> float | None:
        scores = np.concatenate([row[0] for row in rows] or [[]])
        if not len(scores):
            return None
        order = np.argsort(-scores, kind="stable")
        hits, misses = (np.cumsum(np.concatenate([row[part] for row in rows])[order]) for part in (1, 2))
        if self.distinct:
            ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
            hits, misses = hits[ends], misses[ends]
        tiny = np.finfo(float).eps
        precision, recall = hits / np.maximum(hits + misses, tiny), hits / max(sum(row[3] for row in rows), tiny)
        return _eleven_points(precision, recall) if self.points else _all_points(precision, recall)


def _eleven_points(precision: NDArray[Any], recall: NDArray[Any]) -> float:
    """Return the mean of the best precision at recalls 0, 0.1, … 1 (VOC 2007)."""
    return sum(float(precision[recall >= point].max(initial=0.0)) / 11 for point in np.arange(0.0, 1.1, 0.1))


def _all_points(precision: NDArray[Any], recall: NDArray[Any]) -> float:
    """Return the area under the falling envelope of precision over recall (VOC 2010)."""
    recall, precision = np.concatenate([[0.0], recall, [1.0]]), np.concatenate([[0.0], precision, [0.0]])
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * precision[1:]))


def voc_map(fields: Fields, labels: Labels) -> Measure:
    """Return mAP at one overlap, with Accuracy Checker's ways to count boxes that are difficult."""
    fields.get("label_map")
    made = _VocMap(
        labels=labels.counted,
        least=fields.number("overlap_threshold", 0.5, 0, 1),
        skip=fields.flag("ignore_difficult", True),
        edge=int(fields.flag("include_boundaries", True)),
        distinct=fields.flag("distinct_conf"),
        several=fields.flag("allow_multiple_matches_per_ignored"),
        by_own=fields.choice("overlap_method", ("iou", "ioa"), "iou") == "ioa",
        filtered=fields.flag("use_filtered_tp"),
        points=fields.choice("integral", ("11point", "max"), "max") == "11point",
    )
    fields.finish(*IGNORED)
    return made


@dataclass(frozen=True)
class _Coco:
    """COCO's precision.

    Attributes:
        labels: Classes.
        thresholds: Overlaps at which a box counts as found.
        most: Number of boxes of an image and a class that count, the best ones.
        edge: Length added to the sides of found boxes.
        truth_edge: Length added to the sides of those of the annotation.
        crowds: Whether a box in a crowd is compared by the share of itself.
    """

    labels: Sequence[int]
    thresholds: tuple[float, ...]
    most: int
    edge: int = 0
    crowds: bool = False
    unit: str = "fraction"
    mean: bool = False
    higher: bool = True

    def part(self, annotation: Value, prediction: Value) -> Any:
        """Return for each class that occurs: scores, matches and ignored ones by threshold, and the number to find."""
        truth, found = _boxes(annotation, prediction)
        parts: dict[str, Any] = {}
        for label in self.labels:
            true, mine = np.flatnonzero(truth.labels == label), np.flatnonzero(found.labels == label)
            if not len(true) and not len(mine):
                continue
            ignored = truth.difficult[true] | truth.crowd[true]
            true = true[np.argsort(ignored, kind="stable")]
            mine = mine[np.argsort(-found.scores[mine], kind="stable")][: self.most]
            ignored = truth.difficult[true] | truth.crowd[true]
            shared = self._overlaps(found.corners[mine], truth.corners[true], truth.crowd[true])
            matched, left = self._matched(shared, ignored, truth.crowd[true])
            left = left | found.difficult[mine]
            scores = found.scores[mine].astype(float).tolist()
            parts[str(label)] = [scores, matched.tolist(), left.tolist(), int((~ignored).sum())]
        return parts

    def _overlaps(self, found: NDArray[Any], truth: NDArray[Any], crowd: NDArray[np.bool_]) -> NDArray[Any]:
        grown = found.astype(float) + np.array([0, 0, self.edge, self.edge])
        shared = overlaps(grown, truth, 0, crowd if self.crowds else False)
        return shared if self.crowds else shared.astype(np.float32)  # in the precision of the original

    def _matched(
        self, shared: NDArray[Any], ignored: NDArray[np.bool_], crowd: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Match found boxes, best first; return whether each has a match, and one that does not count, ``(T, N)``."""
        matched = np.zeros((len(self.thresholds), len(shared)), bool)
        left = np.zeros_like(matched)
        for at, threshold in enumerate(self.thresholds):
            used = np.zeros(len(ignored), bool)
            for number, row in enumerate(shared):
                best = _best(row, min(threshold, 1 - 1e-10), used & ~crowd, ignored)
                if best >= 0:
                    matched[at, number], left[at, number] = True, ignored[best]
                    # the original notes a match by the number of the box, so that one of number 0 is not noted
                    used[best] = number > 0 or self.crowds
        return matched, left

    def value(self, parts: Sequence[Any]) -> float:
        """Return the mean over the classes that occur."""
        return _mean(self._class(rows) for rows in _by_class(parts))

    def _class(self, rows: Sequence[Any]) -> float | None:
        wanted = sum(row[3] for row in rows)
        if not wanted:
            return None
        scores = np.concatenate([row[0] for row in rows])
        order = np.argsort(-scores, kind="stable")
        shape = (len(self.thresholds), -1)
        matched, left = (
            np.concatenate([np.reshape(row[part], shape) for row in rows], axis=1).astype(bool)[:, order]
            for part in (1, 2)
        )
        hits, misses = np.cumsum(matched & ~left, axis=1), np.cumsum(~matched & ~left, axis=1)
        return float(np.mean([_at_recalls(one, other, wanted) for one, other in zip(hits, misses, strict=True)]))


def _best(row: NDArray[Any], least: float, taken: NDArray[np.bool_], ignored: NDArray[np.bool_]) -> int:
    """Return the box to find that a found one overlaps most, those that count first; -1 if none overlaps enough."""
    best = -1
    for number, value in enumerate(row):
        if taken[number]:
            continue
        if best > -1 and not ignored[best] and ignored[number]:
            break
        if value >= least:
            least, best = value, number
    return best


def _at_recalls(hits: NDArray[Any], misses: NDArray[Any], wanted: int) -> float:
    """Return the mean of the best precision at the recalls 0, 0.01, … 1."""
    precision = hits / (hits + misses + np.spacing(1))
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(hits / wanted, np.linspace(0.0, 1.0, 101), side="left")
    return float(np.sum(precision[places[places < len(precision)]]) / 101)


def _thresholds(fields: Fields) -> tuple[float, ...]:
    given = fields.get("threshold", ".50:.05:.95")
    try:
        numbers = [float(one) for one in str(given).strip("[]").replace(",", ":").split(":")]
    except ValueError:
        fields.refuse(f"threshold must be a number or 0.5:0.05:0.95, got {str(given)[:40]!r}")
        return (0.5,)
    if numbers == [0.5, 0.05, 0.95] and isinstance(given, str) and ":" in given:
        return tuple(_ALL)
    return tuple(numbers)


def coco_precision(fields: Fields, labels: Labels) -> Measure:
    """Return Accuracy Checker's own precision over COCO's thresholds; 20 boxes of an image count by default."""
    made = _Coco(labels.counted, _thresholds(fields), fields.size("max_detections", 20) or 20)
    fields.finish(*IGNORED)
    return made


def coco_orig_precision(fields: Fields, labels: Labels) -> Measure:
    """Return COCO's precision as pycocotools computes it: 100 boxes of an image count, crowds by the share of a box."""
    edge = int(fields.flag("include_boundaries", True))
    made = _Coco(labels.counted, _thresholds(fields), 100, edge, crowds=True)
    fields.finish(*IGNORED)
    return made
