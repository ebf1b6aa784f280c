"""YOLO v2: one grid of cells with anchors in cells, classes by softmax."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.outputs.decoder import Arrays, Match, ModelFacts, output_of
from calib.outputs.grid import (
    anchors_of,
    best_class,
    boxes_and_scores,
    by_anchor,
    cells,
    corners,
    growth,
    sigmoid,
    softmax,
)
from calib.outputs.postprocess import BoxSteps
from calib.values.compared import Window
from calib.values.detections import Detections


@dataclass(frozen=True)
class YoloV2:
    """One output ``[1, A·(5+C), H, W]`` of x, y, width, height, objectness and classes for each anchor.

    A box has the centre (σ(x) + column, σ(y) + row) and the sides anchor · exp(width, height), in cells; its score is
    σ(objectness) · softmax(classes) (Redmon and Farhadi 2017, section 2).

    Attributes:
        output: Name or number of the output; "" for the first.
        anchors: Widths and heights in cells, as numbers with commas or a name: yolo-v2 (of COCO), yolo-v2-voc,
            tiny-yolo-v2.
        raw: Whether σ and softmax are still to be applied; the operation RegionYolo has applied them.
        several: Whether each class of a box is a detection of its own, and not the best one alone.
    """

    output: str = ""
    anchors: str = ""
    raw: bool = True
    several: bool = False

    postprocessing = BoxSteps()

    @classmethod
    def recognize(cls, facts: ModelFacts) -> Match | None:
        """Match one RegionYolo with a softmax, or one output whose channels are those of five anchors."""
        if len(facts.outputs) != 1 or not facts.outputs[0].real:
            return None
        output = facts.outputs[0]
        if output.made_by == "RegionYolo" and output.attributes.get("do_softmax"):
            anchors = ",".join(f"{value:g}" for value in output.attributes.get("anchors", ()))
            return Match(f"{output} is a RegionYolo with a softmax", {"anchors": anchors, "raw": False}, sure=True)
        if len(output.shape) != 4 or output.bound:
            return None
        channels = output.shape[1] if _squarish(output.shape[2:], facts.size) else output.shape[3]
        if channels is None or channels % 5 or channels // 5 < 6:
            return None
        if facts.labels is not None and channels != 5 * (5 + facts.labels):
            return None
        name = "tiny-yolo-v2" if channels == 125 else "yolo-v2"
        return Match(f"{output} has channels for five anchors; those of {name} are taken", {"anchors": name})

    def parts(self, facts: ModelFacts) -> list[tuple[int, Window]]:
        """Return the boxes and the scores of all anchors."""
        place = next((i for i, one in enumerate(facts.outputs) if self.output in one.names), 0)
        shape = facts.outputs[place].shape
        anchors = len(anchors_of(self.anchors, "yolo-v2"))
        return boxes_and_scores(place, shape, anchors, _squarish(shape[2:], facts.size)) if len(shape) == 4 else []

    def decode(self, outputs: Arrays, facts: ModelFacts, size: tuple[int, int]) -> Detections:
        """Return a detection for each anchor of each cell."""
        anchors = anchors_of(self.anchors, "yolo-v2")
        values = by_anchor(output_of(outputs, facts, self.output, 0), len(anchors), size, "yolo-v2").astype(np.float64)
        height, width = values.shape[1:3]
        inside = sigmoid(values[..., :2]) if self.raw else values[..., :2]
        objects = sigmoid(values[..., 4:5]) if self.raw else values[..., 4:5]
        classes = softmax(values[..., 5:]) if self.raw else values[..., 5:]
        boxes = corners(inside + cells(height, width), growth(values[..., 2:4]) * anchors[:, None, None])
        boxes = boxes * np.tile((size[1] / width, size[0] / height), 2)
        rows, labels, scores = best_class((objects * classes).reshape(-1, classes.shape[-1]), self.several)
        return Detections(boxes.reshape(-1, 4)[rows], scores, labels)


def _squarish(grid: tuple[int | None, ...], size: tuple[int | None, int | None]) -> bool:
    """Return whether two axes have the proportions of the input; also if either is unknown."""
    if None in grid or None in size:
        return True
    return abs((grid[0] or 0) * (size[1] or 0) - (grid[1] or 0) * (size[0] or 0)) < max(size[0] or 0, size[1] or 0)
