"""Class maps, from the scores of classes at each pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.outputs.decoder import Arrays, Match, ModelFacts, OutputFact, output_of, refuse


@dataclass(frozen=True)
class Segmentation:
    """A class map from class scores ``[1, C, H, W]`` or ``[1, H, W, C]``, or from an integer map ``[1, H, W]``.

    Of one channel the pixels above the threshold are class 1, the others 0.

    Attributes:
        output: Name or number of the output; "" for the first.
        last: Whether classes are the last axis of the scores.
        threshold: Threshold of a single channel.
        skip: Number of classes at the start that do not count, such as a background class.
        label_shift: Number added to each class of the map.
    """

    output: str = ""
    last: bool = False
    threshold: float = 0.5
    skip: int = 0
    label_shift: int = 0

    reads = "class scores [1, C, H, W] or an integer class map [1, H, W]"

    @classmethod
    def recognize(cls, facts: ModelFacts) -> Match | None:
        """Match a first output of four axes, or an integer one of three or four."""
        if not facts.outputs:
            return None
        output = facts.outputs[0]
        if output.real and len(output.shape) == 4:
            last = _classes_last(output, facts)
            return Match(f"{output} holds the scores of classes at each pixel", {"last": last})
        if output.dtype.kind in "iu" and len(output.shape) in (3, 4):
            return Match(f"{output} is a class map")
        return None

    def decode(self, outputs: Arrays, facts: ModelFacts, size: tuple[int, int]) -> NDArray[Any]:
        """Return the class map ``(H, W)`` at the output's size."""
        array = output_of(outputs, facts, self.output, 0)
        if array.dtype.kind in "iu" and array.ndim >= 2 and array.size == np.prod(array.shape[-2:]):
            return array.reshape(array.shape[-2:]).astype(np.int64) + self.label_shift
        if array.dtype.kind != "f" or array.ndim != 4 or array.shape[0] != 1:
            raise refuse("segmentation", self.reads, outputs)
        scores = np.moveaxis(array[0], -1, 0) if self.last else array[0]
        if len(scores) == 1:
            return (scores[0] > self.threshold).astype(np.int64) + self.label_shift
        if len(scores) <= self.skip:
            raise refuse("segmentation", f"{self.reads}, with more than {self.skip} classes", outputs)
        return scores[self.skip :].argmax(0).astype(np.int64) + self.label_shift


def _classes_last(output: OutputFact, facts: ModelFacts) -> bool:
    """Return whether the classes are the last axis: the two before it are the input's size, the last two are not."""
    return output.shape[1:3] == facts.size and output.shape[2:] != facts.size and None not in facts.size
