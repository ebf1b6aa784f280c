"""YOLO v3 and v4: grids of two or three strides with anchors in pixels, each class by its own sigmoid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from calib.errors import MetricError, UsageError
from calib.outputs.decoder import Arrays, Match, ModelFacts, OutputFact, refuse
from calib.outputs.grid import anchors_of, best_class, boxes_and_scores, by_anchor, cells, corners, growth, sigmoid
from calib.outputs.postprocess import BoxSteps
from calib.values.compared import Window
from calib.values.detections import Detections

# Anchors of each output, coarsest grid first, as in the published configurations of the networks.
MASKS = {1: (), 2: (3, 4, 5, 1, 2, 3), 3: (6, 7, 8, 3, 4, 5, 0, 1, 2)}
FORMS = ("exp", "square")
ANCHORS_EACH = 3  # of a cell, unless masks say otherwise


@dataclass(frozen=True)
class YoloV3:
    """Outputs ``[1, A·(5+C), H, W]``, one a stride, of x, y, width, height, objectness and classes for each anchor.

    A box has the centre (s·σ(x) − (s − 1)/2 + column, …) in cells, with s = 1 unless ``scale`` says otherwise (v4), and
    the sides anchor · exp(width, height) in pixels; its score is σ(objectness) · σ(class) (Redmon and Farhadi 2018,
    section 2; Bochkovskiy et al. 2020, section 3.4). With ``sides=square`` the sides are anchor · (2σ)², and s = 2.

    Attributes:
        anchors: Widths and heights in pixels of the input, as numbers with commas or a name such as yolo-v3.
        masks: Numbers of the anchors of each output, coarsest grid first, all outputs in one list.
        raw: Whether σ is still to be applied; the operation RegionYolo has applied it.
        scale: Factor s of the position in a cell.
        sides: "exp", or "square" for heads of later networks.
        several: Whether each class of a box is a detection of its own, and not the best one alone.
    """

    anchors: str = ""
    masks: tuple[int, ...] = ()
    raw: bool = True
    scale: float = 1.0
    sides: str = "exp"
    several: bool = False

    postprocessing = BoxSteps()
    reads = "two or three outputs [1, A·(5+C), H, W], one a stride"

    def __post_init__(self) -> None:
        if self.sides not in FORMS:
            raise UsageError(f"decode yolo-v3: sides is one of {', '.join(FORMS)}, got {self.sides!r}")

    @classmethod
    def recognize(cls, facts: ModelFacts) -> Match | None:
        """Match several RegionYolo, or two or three grids with as many channels, each twice as fine as the other."""
        outputs = facts.outputs
        if outputs and all(one.made_by == "RegionYolo" and not one.attributes.get("do_softmax") for one in outputs):
            return _region(outputs)
        if len(outputs) not in (2, 3) or not all(one.real and len(one.shape) in (4, 5) for one in outputs):
            return None
        grids = sorted(grid for grid in map(_grid, outputs) if grid is not None)
        if len(grids) != len(outputs) or any(b != 2 * a for a, b in pairwise(grids)):
            return None
        channels = {_channels(one) for one in outputs}
        each = next(iter(channels), None)
        if len(channels) != 1 or each is None or each % 3 or each // 3 < 6:
            return None
        if facts.labels is not None and each != 3 * (5 + facts.labels):
            return None
        name = "yolo-v3" if len(outputs) == 3 else "tiny-yolo-v3"
        raw = not any(one.bound for one in outputs)
        # v5 and v7 without their decoding have anchors on an axis of their own; their anchors are those of v3.
        sides = "square" if all(len(one.shape) == 5 for one in outputs) else "exp"
        reason = f"{', '.join(map(str, outputs))} are grids for three anchors a cell; those of {name} are taken"
        return Match(f"{reason} (sides={sides})", {"anchors": name, "raw": raw, "sides": sides})

    def parts(self, facts: ModelFacts) -> list[tuple[int, Window]]:
        """Return the boxes and the scores of all anchors of each output."""
        found: list[tuple[int, Window]] = []
        anchors = ANCHORS_EACH if not self.masks else len(self.masks) // max(len(facts.outputs), 1)
        for place, output in enumerate(facts.outputs):
            found += boxes_and_scores(place, output.shape, anchors, _first(output.shape))
        return found

    def decode(self, outputs: Arrays, facts: ModelFacts, size: tuple[int, int]) -> Detections:
        """Return a detection for each anchor of each cell of each grid."""
        if len(outputs) not in MASKS and not self.masks:
            raise refuse("yolo-v3", self.reads, outputs)
        every = anchors_of(self.anchors, "tiny-yolo-v3" if len(outputs) == 2 else "yolo-v3")
        masks = np.array(self.masks or MASKS[len(outputs)] or range(len(every)), np.int64)
        if len(masks) % len(outputs) or masks.max(initial=0) >= len(every) or masks.min(initial=0) < 0:
            raise MetricError(
                f"decode yolo-v3: masks are numbers of {len(every)} anchors, as many for each of {len(outputs)} "
                f"outputs, got {masks.tolist()}"
            )
        # The coarsest grid has the fewest values.
        order = sorted(range(len(outputs)), key=lambda i: (np.size(outputs[i]), i))
        pairs = zip(order, masks.reshape(len(outputs), -1), strict=True)
        boxes, scores = zip(*(self._level(np.asarray(outputs[i]), every[mask], size) for i, mask in pairs), strict=True)
        rows, labels, values = best_class(np.concatenate(scores), self.several)
        return Detections(np.concatenate(boxes)[rows], values, labels)

    def _level(
        self, output: NDArray[np.generic], anchors: NDArray[np.float64], size: tuple[int, int]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return boxes ``(N, 4)`` in pixels and scores ``(N, C)`` of one output."""
        values = by_anchor(output, len(anchors), size, "yolo-v3").astype(np.float64)
        height, width = values.shape[1:3]
        shares = sigmoid(values) if self.raw else values
        scale = 2.0 if self.sides == "square" else self.scale
        centres = shares[..., :2] * scale - (scale - 1) / 2 + cells(height, width)
        factor = growth(values[..., 2:4]) if self.sides == "exp" else np.square(2 * shares[..., 2:4])
        stride = np.array([size[1] / width, size[0] / height])
        boxes = corners(centres * stride, factor * anchors[:, None, None])
        scores = shares[..., 4:5] * shares[..., 5:]
        return boxes.reshape(-1, 4), scores.reshape(-1, scores.shape[-1])


def _region(outputs: Sequence[OutputFact]) -> Match:
    """Return the match of outputs that are made by RegionYolo: its attributes hold anchors and masks."""
    ordered = sorted(outputs, key=lambda one: np.prod([size or 1 for size in one.shape]))
    anchors = ",".join(f"{value:g}" for value in ordered[0].attributes.get("anchors", ()))
    masks = tuple(int(number) for one in ordered for number in one.attributes.get("mask", ()))
    reason = f"{', '.join(map(str, outputs))} {'is' if len(outputs) == 1 else 'are'} RegionYolo without a softmax"
    return Match(reason, {"anchors": anchors, "masks": masks, "raw": False}, sure=True)


def _grid(output: OutputFact) -> int | None:
    """Return the height of the grid; None if unknown."""
    shape = output.shape
    if len(shape) == 5:
        return shape[2]
    return shape[2] if _first(shape) else shape[1]


def _channels(output: OutputFact) -> int | None:
    shape = output.shape
    if len(shape) == 5:
        return None if shape[1] is None or shape[4] is None else shape[1] * shape[4]
    return shape[1] if _first(shape) else shape[3]


def _first(shape: tuple[int | None, ...]) -> bool:
    """Return whether channels are the second axis: where the last two are alike, or the middle ones are not."""
    return shape[2] == shape[3] or shape[1] != shape[2]
