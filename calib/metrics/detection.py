"""Metrics of boxes against boxes: COCO's average precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import MetricError
from calib.metrics.box_rows import READS, found_rows, never_found, truth_rows
from calib.metrics.numbering import labels_covering, renumbered

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

# COCO's own limit: of one image the 100 detections with the highest scores count.
DETECTIONS = 100
OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
LARGEST = 1e5**2  # square pixels of an object that counts, as in COCO's area "all"


class CocoMap:
    """Mean average precision over IoU thresholds 0.50:0.05:0.95 and all classes, as COCO defines it.

    T.-Y. Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, as its own program computes it: precision
    is the best one at no less recall, taken at 101 recalls. Detections are matched while measuring, so that the value
    over any samples, or a resample of them, is a sort by score and sums.
    """

    name = "coco-map"
    higher_is_better = True
    unit = "average precision"
    reads = f'{READS}; target: {{"boxes": [[x1, y1, x2, y2]…], "labels": […]}} in the same pixels, and "iscrowd" if any'
    needs_target = True
    needs_reference = False
    takes = "boxes"

    def measure(
        self, outputs: Sequence[NDArray[Any]], target: Any, reference: Sequence[NDArray[Any]] | None = None
    ) -> dict[str, list[Any]]:
        """Return what one image adds.

        Returns:
            "found": rows of x1, y1, x2, y2, score, label, best score first; "matched" and "ignored": one number a row,
            whose bit i says that it has a match at the i-th threshold, or does not count there; "objects": rows of
            label, number of objects that count; "covered": rows of the label of an object and of what covers it.

        Raises:
            MetricError: Outputs or target have another form.
        """
        found, truth = found_rows(outputs, self.name), truth_rows(target, self.name, "iscrowd")
        found = found[np.argsort(-found[:, 4], kind="stable")[:DETECTIONS]]
        found[:, 5], truth[:, 4] = np.trunc(found[:, 5]), np.trunc(truth[:, 4])
        matched, ignored = np.zeros((2, len(OVERLAPS), len(found)), bool)
        for label in np.unique(found[:, 5]):
            own = found[:, 5] == label
            matched[:, own], ignored[:, own] = _matches(found[own], truth[truth[:, 4] == label])
        bits = 1 << np.arange(len(OVERLAPS))
        labels, counts = np.unique(truth[~_uncounted(truth), 4], return_counts=True)
        return {
            "found": found.tolist(),
            "matched": (bits @ matched).tolist(),
            "ignored": (bits @ ignored).tolist(),
            "objects": [list(row) for row in zip(labels.tolist(), counts.tolist(), strict=True)],
            "covered": labels_covering(found, truth),
        }

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the average precision in 0..1; 0 if there is nothing to find."""
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
        return moved or never_found(self.name, wanted, {int(row[5]) for part in parts for row in part["found"]})

    def resampled(self, parts: Sequence[Any]) -> Callable[[NDArray[np.int64]], float]:
        """Return the function ``indices of samples, some of them often → average precision``."""
        # Equal scores in different images stay in the order of the images, which moved AP by 0.09 on a dozen samples.
        order = sorted(range(len(parts)), key=lambda i: repr(parts[i]))
        classes = _classes([parts[i] for i in order])

        def value(chosen: NDArray[np.int64]) -> float:
            times = np.bincount(chosen, minlength=len(parts))[order]
            found = [one.average(times) for one in classes]
            found = [average for average in found if average is not None]
            return float(np.mean(found)) if found else 0.0

        return value


def _uncounted(truth: Floats) -> Flags:
    """Return which objects are not asked for: crowds, and those without an area or of a huge one."""
    area = (truth[:, 2] - truth[:, 0]) * (truth[:, 3] - truth[:, 1])
    return (truth[:, 5] != 0) | (area < 0) | (area > LARGEST)


def _matches(found: Floats, truth: Floats) -> tuple[Flags, Flags]:
    """Match detections of one class, best first; return which have a match and which do not count, ``(10, N)``.

    At each threshold a detection takes the object that it overlaps most and that none has taken, of those that count if
    any overlaps enough. What takes an object that does not count does not count either; crowds can be taken often.
    """
    area = (found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1])
    matched = np.zeros((len(OVERLAPS), len(found)), bool)
    ignored = np.repeat(((area < 0) | (area > LARGEST))[None], len(OVERLAPS), axis=0)
    if not len(truth):
        return matched, ignored
    left, crowd = _uncounted(truth), truth[:, 5] != 0
    overlaps = _overlaps(found[:, :4], truth[:, :4], crowd)
    free = np.ones((len(OVERLAPS), len(truth)), bool)
    least = np.minimum(OVERLAPS, 1 - 1e-10)[:, None]
    for number in np.flatnonzero(overlaps.max(axis=1) >= least[0]).tolist():
        for group in (~left, left):
            fits = (free | crowd) & group & (overlaps[number] >= least)
            # Of objects that it overlaps alike the last is taken, as in COCO's program.
            best = len(truth) - 1 - np.where(fits, overlaps[number], -1.0)[:, ::-1].argmax(axis=1)
            taken = fits.any(axis=1) & ~matched[:, number]
            matched[taken, number], ignored[taken, number] = True, left[best[taken]]
            free[taken, best[taken]] = False
    return matched, ignored


def _overlaps(found: Floats, truth: Floats, crowd: Flags) -> Floats:
    """Return the IoU of each pair of boxes, ``(N, M)``; of a crowd the share of the found box that lies in it."""
    size, true_size = found[:, 2:] - found[:, :2], truth[:, 2:] - truth[:, :2]
    # COCO keeps corner and size: the other corner is their sum, which can differ in the last bit.
    high = np.minimum((found[:, :2] + size)[:, None], (truth[:, :2] + true_size)[None])
    shared = np.maximum(high - np.maximum(found[:, None, :2], truth[None, :, :2]), 0).prod(-1)
    area, true_area = size.prod(-1)[:, None], true_size.prod(-1)[None]
    base = np.where(crowd, area, area + true_area - shared)
    return np.divide(shared, base, out=np.zeros_like(shared), where=base > 0)


@dataclass(frozen=True)
class _Class:
    """Detections of one class in all images, best first.

    Attributes:
        images: Image of each detection.
        hits: Positions of those that are hits, for each threshold.
        counted: Which of them count, ``(10, N)``; None if all do.
        objects: Number of objects in each image.
    """

    images: NDArray[np.int64]
    hits: list[NDArray[np.int64]]
    counted: Flags | None
    objects: NDArray[np.int64]

    def average(self, times: NDArray[np.int64]) -> float | None:
        """Return the average precision; None without an object.

        Args:
            times: How often each image is in the set.
        """
        wanted = int(times @ self.objects)
        if not wanted:
            return None
        weights, total = times[self.images], 0.0
        seen = np.cumsum(weights) if self.counted is None else None
        for number, places in enumerate(self.hits):
            # Precision only rises at hits, so that the best one at no less recall is that of a hit.
            hits = np.cumsum(weights[places])
            counted = seen if self.counted is None else np.cumsum(weights * self.counted[number])
            assert counted is not None, "set above"
            precision = hits / (counted[places] + np.spacing(1))
            precision = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
            total += float(precision[np.searchsorted(hits / wanted, RECALLS, side="left")].mean())
        return total / len(self.hits)


def _classes(parts: Sequence[Any]) -> list[_Class]:
    """Return the detections of each class that has an object; the order of images is that of the parts."""
    images = np.repeat(np.arange(len(parts)), [len(part["found"]) for part in parts])
    found = np.array([row[4:] for part in parts for row in part["found"]], np.float64).reshape(-1, 2)
    matched, ignored = (
        np.array([bit for part in parts for bit in part[key]], np.int64) for key in ("matched", "ignored")
    )
    objects = np.array([(i, *row) for i, part in enumerate(parts) for row in part["objects"]], np.int64).reshape(-1, 3)
    classes: list[_Class] = []
    for label in np.unique(objects[:, 1]):
        own = np.flatnonzero(found[:, 1] == label)
        own = own[np.argsort(-found[own, 0], kind="stable")]
        hits, left = (flags[own] >> np.arange(len(OVERLAPS))[:, None] & 1 > 0 for flags in (matched, ignored))
        mine = objects[objects[:, 1] == label]
        classes.append(
            _Class(
                images[own],
                [np.flatnonzero(row) for row in hits & ~left],
                ~left if left.any() else None,
                np.bincount(mine[:, 0], mine[:, 2], len(parts)).astype(np.int64),
            )
        )
    return classes
