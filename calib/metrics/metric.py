"""What a metric is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


class Metric(Protocol):
    """Measures the outputs of one sample at a time, then makes one number of all the measurements.

    What else a metric may be able to do stands in `WithChance`, `WithMovedLabels` and `WithMargin`. A metric that
    needs the FP32 outputs gets them as third argument.

    Attributes:
        name: as in the table.
        higher_is_better: declared, never guessed.
        unit: of the number: "fraction", "dB", "error"….
        reads: the output format that it understands, one sentence.
        needs_target: False for label-free metrics.
        needs_reference: True where the FP32 outputs of the same sample are compared with.
    """

    name: str
    higher_is_better: bool
    unit: str
    reads: str
    needs_target: bool
    needs_reference: bool

    def measure(
        self, outputs: Sequence[NDArray[Any]], target: Any, reference: Sequence[NDArray[Any]] | None = None
    ) -> Any:
        """Return what has to be kept of one sample (JSON-able: a float, or nested lists of numbers and strings).

        Args:
            outputs: the model's outputs in output order, with the batch axis of 1 kept.
            target: the sample's target.
            reference: the FP32 model's outputs for the same sample.

        Raises:
            MetricError: the outputs or the target do not have the form that ``reads`` says.
        """
        ...

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the metric over these samples. Any subset or resample of the parts is valid."""
        ...

    def per_sample(self, parts: Sequence[Any]) -> NDArray[np.float64] | None:
        """Return scores whose mean is ``aggregate(parts)``, or None where the metric is no mean over samples."""
        ...


@runtime_checkable
class WithChance(Protocol):
    """A metric that knows what guessing gives, which makes the check of the FP32 baseline sharper."""

    def chance(self, classes: int) -> float:
        """Return what guessing gives among so many classes."""
        ...


@runtime_checkable
class WithMovedLabels(Protocol):
    """A metric whose targets are class numbers, so that labels which are off by one can be found."""

    def moved_target(self, outputs: Sequence[NDArray[Any]], target: Any, by: int) -> Any:
        """Return the target with its class numbers moved by ``by``, those at the end to the other end."""
        ...


@runtime_checkable
class WithMargin(Protocol):
    """A metric that knows how sure the outputs are.

    With it a search looks at the doubtful samples of many plans instead of all samples of a few.
    """

    def margin(self, outputs: Sequence[NDArray[Any]], target: Any, *reference: Any) -> float:
        """Return how far the outputs are from another verdict on a sample, negative where they are wrong.

        In standard deviations of the sample's scores. The FP32 outputs are the last argument where the metric
        ``needs_reference``.
        """
        ...
