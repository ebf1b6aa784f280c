"""Candidate boxes with the scores of all classes, in two outputs: face detectors, and transformers with set losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import MetricError, UsageError
from calib.outputs.decoder import Arrays, Match, ModelFacts, OutputFact, output_of, refuse, without_batch
from calib.outputs.grid import best_class, corners, sigmoid, softmax
from calib.outputs.postprocess import BoxSteps
from calib.values.detections import Detections

FORMS = ("corners", "centre")
ACTIVATIONS = ("none", "sigmoid", "softmax")


@dataclass(frozen=True)
class BoxesScores:
    """Boxes ``[1, N, 4]`` and the scores of their classes ``[1, N, C]``.

    Attributes:
        boxes: Name or number of the output of boxes; "" for the one of that shape.
        scores: Name or number of the output of scores; "" for the other one.
        form: "corners" for x1, y1, x2, y2, "centre" for x, y of the centre, width, height.
        relative: Whether coordinates are shares of the input's sides; otherwise pixels of the input.
        background: Position of a class that means no object, −1 for the last one; empty for none. Labels are positions
            in the output, so that behind a background at 0 the first class of objects is 1 (?first=1 of the data, or
            label_shift=-1).
        activation: What makes scores of the output: "none", "sigmoid" or "softmax".
        several: Whether each class of a box is a detection of its own, and not the best one alone.
    """

    boxes: str = ""
    scores: str = ""
    form: str = "corners"
    relative: bool = True
    background: str = ""
    activation: str = "none"
    several: bool = False

    postprocessing = BoxSteps()
    reads = "boxes [1, N, 4] and scores of classes [1, N, C]"

    def __post_init__(self) -> None:
        for key, value, allowed in (("form", self.form, FORMS), ("activation", self.activation, ACTIVATIONS)):
            if value not in allowed:
                raise UsageError(f"decode boxes-scores: {key} is one of {', '.join(allowed)}, got {value!r}")

    @classmethod
    def recognize(cls, facts: ModelFacts) -> Match | None:
        """Match two outputs of one length, one of which has four columns."""
        if len(facts.outputs) != 2 or not all(output.real and len(output.shape) == 3 for output in facts.outputs):
            return None
        found = [output for output in facts.outputs if output.shape[2] == 4]
        if len(found) == 2:
            found = [output for output in found if "box" in output.name.lower() or "loc" in output.name.lower()]
        if len(found) != 1 or facts.outputs[0].shape[1] != facts.outputs[1].shape[1]:
            return None
        scores = next(output for output in facts.outputs if output is not found[0])
        options = {"boxes": found[0].name, "scores": scores.name, **_classes(scores)}
        told = ", ".join(f"{key}={value}" for key, value in options.items() if key in ("background", "activation"))
        return Match(
            f"{found[0]} are boxes and {scores} scores of their classes{f' ({told})' if told else ''}", options
        )

    def decode(self, outputs: Arrays, facts: ModelFacts, size: tuple[int, int]) -> Detections:
        """Return a detection for each box and its best class, or for each class."""
        if len(outputs) < 2:
            raise refuse("boxes-scores", self.reads, outputs)
        first = next((i for i, array in enumerate(outputs) if np.shape(array)[-1:] == (4,)), 0)
        boxes = without_batch(output_of(outputs, facts, self.boxes, first), 2).astype(np.float64)
        scores = without_batch(output_of(outputs, facts, self.scores, 1 - min(first, 1)), 2).astype(np.float64)
        if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.ndim != 2 or len(boxes) != len(scores):
            raise refuse("boxes-scores", self.reads, outputs)
        boxes = boxes if self.form == "corners" else corners(boxes[:, :2], boxes[:, 2:])
        boxes = boxes * (np.tile(size[::-1], 2) if self.relative else 1)
        rows, labels, values = best_class(self._scores(scores), self.several)
        return Detections(boxes[rows], values, labels)

    def _scores(self, scores: NDArray[np.float64]) -> NDArray[Any]:
        return class_scores(scores, self.activation, self.background, "boxes-scores")


def class_scores(scores: NDArray[Any], activation: str, background: str, family: str) -> NDArray[Any]:
    """Return probabilities of classes, ``(N, C)``, with those of the background set below all others.

    Raises:
        MetricError: There is no such class.
    """
    made = {"none": np.asarray, "sigmoid": sigmoid, "softmax": softmax}[activation](scores)
    if background:
        position, classes = int(background), made.shape[1]
        if not -classes <= position < classes:
            raise MetricError(f"decode {family}: background={position} is none of {classes} classes")
        made = made.copy()
        made[:, position] = -1.0
    return made


def _classes(scores: OutputFact) -> dict[str, str]:
    """Return what follows from the last function of the scores, and from their number.

    A softmax needs a class for no object where boxes are candidates; two classes are background and object.
    """
    classes = scores.shape[2]
    if scores.bound == "Softmax":
        return {"background": "0"}
    if scores.bound == "Sigmoid":
        return {"background": "0"} if classes == 2 else {}
    return {"activation": "softmax", "background": "0"} if classes == 2 else {"activation": "sigmoid"}
