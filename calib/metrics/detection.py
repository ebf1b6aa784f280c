"""Metrics of boxes against boxes: COCO's average precision (extra: faster-coco-eval)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import MetricError, MissingExtraError
from calib.metrics.box_rows import READS, found_rows, truth_rows
from calib.values.distribution import requirement

# COCO's own limit: of one image the 100 detections with the highest scores count.
DETECTIONS = 100


class CocoMap:
    """Mean average precision over IoU thresholds 0.50:0.05:0.95 and all classes, as COCO defines it."""

    name = "coco-map"
    higher_is_better = True
    unit = "average precision"
    reads = f'{READS}; target: {{"boxes": [[x1, y1, x2, y2]…], "labels": […]}} in the same pixels, and "iscrowd" if any'
    needs_target = True
    needs_reference = False
    takes = "boxes"

    def __init__(self):
        if importlib.util.find_spec("faster_coco_eval") is None:
            raise MissingExtraError(f"the metric {self.name}", "faster-coco-eval", requirement("faster-coco-eval"))

    def measure(
        self, outputs: Sequence[NDArray[Any]], target: Any, reference: Sequence[NDArray[Any]] | None = None
    ) -> dict[str, list[list[float]]]:
        """Return {"found": rows of x1, y1, x2, y2, score, label; "truth": rows of x1, y1, x2, y2, label, iscrowd}.

        Raises:
            MetricError: Outputs or target have another form.
        """
        found = found_rows(outputs, self.name)
        order = np.argsort(-found[:, 4], kind="stable")[:DETECTIONS]
        return {"found": found[order].tolist(), "truth": truth_rows(target, self.name, "iscrowd").tolist()}

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the average precision in 0..1; 0 if there is nothing to find."""
        if not len(parts):
            raise MetricError(f"{self.name}: no samples to measure")
        if not any(part["truth"] for part in parts):
            return 0.0
        from faster_coco_eval import COCO, COCOeval_faster

        # Equal scores in different images stay in the order of the images, which moved AP by 0.09 on a dozen samples.
        parts = sorted(parts, key=repr)
        truth = COCO(_coco(parts), print_function=_silent)
        evaluator = COCOeval_faster(truth, truth.loadRes(_detections(parts)), "bbox", print_function=_silent)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
        return max(0.0, float(evaluator.stats[0]))

    def per_sample(self, parts: Sequence[Any]) -> None:
        """Return None, because precision is taken over the whole set."""
        return None


def _silent(*_: Any) -> None:
    """Suppress what the library prints."""


def _size(box: Sequence[float]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def _coco(parts: Sequence[Any]) -> dict[str, Any]:
    """Return the ground truth in COCO's format; each part is a separate image, even if it was drawn twice."""
    rows = [(image, row) for image, part in enumerate(parts, 1) for row in part["truth"]]
    labels = {int(row[4]) for _, row in rows} | {int(row[5]) for part in parts for row in part["found"]}
    return {
        "info": {},
        "images": [{"id": image} for image in range(1, len(parts) + 1)],
        "categories": [{"id": label, "name": str(label)} for label in sorted(labels)],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": int(row[4]),
                "bbox": _size(row),
                "area": (row[2] - row[0]) * (row[3] - row[1]),
                "iscrowd": int(row[5]),
            }
            for number, (image, row) in enumerate(rows, 1)
        ],
    }


def _detections(parts: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {"image_id": image, "category_id": int(row[5]), "bbox": _size(row), "score": row[4]}
        for image, part in enumerate(parts, 1)
        for row in part["found"]
    ]
