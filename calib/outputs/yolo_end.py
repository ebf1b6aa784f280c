"""YOLO v10, v26 and others that end in final boxes: trained or exported without need of a suppression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.outputs.boxes import whole
from calib.outputs.decoder import Arrays, Match, ModelFacts, output_of, refuse, without_batch
from calib.outputs.postprocess import BoxSteps
from calib.outputs.yolo_v5 import ANCHORS, STRIDES, cell_count
from calib.values.detections import Detections


@dataclass(frozen=True)
class YoloEndToEnd:
    """One output ``[1, N, 6]`` of x1, y1, x2, y2 in pixels of the input, score and label, best first.

    Attributes:
        output: Name or number of the output; "" for the first.
        relative: Whether coordinates are shares of the input's sides; otherwise pixels of the input.
    """

    output: str = ""
    relative: bool = False

    postprocessing = BoxSteps(nms=0.0)
    reads = "one output [1, N, 6] of x1, y1, x2, y2, score and label"

    @classmethod
    def recognize(cls, facts: ModelFacts) -> Match | None:
        """Match a table of six columns whose rows are not those of a grid: that would be the head of one class."""
        if len(facts.outputs) != 1 or not facts.outputs[0].real or len(facts.outputs[0].shape) != 3:
            return None
        output = facts.outputs[0]
        if output.shape[2] != 6:
            return None
        counts = [cell_count(facts.size, strides) for strides in STRIDES]
        if any(count is not None and output.shape[1] in (count, ANCHORS * count) for count in counts):
            return None
        return Match(f"{output} has rows of a box, a score and a label")

    def decode(self, outputs: Arrays, facts: ModelFacts, size: tuple[int, int]) -> Detections:
        """Return a detection for each row."""
        rows = without_batch(output_of(outputs, facts, self.output, 0), 2).astype(np.float64)
        if rows.ndim != 2 or rows.shape[1] != 6:
            raise refuse("yolo-end-to-end", self.reads, outputs)
        boxes = rows[:, :4] * (np.tile(size[::-1], 2) if self.relative else 1)
        return Detections(boxes, rows[:, 4], whole(rows[:, 5]))
