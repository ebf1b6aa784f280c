"""Raw heads of SSD: offsets of boxes from priors, and scores of classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calib.errors import MetricError, UsageError
from calib.outputs.boxes_scores import ACTIVATIONS, class_scores
from calib.outputs.decoder import Arrays, Match, ModelFacts, OutputFact, output_of, refuse
from calib.outputs.grid import best_class, corners, growth
from calib.outputs.postprocess import BoxSteps
from calib.values.detections import Detections

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RawSsd:
    """Offsets, class scores and priors of a single shot detector (Liu et al. 2016, section 2.2).

    With a prior of centre (x, y), width w and height h and variances v, the box of the offsets d has the centre
    (x + v0·d0·w, y + v1·d1·h) and the sides (w·exp(v2·d2), h·exp(v3·d3)).

    Attributes:
        boxes: Name or number of the output of offsets ``[1, 4·N]`` or ``[1, N, 4]``; "" for the one of that shape.
        scores: Name or number of the output of class scores ``[1, N·C]`` or ``[1, N, C]``.
        priors: Name or number of the output of priors ``[1, 2, 4·N]`` (corners, then variances) or ``[1, 1, 4·N]``, or
            a .npy file of ``[N, 4]``; corners as shares of the input's sides.
        form: Form of the priors: "corners", or "centre" for x, y, width, height.
        variances: The four variances where the priors hold none.
        background: Position of the class that means no object; empty for none. Labels are positions in the output,
            so that behind a background at 0 the first class of objects is 1 (?first=1 of the data, or label_shift=-1).
        activation: What makes scores of the output: "none", "sigmoid" or "softmax".
        several: Whether each class of a box is a detection of its own, and not the best one alone.
    """

    boxes: str = ""
    scores: str = ""
    priors: str = ""
    form: str = "corners"
    variances: tuple[float, ...] = (0.1, 0.1, 0.2, 0.2)
    background: str = "0"
    activation: str = "softmax"
    several: bool = True

    postprocessing = BoxSteps(score=0.01, nms=0.45, most=200)
    reads = "offsets [1, 4·N], class scores [1, N·C] and priors [1, 2, 4·N] as PriorBox gives them"

    def __post_init__(self) -> None:
        if len(self.variances) != 4:
            raise UsageError(f"decode ssd-raw: there are four variances, got {len(self.variances)}")
        if self.activation not in ACTIVATIONS or self.form not in ("corners", "centre"):
            raise UsageError(
                f"decode ssd-raw: activation is one of {', '.join(ACTIVATIONS)} and form corners or centre, got "
                f"{self.activation!r} and {self.form!r}"
            )

    @classmethod
    def recognize(cls, facts: ModelFacts) -> Match | None:
        """Match three outputs, one of which is priors of as many boxes as another has offsets."""
        if len(facts.outputs) != 3 or not all(output.real for output in facts.outputs):
            return None
        priors = next((output for output in facts.outputs if _is_priors(output)), None)
        if priors is None:
            return None
        offsets, scores = _offsets_and_scores([one for one in facts.outputs if one is not priors], priors.shape[2])
        if offsets is None or scores is None:
            return None
        names = {"boxes": offsets.name, "scores": scores.name, "priors": priors.name}
        activation = "none" if scores.bound else "softmax"
        reason = f"{offsets} are offsets, {scores} scores of classes and {priors} priors"
        return Match(f"{reason} (activation={activation})", {**names, "activation": activation})

    def decode(self, outputs: Arrays, facts: ModelFacts, size: tuple[int, int]) -> Detections:
        """Return a detection for each box and class but the background, or for each box alone."""
        if not (self.boxes and self.scores and self.priors):
            raise MetricError(
                "decode ssd-raw: say which outputs are which: ?boxes=NAME&scores=NAME&priors=NAME (or a .npy file)"
            )
        offsets = output_of(outputs, facts, self.boxes, -1).reshape(-1).astype(np.float64)
        priors, variances = self._priors(outputs, facts)
        scores = output_of(outputs, facts, self.scores, -1).astype(np.float64)
        fits = scores.ndim <= 3 and offsets.size == priors.size and len(priors)
        if not fits or scores.size % len(priors):
            raise refuse("ssd-raw", self.reads, outputs)
        boxes = decoded(offsets.reshape(-1, 4), priors, variances) * np.tile(size[::-1], 2)
        shares = class_scores(scores.reshape(len(priors), -1), self.activation, self.background, "ssd-raw")
        rows, labels, values = best_class(shares, self.several)
        return Detections(boxes[rows], values, labels)

    def _priors(self, outputs: Arrays, facts: ModelFacts) -> tuple[Floats, Floats]:
        """Return priors ``(N, 4)`` as centre and sides, and variances ``(N, 4)`` or ``(1, 4)``."""
        variances = np.array([self.variances])
        if self.priors.endswith(".npy"):
            priors = _from_file(Path(self.priors))
        else:
            given = output_of(outputs, facts, self.priors, -1).astype(np.float64)
            joined = given.shape[-1:] != (4,) and given.size % 2 == 0 and given.shape[-2:-1] == (2,)
            priors = given.reshape(2, -1, 4)[0] if joined else given.reshape(-1, 4)
            variances = given.reshape(2, -1, 4)[1] if joined else variances
        if self.form == "centre":
            return priors, variances
        sides = priors[:, 2:] - priors[:, :2]
        return np.concatenate([priors[:, :2] + sides / 2, sides], axis=1), variances


def decoded(offsets: Floats, priors: Floats, variances: Floats) -> Floats:
    """Return corners of boxes from offsets, ``(N, 4)``, in the unit of the priors (centre and sides)."""
    moved = offsets * variances
    return corners(priors[:, :2] + moved[:, :2] * priors[:, 2:], priors[:, 2:] * growth(moved[:, 2:]))


def _from_file(path: Path) -> Floats:
    try:
        priors = np.load(path, allow_pickle=False)
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds on damaged bytes
        raise UsageError(f"decode ssd-raw: the priors {path} can't be read: {error}") from error
    if not isinstance(priors, np.ndarray):
        priors.close()
        raise UsageError(f"decode ssd-raw: {path} holds several arrays; write the priors alone, with numpy.save")
    if priors.ndim != 2 or priors.shape[1] != 4 or priors.dtype.kind != "f":
        raise UsageError(f"decode ssd-raw: priors are [N, 4] numbers, {path} holds {list(priors.shape)} {priors.dtype}")
    return priors.astype(np.float64)


def _is_priors(output: OutputFact) -> bool:
    if output.made_by in ("PriorBox", "PriorBoxClustered"):
        return True
    return len(output.shape) == 3 and output.shape[1] == 2 and (output.shape[2] or 0) % 4 == 0


def _offsets_and_scores(
    others: list[OutputFact], length: int | None
) -> tuple[OutputFact, OutputFact] | tuple[None, None]:
    """Tell offsets from scores: as many numbers as the priors, or a last axis of 4."""
    fits = [length is not None and _elements(output) == length for output in others]
    if sum(fits) != 1:
        fits = ["box" in output.name.lower() or "loc" in output.name.lower() for output in others]
    if sum(fits) != 1:
        return None, None
    return (others[0], others[1]) if fits[0] else (others[1], others[0])


def _elements(output: OutputFact) -> int | None:
    known = [size for size in output.shape if size is not None]
    return int(np.prod(known)) if len(known) == len(output.shape) else None
