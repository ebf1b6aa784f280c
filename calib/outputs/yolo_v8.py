"""YOLO v8 to v11 as exported: one table of decoded boxes and classes, without objectness, columns first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.errors import UsageError
from calib.outputs.decoder import Arrays, Match, ModelFacts, output_of, refuse, without_batch
from calib.outputs.grid import best_class, corners
from calib.outputs.postprocess import BoxSteps
from calib.values.detections import Detections


@dataclass(frozen=True)
class YoloV8:
    """One output ``[1, 4+C, N]`` of centre x, y, width, height in pixels of the input, and classes.

    Attributes:
        output: Name or number of the output; "" for the first.
        classes: Number of classes; 0 for all columns behind the box (fewer where masks or points follow them).
        relative: Whether coordinates are shares of the input's sides; otherwise pixels of the input.
        several: Whether each class of a box is a detection of its own, and not the best one alone.
    """

    output: str = ""
    classes: int = 0
    relative: bool = False
    several: bool = False

    postprocessing = BoxSteps(nms=0.7)
    reads = "one output [1, 4+C, N] of centre x, y, width, height and classes"

    def __post_init__(self) -> None:
        if self.classes < 0:
            raise UsageError(f"decode yolo-v8: classes is 0 or more, got {self.classes}")

    @classmethod
    def recognize(cls, facts: ModelFacts) -> Match | None:
        """Match a table that is longer than high, with as many rows as the classes that are named, if any are."""
        output = facts.only_table
        if output is None:
            return None
        rows, columns = output.shape[1:]
        if rows is None or rows < 5 or (columns is not None and columns <= rows):
            return None
        if columns is None and facts.labels != rows - 4:
            return None
        if facts.labels is not None and rows < 4 + facts.labels:
            return None
        classes = facts.labels or 0
        told = f"a box and {rows - 4} classes" if rows - 4 == (classes or rows - 4) else f"a box and {classes} classes"
        return Match(f"{output} has columns of {told}", {"output": output.name, "classes": classes})

    def decode(self, outputs: Arrays, facts: ModelFacts, size: tuple[int, int]) -> Detections:
        """Return a detection for each column."""
        table = without_batch(output_of(outputs, facts, self.output, 0), 2).astype(np.float64)
        if table.ndim != 2 or table.shape[0] < 5 + max(self.classes - 1, 0):
            raise refuse("yolo-v8", self.reads, outputs)
        rows = np.ascontiguousarray(table.T)
        boxes = corners(rows[:, :2], rows[:, 2:4]) * (np.tile(size[::-1], 2) if self.relative else 1)
        last = 4 + self.classes if self.classes else rows.shape[1]
        chosen, labels, scores = best_class(rows[:, 4:last], self.several)
        return Detections(boxes[chosen], scores, labels)
