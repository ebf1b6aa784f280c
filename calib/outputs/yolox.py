"""YOLOX: one table of boxes relative to the cells of all strides, without anchors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.errors import MetricError
from calib.outputs.decoder import Arrays, Match, ModelFacts, output_of, refuse, without_batch
from calib.outputs.grid import best_class, cell_count, centres_and_strides, corners, growth
from calib.outputs.postprocess import BoxSteps
from calib.values.detections import Detections


@dataclass(frozen=True)
class YoloX:
    """One output ``[1, N, 5+C]`` of x, y, width, height, objectness and classes, one row a cell, finest grid first.

    A box has the centre (x + column, y + row) · stride and the sides exp(width, height) · stride (Ge et al. 2021,
    section 2.1); its score is objectness · class, both probabilities already.

    Attributes:
        output: Name or number of the output; "" for the first.
        strides: Strides of the grids, in the order of their rows.
        several: Whether each class of a box is a detection of its own, and not the best one alone.
    """

    output: str = ""
    strides: tuple[int, ...] = (8, 16, 32)
    several: bool = False

    postprocessing = BoxSteps(nms=0.65)
    reads = "one output [1, N, 5+C] of x, y, width, height, objectness and classes, a row a cell"

    @classmethod
    def recognize(cls, facts: ModelFacts) -> Match | None:
        """Match a table of as many rows as the grids of the strides 8, 16, 32 have cells."""
        table = facts.table_with_objectness
        if table is None:
            return None
        output, rows, columns = table
        if rows is None or rows <= columns:
            return None
        for strides in ((8, 16, 32), (8, 16, 32, 64)):
            if rows == cell_count(facts.size, strides):
                listed = ", ".join(map(str, strides))
                options = {"output": output.name, "strides": strides}
                return Match(f"{output} has a row for each cell of the strides {listed}", options)
        return None

    def decode(self, outputs: Arrays, facts: ModelFacts, size: tuple[int, int]) -> Detections:
        """Return a detection for each cell."""
        rows = without_batch(output_of(outputs, facts, self.output, 0), 2).astype(np.float64)
        if rows.ndim != 2 or rows.shape[1] < 6:
            raise refuse("yolox", self.reads, outputs)
        grid, stride = centres_and_strides(size, self.strides)
        if len(grid) != len(rows):
            raise MetricError(
                f"decode yolox: the strides {', '.join(map(str, self.strides))} have {len(grid)} cells in an input of "
                f"{size[0]}x{size[1]}, and the output has {len(rows)} rows. Give others with ?strides="
            )
        boxes = corners((rows[:, :2] + grid) * stride, growth(rows[:, 2:4]) * stride)
        chosen, labels, scores = best_class(rows[:, 4:5] * rows[:, 5:], self.several)
        return Detections(boxes[chosen], scores, labels)
