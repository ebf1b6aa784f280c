"""Adapters of the YOLO family: grids of cells whose boxes are relative to anchors (Redmon and Farhadi 2016, 2018)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calib.accuracy_check.fields import Fields
from calib.accuracy_check.values import Boxes
from calib.outputs.grid import ANCHORS

if TYPE_CHECKING:
    from calib.accuracy_check.adapters import Adapter, Outputs

# Names of anchors in configurations, of the tables of calib's own decoders.
_ANCHORS_2 = {"yolo_v2": ANCHORS["yolo-v2-voc"], "tiny_yolo_v2": ANCHORS["tiny-yolo-v2"]}
_ANCHORS_3 = {"yolo_v3": ANCHORS["yolo-v3"], "tiny_yolo_v3": ANCHORS["tiny-yolo-v3"]}

Function = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class _Grid:
    """How the numbers of a grid become boxes.

    Attributes:
        cells: Cells along a side.
        anchors: Width and height of each anchor.
        size: Height and width that anchors are divided by.
        classes: Number of classes.
        bound: Function of centres and confidences.
        chances: Function of the scores of classes, of all boxes as one array.
        threshold: Confidence that a box has to exceed.
        several: Whether a box has every class whose score exceeds the threshold, and not the best alone.
    """

    cells: int
    anchors: Sequence[float]
    size: tuple[float, float]
    classes: int
    bound: Function
    chances: Function
    threshold: float = 0.001
    several: bool = False

    def boxes(self, grid: NDArray[Any], width: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return labels, scores and corners of a grid ``(anchors · width, H, W)``, or with its channels last."""
        grid = grid.transpose(2, 0, 1) if grid.shape[0] == grid.shape[1] else grid
        rows = grid.reshape(-1, width, *grid.shape[1:]).transpose(2, 3, 0, 1).reshape(-1, width)
        judged = int(width != self.classes + 4)
        confidence = self.bound(rows[:, 4]) if judged else np.ones(len(rows))
        chances = self.chances(rows[:, 4 + judged :].flatten()).reshape(len(rows), -1) * confidence[:, None]
        if self.several:
            index, labels = np.nonzero(chances > self.threshold)
        else:
            index = np.flatnonzero(confidence > self.threshold)
            labels = np.argmax(chances[index], axis=1) if len(index) else np.zeros(0, int)
        number = len(self.anchors) // 2
        cell, anchor = index // number, index % number
        row, column = cell // self.cells, cell % self.cells
        pairs = np.array(self.anchors, float).reshape(-1, 2)[anchor]
        chosen = rows[index]
        x = (self.bound(chosen[:, 0]) + column) / self.cells
        y = (self.bound(chosen[:, 1]) + row) / self.cells
        w = np.exp(chosen[:, 2]) * pairs[:, 0] / self.size[1]
        h = np.exp(chosen[:, 3]) * pairs[:, 1] / self.size[0]
        corners = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1)
        return labels, chances[index, labels], corners


def _sigmoid(x: NDArray[Any]) -> NDArray[Any]:
    return 1.0 / (1.0 + np.exp(-x))


def _same(x: NDArray[Any]) -> NDArray[Any]:
    return x


def _softmax_of_all(x: NDArray[Any]) -> NDArray[Any]:
    """Return e^x / Σ e^x over the whole grid, as the original does: each box is not normalized by itself."""
    powers = np.exp(x)
    return powers / np.sum(powers)


def version_2(fields: Fields) -> Adapter:
    """Return the adapter of one grid of YOLO v2, as RegionYolo gives it or raw."""
    classes, number = fields.size("classes", 20) or 20, fields.size("num", 5) or 5
    anchors = fields.numbers("anchors", _ANCHORS_2) or list(_ANCHORS_2["yolo_v2"])
    cells, raw = fields.size("cells", 13) or 13, fields.flag("raw_output")
    coordinates = fields.size("coords", 4) or 4
    planes_first = fields.choice("output_format", ("BHW", "HWB"), "BHW") == "BHW"
    fields.finish()
    bound, chances = (_sigmoid, _softmax_of_all) if raw else (_same, _same)
    grid = _Grid(cells, anchors[: 2 * number], (cells, cells), classes, bound, chances)

    def adapt(outputs: Outputs, _: tuple[int, int]) -> Boxes:
        width = classes + coordinates + 1
        found = outputs.find()
        found = found[0] if found.shape[0] == 1 else found
        if found.ndim != 3:
            sides = (number * width, cells, cells) if planes_first else (cells, cells, number * width)
            found = found.reshape(sides)
        labels, scores, corners = grid.boxes(found, width)
        return Boxes(labels, corners, scores)

    return adapt


def version_3(fields: Fields) -> Adapter:
    """Return the adapter of the grids of YOLO v3 and v4, as RegionYolo gives them or raw."""
    classes, number = fields.size("classes", 80) or 80, fields.size("num", 3) or 3
    fields.size("coords", 4)
    anchors = fields.numbers("anchors", _ANCHORS_3) or list(_ANCHORS_3["yolo_v3"])
    threshold = float(fields.number("threshold", 0.001, 0))
    names, masks = fields.get("outputs") or [], fields.get("anchor_masks")
    if not isinstance(names, list) or not names:
        fields.refuse("outputs, the names of the grids, are needed")
    if masks is not None and (not isinstance(masks, list) or len(masks) != len(names)):
        fields.refuse("anchor_masks needs a list for each of the outputs")
        masks = None
    reshape, order = fields.flag("do_reshape"), fields.get("transpose")
    cells = [int(one) for one in fields.numbers("cells") or (13, 26, 52)]
    raw, several = fields.flag("raw_output"), fields.flag("multiple_labels")
    planes_first = fields.choice("output_format", ("BHW", "HWB"), "BHW") == "BHW"
    fields.finish()
    bound = _sigmoid if raw else _same

    def one(grid: NDArray[Any], position: int, network: tuple[int, int]) -> Any:
        mask = masks[position] if masks else range(number)
        chosen = [side for index in mask for side in anchors[2 * index : 2 * index + 2]]
        grid = grid.transpose(order) if order else grid
        if reshape or grid.ndim != 3:
            count = cells[position]
            grid = grid.reshape((-1, count, count) if planes_first else (count, count, -1))
        count = grid.shape[1] if planes_first else grid.shape[0]
        width = (grid.shape[0] if planes_first else grid.shape[2]) // (len(chosen) // 2)
        made = _Grid(count, chosen, network, classes, bound, bound, threshold, several)
        return made.boxes(grid, width)

    def adapt(outputs: Outputs, network: tuple[int, int]) -> Boxes:
        found = []
        for position, name in enumerate(names):
            grid = outputs.find(str(name))
            found.append(one(grid[0] if grid.shape[0] == 1 else grid, position, network))
        labels, scores, corners = (np.concatenate([row[part] for row in found]) for part in range(3))
        return Boxes(labels, corners, scores)

    return adapt


def version_3_onnx(fields: Fields) -> Adapter:
    """Return the adapter of a YOLO v3 that selects boxes itself: boxes, scores, and indices of those selected."""
    boxes_out, scores_out = fields.text("boxes_out"), fields.text("scores_out")
    indices_out = fields.text("indices_out")
    fields.finish()

    def adapt(outputs: Outputs, _: tuple[int, int]) -> Boxes:
        boxes, scores = outputs.find(boxes_out)[0], outputs.find(scores_out)[0]
        rows = outputs.find(indices_out).reshape(-1, 3).astype(int)
        ends = np.flatnonzero(rows[:, 0] == -1)
        rows = rows[: ends[0]] if len(ends) else rows
        return Boxes(rows[:, 1], boxes[rows[:, 2]][:, [1, 0, 3, 2]], scores[rows[:, 1], rows[:, 2]])

    return adapt


def version_x(fields: Fields) -> Adapter:
    """Return the adapter of YOLOX: rows of box, confidence and classes for the cells of three strides."""
    threshold, number = float(fields.number("threshold", 0.001, 0)), fields.size("num", 5) or 5
    name = fields.text("output_name")
    fields.finish("anchors", "classes")  # the original reads neither

    def adapt(outputs: Outputs, network: tuple[int, int]) -> Boxes:
        cells, strides = _cells(network)
        rows = np.array(outputs.find(name)[0], float)
        rows[:, :2] = (rows[:, :2] + cells) * strides
        rows[:, 2:4] = np.exp(rows[:, 2:4]) * strides
        rows = rows[rows[:, 4] > threshold]
        rows[:, 5:] *= rows[:, 4:5]
        index, labels = np.nonzero(rows[:, 5:] > threshold)
        halves = rows[:, 2:4] / 2
        corners = np.concatenate([rows[:, :2] - halves, rows[:, :2] + halves], axis=1)
        return Boxes(labels, corners[index], rows[index, labels + number])

    return adapt


def _cells(network: tuple[int, int]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return column and row of the cells of strides 8, 16 and 32, and their strides.

    The original swaps height and width, which is the same for square inputs alone.
    """
    cells, strides = [], []
    for stride in (8, 16, 32):
        rows, columns = network[1] // stride, network[0] // stride
        across, down = np.meshgrid(np.arange(columns), np.arange(rows))
        cells.append(np.stack((across, down), 2).reshape(-1, 2))
        strides.append(np.full((rows * columns, 1), stride))
    return np.concatenate(cells), np.concatenate(strides)
