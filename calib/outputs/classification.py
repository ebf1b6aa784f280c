"""Class scores of a classifier with several outputs, or with classes on another axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calib.outputs.decoder import Arrays, Match, ModelFacts, output_of, refuse


@dataclass(frozen=True)
class Classification:
    """Scores ``(1, C)`` from one of the outputs, ``[1, C]`` with further axes of 1 anywhere.

    Attributes:
        output: Name or number of the output; "" for the first that holds class scores.
        skip: Number of classes at the start that the targets do not count, such as a background class.
    """

    output: str = ""
    skip: int = 0

    reads = "class scores [1, C], further axes of 1 allowed"

    @classmethod
    def recognize(cls, facts: ModelFacts) -> Match | None:
        """Match one output of class scores that is not the first; the first is what metrics read anyway."""
        found = [output for output in facts.outputs if output.real and _is_scores(output.shape)]
        if len(found) != 1 or (found[0] is facts.outputs[0] and len(found[0].shape) == 2):
            return None
        return Match(f"{found[0]} alone holds class scores", {"output": found[0].name})

    def decode(self, outputs: Arrays, facts: ModelFacts, size: tuple[int, int]) -> NDArray[np.floating]:
        """Return the scores ``(1, C)``."""
        first = next((i for i, fact in enumerate(facts.outputs) if fact.real and _is_scores(fact.shape)), 0)
        scores = output_of(outputs, facts, self.output, first)
        if scores.dtype.kind != "f" or scores.size != max(scores.shape, default=0) or scores.size <= self.skip:
            raise refuse("classification", self.reads, [scores])
        return scores.reshape(1, -1)[:, self.skip :]


def _is_scores(shape: tuple[int | None, ...]) -> bool:
    """Return whether only one axis behind the first is longer than 1."""
    return len(shape) >= 2 and shape[0] in (1, None) and sum(size != 1 for size in shape[1:]) == 1
