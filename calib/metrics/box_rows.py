"""Boxes of outputs and of targets as tables, for the metrics of detection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import MetricError

READS = (
    "outputs that a decoder knows ('calib help decoders'), or in any order: boxes [N, 4] as x1, y1, x2, y2, float "
    "scores [N] and integer labels [N]; or boxes with scores [N, 5] and labels [N]; or one output [N, 6] of x1, y1, "
    "x2, y2, score, label; each may have a leading axis of 1"
)


def found_rows(outputs: Sequence[NDArray[Any]], name: str) -> NDArray[np.float64]:
    """Return rows of x1, y1, x2, y2, score, label; those that hold a number that is not finite are left out.

    Raises:
        MetricError: The outputs do not have one of the forms of `READS`.
    """
    arrays = _without_batch([np.asarray(array) for array in outputs])
    tables = [array for array in arrays if array.ndim == 2]
    labels = [array for array in arrays if array.ndim == 1 and array.dtype.kind in "iu"]
    scores = [array for array in arrays if array.ndim == 1 and array.dtype.kind == "f"]
    width = tables[0].shape[1] if len(tables) == 1 else 0
    if (width, len(scores), len(labels)) not in ((4, 1, 1), (5, 0, 1), (6, 0, 0)):
        shapes = ", ".join(f"{list(np.shape(array))} {np.asarray(array).dtype}" for array in outputs)
        raise MetricError(
            f"{name}: reads {READS}; the outputs are {shapes}. For another form give --decode NAME (decode=…), or a "
            "function: python:module:function"
        )
    columns = [tables[0], *(array[:, None] for array in (*scores, *labels))]
    if len({len(column) for column in columns}) != 1:
        raise MetricError(f"{name}: boxes, scores and labels of different lengths: {[len(c) for c in columns]}")
    rows = np.concatenate(columns, axis=1, dtype=np.float64)
    return rows[np.isfinite(rows).all(1)]


def truth_rows(target: Any, name: str, mark: str) -> NDArray[np.float64]:
    """Return rows of x1, y1, x2, y2, label, mark.

    Args:
        target: ``{"boxes": [[x1, y1, x2, y2]…], "labels": […]}``, and a list under ``mark`` if any.
        name: Name of the metric.
        mark: "iscrowd" or "difficult": which objects count in another way; none if the target does not say.

    Raises:
        MetricError: The target has another form.
    """
    if not isinstance(target, Mapping) or not {"boxes", "labels"} <= set(target):
        raise MetricError(f'{name}: a target is {{"boxes": …, "labels": …}}, got {str(target)[:60]!r}')
    boxes = np.asarray(target["boxes"], np.float64).reshape(-1, 4)
    labels = np.asarray(target["labels"], np.float64).reshape(-1)
    marks = np.asarray(target.get(mark, np.zeros(len(labels))), np.float64).reshape(-1)
    if not len(boxes) == len(labels) == len(marks):
        raise MetricError(f"{name}: {len(boxes)} boxes, {len(labels)} labels and {len(marks)} {mark} in a target")
    return np.column_stack([boxes, labels, marks])


def never_found(name: str, wanted: set[int], found: set[int]) -> list[str]:
    """Return a sentence if objects have classes beyond all that any detection has; [] otherwise.

    Args:
        name: Name of the metric.
        wanted: Classes of the objects.
        found: Classes of the detections.
    """
    beyond = sorted(label for label in wanted if found and label > max(found))
    if not beyond:
        return []
    shown = ", ".join(map(str, beyond[:3])) + (", …" if len(beyond) > 3 else "")
    return [
        f"{name}: no detection has a class above {max(found)}, and the annotations have {shown}: {len(beyond)} of "
        f"their {len(wanted)} classes. If the model has fewer classes, leave these out of the annotations; if it "
        "numbers them otherwise, move them: ?first= or ?labels=ids of the data (calib help data), label_shift= of "
        "--decode"
    ]


def _without_batch(arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Drop a batch axis of 1; the rank of the largest output tells boxes [1, 4] of one detection, which have none."""
    if max((array.ndim for array in arrays), default=0) < 3:
        return list(arrays)
    return [array[0] if array.ndim > 1 and array.shape[0] == 1 else array for array in arrays]
