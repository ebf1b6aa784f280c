"""YOLO v5, v6 and v7 as exported: one table of decoded boxes with objectness and classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.outputs.decoder import Arrays, Match, ModelFacts, output_of, refuse, without_batch
from calib.outputs.grid import best_class, cell_count, corners
from calib.outputs.postprocess import BoxSteps
from calib.values.detections import Detections

STRIDES = ((8, 16, 32), (8, 16, 32, 64))
ANCHORS = 3  # of each cell


@dataclass(frozen=True)
class YoloV5:
    """One output ``[1, N, 5+C]`` of centre x, y, width, height in pixels of the input, objectness and classes.

    The score of a box is objectness · class.

    Attributes:
        output: Name or number of the output; "" for the first.
        relative: Whether coordinates are shares of the input's sides; otherwise pixels of the input.
        several: Whether each class of a box is a detection of its own, and not the best one alone.
    """

    output: str = ""
    relative: bool = False
    several: bool = False

    postprocessing = BoxSteps(nms=0.65)
    reads = "one output [1, N, 5+C] of centre x, y, width, height, objectness and classes"

    @classmethod
    def recognize(cls, facts: ModelFacts) -> Match | None:
        """Match a table of as many rows as three anchors in the cells of the strides 8, 16, 32 (and 64) have."""
        table = facts.table_with_objectness
        if table is None:
            return None
        output, rows, columns = table
        counts = [cell_count(facts.size, strides) for strides in STRIDES]
        if rows is not None and None not in counts and rows not in [ANCHORS * (count or 0) for count in counts]:
            return None
        if rows is not None and rows <= columns:
            return None
        return Match(
            f"{output} has rows for three anchors a cell of a box, an objectness and {columns - 5} classes",
            {"output": output.name},
        )

    def decode(self, outputs: Arrays, facts: ModelFacts, size: tuple[int, int]) -> Detections:
        """Return a detection for each row."""
        rows = without_batch(output_of(outputs, facts, self.output, 0), 2).astype(np.float64)
        if rows.ndim != 2 or rows.shape[1] < 6:
            raise refuse("yolo-v5", self.reads, outputs)
        boxes = corners(rows[:, :2], rows[:, 2:4]) * (np.tile(size[::-1], 2) if self.relative else 1)
        chosen, labels, scores = best_class(rows[:, 4:5] * rows[:, 5:], self.several)
        return Detections(boxes[chosen], scores, labels)
