"""Rows of DetectionOutput: what SSD and many other detectors of OpenVINO end in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.outputs.boxes import whole
from calib.outputs.decoder import Arrays, Match, ModelFacts, output_of, refuse
from calib.outputs.postprocess import BoxSteps
from calib.values.detections import Detections


@dataclass(frozen=True)
class DetectionRows:
    """Rows ``[1, 1, N, 7]`` of image, label, score, x1, y1, x2, y2; an image of −1 ends them.

    Attributes:
        output: Name or number of the output; "" for the one of that shape.
        relative: Whether coordinates are shares of the input's sides, as DetectionOutput gives them; otherwise pixels.
    """

    output: str = ""
    relative: bool = True

    postprocessing = BoxSteps(score=0.0, nms=0.0)
    reads = "rows [1, 1, N, 7] of image, label, score, x1, y1, x2, y2, as DetectionOutput gives them"

    @classmethod
    def recognize(cls, facts: ModelFacts) -> Match | None:
        """Match the operation DetectionOutput, or its shape."""
        for output in facts.outputs:
            if output.made_by == "DetectionOutput":
                return Match(f"{output} is a DetectionOutput", {"output": output.name}, sure=True)
        for output in facts.outputs:
            if len(output.shape) == 4 and output.shape[3] == 7 and output.shape[:2] == (1, 1):
                return Match(f"{output} has rows of seven, as DetectionOutput", {"output": output.name})
        return None

    def decode(self, outputs: Arrays, facts: ModelFacts, size: tuple[int, int]) -> Detections:
        """Return the rows before the first that is of no image."""
        seven = next((i for i, array in enumerate(outputs) if np.shape(array)[-1:] == (7,)), 0)
        rows = output_of(outputs, facts, self.output, seven)
        if rows.ndim < 2 or rows.shape[-1] != 7:
            raise refuse("ssd", self.reads, [rows])
        rows = rows.reshape(-1, 7).astype(np.float64)
        ends = np.flatnonzero(rows[:, 0] < 0)
        rows = rows[: ends[0]] if ends.size else rows
        boxes = rows[:, 3:] * (np.tile(size[::-1], 2) if self.relative else 1)
        return Detections(boxes, rows[:, 2], whole(rows[:, 1]))
