"""Mean average precision as Pascal VOC defines it: at one overlap, over eleven points or all of recall."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import MetricError, UsageError
from calib.metrics.box_rows import READS, found_rows, never_found, truth_rows
from calib.metrics.numbering import labels_covering, renumbered

HIT, MISS, IGNORED = 1, 0, -1
POINTS = np.linspace(0, 1, 11)
INTEGRALS = ("all", "11")
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class VocMap:
    """Mean over classes of the average precision at one overlap (Everingham et al. 2010, section 4.2).

    In each image detections are taken by falling score; each is compared with the object of its class that it overlaps
    most (IoU). It is a hit if the overlap reaches the threshold and the object has no hit yet, else a miss. Detections
    of objects that are marked as difficult count as neither, and these objects are not asked for. Precision is made
    monotonous, and integrated over recall. Detections of equal score enter the curve together, so that neither their
    order nor that of the images matters.
    """

    name = "voc-map"
    higher_is_better = True
    unit = "fraction"
    needs_target = True
    needs_reference = False
    takes = "boxes"

    def __init__(
        self, overlap: str = "0.5", integral: str = "all", ignore_difficult: str = "true", boundaries: str = "true"
    ):
        """Make the metric.

        Args:
            overlap: Smallest overlap of a hit, above 0 and at most 1.
            integral: "all" for the area under the curve (since VOC 2010), "11" for the mean over recalls of 0, 0.1 … 1.
            ignore_difficult: Whether objects marked as difficult, and what detects them, do not count.
            boundaries: Whether the corners are pixels of the box, which is then one pixel wider and higher than the
                difference of its corners, as in VOC.

        Raises:
            UsageError: A value is none of these.
        """
        self.overlap = _number(overlap)
        if integral not in INTEGRALS:
            raise UsageError(f"metric voc-map: integral is one of {', '.join(INTEGRALS)}, got {integral!r}")
        self.integral = integral
        self.ignore_difficult = _truth(ignore_difficult, "ignore_difficult")
        self.edge = 1.0 if _truth(boundaries, "boundaries") else 0.0
        self.reads = (
            f'{READS}; target: {{"boxes": [[x1, y1, x2, y2]…], "labels": […]}} in the same pixels, and "difficult" if '
            "any; ?overlap=0.5, ?integral=all or 11, ?ignore_difficult=true, ?boundaries=true"
        )

    def measure(
        self, outputs: Sequence[NDArray[Any]], target: Any, reference: Sequence[NDArray[Any]] | None = None
    ) -> dict[str, list[Any]]:
        """Return what one image adds.

        Returns:
            "hits": rows of label, score, 1 for a hit or 0; "objects": rows of label, number of objects; "covered": rows
            of the label of an object and of what covers it.

        Raises:
            MetricError: Outputs or target have another form.
        """
        found, truth = found_rows(outputs, self.name), truth_rows(target, self.name, "difficult")
        rows: list[list[float]] = []
        for label in np.unique(found[:, 5]):
            own = found[found[:, 5] == label]
            own = own[np.argsort(-own[:, 4], kind="stable")]
            hits = self._hits(own, truth[truth[:, 4] == label])
            rows += [[label, score, hit] for score, hit in zip(own[:, 4].tolist(), hits, strict=True) if hit != IGNORED]
        counted = truth[truth[:, 5] == 0] if self.ignore_difficult else truth
        labels, counts = np.unique(counted[:, 4], return_counts=True)
        return {
            "hits": rows,
            "objects": np.column_stack([labels, counts]).tolist(),
            "covered": labels_covering(found, truth),
        }

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the mean over the classes that have an object that counts; 0 if there is none."""
        if not len(parts):
            raise MetricError(f"{self.name}: no samples to measure")
        return self.resampled(parts)(np.arange(len(parts)))

    def per_sample(self, parts: Sequence[Any]) -> None:
        """Return None, because precision is taken over the whole set."""
        return None

    def doubts(self, parts: Sequence[Any]) -> list[str]:
        """Say that objects have other numbers of classes, or some beyond those of all detections."""
        moved = renumbered(self.name, (pair for part in parts for pair in part["covered"]))
        wanted = {int(row[0]) for part in parts for row in part["objects"]}
        return moved or never_found(self.name, wanted, {int(row[0]) for part in parts for row in part["hits"]})

    def resampled(self, parts: Sequence[Any]) -> Callable[[NDArray[np.int64]], float]:
        """Return the function ``indices of samples, some of them often → mean average precision``."""
        found = np.array([(i, *row) for i, part in enumerate(parts) for row in part["hits"]], np.float64).reshape(-1, 4)
        objects = np.array([(i, *row) for i, part in enumerate(parts) for row in part["objects"]], np.float64)
        objects = objects.reshape(-1, 3)
        classes = [(found[found[:, 1] == label], objects[objects[:, 1] == label]) for label in np.unique(objects[:, 1])]
        grouped = [(own, *np.unique(-own[:, 2], return_inverse=True)[1:], wanted) for own, wanted in classes]

        def value(chosen: NDArray[np.int64]) -> float:
            times = np.bincount(chosen, minlength=len(parts))
            precisions = [
                self._average(own[:, 3], groups, times[own[:, 0].astype(int)], float(count))
                for own, groups, wanted in grouped
                if (count := times[wanted[:, 0].astype(int)] @ wanted[:, 2])
            ]
            return float(np.mean(precisions)) if precisions else 0.0

        return value

    def _hits(self, found: NDArray[np.float64], truth: NDArray[np.float64]) -> list[int]:
        """Return what each detection of one class is, best score first."""
        if not len(truth):
            return [MISS] * len(found)
        overlaps = _overlaps(found[:, None, :4], truth[None, :, :4], self.edge)
        best, reached = overlaps.argmax(axis=1), overlaps.max(axis=1) >= self.overlap
        taken: set[int] = set()
        hits: list[int] = []
        for one, enough in zip(best.tolist(), reached.tolist(), strict=True):
            ignored = self.ignore_difficult and truth[one, 5] > 0
            hits.append(MISS if not enough or one in taken else IGNORED if ignored else HIT)
            if enough:
                taken.add(one)
        return hits

    def _average(
        self, hit: NDArray[np.float64], groups: NDArray[np.int64], times: NDArray[np.int64], objects: float
    ) -> float:
        """Return the average precision of one class.

        Args:
            hit: 1 for each detection that is a hit, 0 for others.
            groups: Number of its score among all, the best first.
            times: How often it counts.
            objects: Number of objects.
        """
        hits = np.cumsum(np.bincount(groups, weights=hit * times))
        total = np.cumsum(np.bincount(groups, weights=times))
        recall, precision = hits / objects, hits / np.maximum(total, 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        if self.integral == "11":
            places = np.searchsorted(recall, POINTS - 1e-12)
            return float(np.append(precision, 0.0)[places].mean())
        return float((np.diff(recall, prepend=0.0) * precision).sum())


def _overlaps(one: NDArray[np.float64], other: NDArray[np.float64], edge: float) -> NDArray[np.float64]:
    """Return intersection over union of boxes ``(…, 4)``, broadcast; 0 where both are empty."""
    low, high = np.maximum(one[..., :2], other[..., :2]), np.minimum(one[..., 2:], other[..., 2:])
    shared = np.maximum(high - low + edge, 0).prod(-1)
    sizes = [np.maximum(box[..., 2:] - box[..., :2] + edge, 0).prod(-1) for box in (one, other)]
    union = sizes[0] + sizes[1] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise UsageError(f"metric voc-map: overlap is a number above 0 and at most 1, got {text!r}")
    return value


def _truth(text: str, key: str) -> bool:
    if text.lower() not in _TRUTH:
        raise UsageError(f"metric voc-map: {key} is true or false, got {text!r}")
    return _TRUTH[text.lower()]
