"""Final boxes with scores and labels: what detectors give behind their own suppression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.outputs.decoder import Arrays, Match, ModelFacts, OutputFact, output_of, refuse, without_batch
from calib.outputs.postprocess import BoxSteps
from calib.values.detections import Detections


@dataclass(frozen=True)
class Boxes:
    """Corners x1, y1, x2, y2 with scores and labels, in one to three outputs.

    ``[N, 4]`` boxes with float ``[N]`` scores and integer ``[N]`` labels; ``[N, 5]`` boxes with scores, with or without
    integer ``[N]`` labels; or one ``[N, 6]`` of box, score and label. Each may have leading axes of 1.

    Attributes:
        boxes: Name or number of the output of boxes; "" for the one of that shape.
        scores: Name or number of the output of scores; "" for the one of that shape.
        labels: Name or number of the output of labels; "" for the one of that shape.
        relative: Whether coordinates are shares of the input's sides; otherwise pixels of the input.
        label: Label of boxes that have none.
    """

    boxes: str = ""
    scores: str = ""
    labels: str = ""
    relative: bool = False
    label: int = 0

    postprocessing = BoxSteps(score=0.0, nms=0.0)
    reads = (
        "boxes [N, 4] as x1, y1, x2, y2 with float scores [N] and integer labels [N]; boxes with scores [N, 5], and "
        "labels [N] if any; or one output [N, 6] of x1, y1, x2, y2, score, label"
    )

    @classmethod
    def recognize(cls, facts: ModelFacts) -> Match | None:
        """Match by shapes alone: N is unknown or small, and the last axis is the form's."""
        tables = [output for output in facts.outputs if _rank(output) == 2]
        rows = [output for output in facts.outputs if _rank(output) == 1]
        labels, scores = [one for one in rows if not one.real], [one for one in rows if one.real]
        if len(tables) != 1 or len(rows) > 2 or not tables[0].real or len(facts.outputs) != 1 + len(rows):
            return None
        form = (tables[0].shape[-1], len(scores), len(labels))
        if form not in ((4, 1, 1), (5, 0, 1), (5, 0, 0), (6, 0, 0)) or (len(facts.outputs) == 1 and _has_batch(tables)):
            return None
        return Match(f"{', '.join(map(str, facts.outputs))} are boxes, scores and labels")

    def decode(self, outputs: Arrays, facts: ModelFacts, size: tuple[int, int]) -> Detections:
        """Return the boxes; labels are those of the model."""
        arrays = _without_batch([np.asarray(array) for array in outputs])
        table = without_batch(output_of(outputs, facts, self.boxes, -1), 2) if self.boxes else _table(arrays)
        rows = [array.ravel() for array in arrays if array is not table and array.size in (0, max(array.shape or (1,)))]
        scores = self._row(self.scores, outputs, facts, [row for row in rows if row.dtype.kind == "f"])
        labels = self._row(self.labels, outputs, facts, [row for row in rows if row.dtype.kind in "iu"])
        if (
            table is None
            or table.ndim != 2
            or table.shape[1] not in (4, 5, 6)
            or (table.shape[1] == 4 and scores is None)
        ):
            raise refuse("boxes", self.reads, outputs)
        if scores is None:
            scores = table[:, 4]
        if labels is None:
            labels = table[:, 5] if table.shape[1] == 6 else np.full(len(table), self.label)
        if not len(table) == len(scores) == len(labels):
            raise refuse("boxes", f"{self.reads}, of equal lengths", outputs)
        boxes = table[:, :4] * (np.tile(size[::-1], 2) if self.relative else 1)
        return Detections(boxes, scores, whole(labels))

    def _row(self, name: str, outputs: Arrays, facts: ModelFacts, found: Arrays) -> NDArray[Any] | None:
        if name:
            return output_of(outputs, facts, name, -1).ravel()
        return found[0] if len(found) == 1 else None


def _without_batch(arrays: Arrays) -> list[NDArray[Any]]:
    """Drop a batch axis of 1; the rank of the largest output tells boxes [1, 4] of one detection, which have none."""
    arrays = [without_batch(array, 3) for array in arrays]
    if max((array.ndim for array in arrays), default=0) < 3:
        return list(arrays)
    return [array[0] if array.ndim > 1 and array.shape[0] == 1 else array for array in arrays]


def _table(arrays: Arrays) -> NDArray[Any] | None:
    """Return the largest table of four to six columns: scores [1, 5] of five boxes look like one, too."""
    tables = [array for array in arrays if array.ndim == 2 and array.shape[1] in (4, 5, 6) and array.dtype.kind == "f"]
    return max(tables, key=np.size, default=None)


def whole(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Return labels as integers; −1 where they are not finite, a class that nothing has."""
    wide = np.asarray(labels, np.float64)
    return np.where(np.isfinite(wide), wide, -1).clip(-(2**31), 2**31).round().astype(np.int64)


def _rank(output: OutputFact) -> int:
    """Return the number of axes without leading ones of 1, at least 1."""
    shape = output.shape
    while len(shape) > 1 and shape[0] == 1 and not (len(shape) == 2 and shape[1] in (4, 5, 6) and output.real):
        shape = shape[1:]
    return len(shape)


def _has_batch(tables: list[OutputFact]) -> bool:
    """Return whether one table has a batch axis: then it is a head of a YOLO with its suppression inside."""
    return len(tables[0].shape) > 2
