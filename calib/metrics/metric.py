"""Interface of metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


class Metric(Protocol):
    """Measures the outputs of one sample at a time and aggregates the measurements to one number.

    Optional capabilities are `WithChance`, `WithMovedLabels`, `ByParts`, `Takes` and `WithMargin`. A metric that needs
    the FP32 outputs gets them as the third argument.

    Attributes:
        name: Name in the table.
        higher_is_better: Whether higher values are better; declared, never guessed.
        unit: Unit of the number, such as "fraction", "dB" or "error".
        reads: Output format that the metric reads, in one sentence.
        needs_target: Whether samples need targets; False for label-free metrics.
        needs_reference: Whether the metric compares with the FP32 outputs of the same sample.
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
        """Return the part of one sample, which JSON can hold: a float, or nested lists of numbers and strings.

        Args:
            outputs: Outputs of the model in output order, with the batch axis of 1 kept; all rows where a dynamic
                first axis of the inputs is part of the sample.
            target: Target of the sample.
            reference: Outputs of the FP32 model for the same sample.

        Raises:
            MetricError: The outputs or the target do not have the form given by ``reads``.
        """
        ...

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the metric over the samples of these parts. Any subset or resample of parts is valid."""
        ...

    def per_sample(self, parts: Sequence[Any]) -> NDArray[np.float64] | None:
        """Return scores whose mean is ``aggregate(parts)``, or None if the metric is not a mean over samples."""
        ...


@runtime_checkable
class Resampled(Protocol):
    """A metric that is no mean over samples and knows a faster way to its value over many resamples of them."""

    def resampled(self, parts: Sequence[Any]) -> Callable[[NDArray[np.int64]], float]:
        """Return the function ``indices of parts, of some more than once → metric over these``."""
        ...


@runtime_checkable
class WithDoubts(Protocol):
    """A metric that sees in its parts what makes the value doubtful."""

    def doubts(self, parts: Sequence[Any]) -> list[str]:
        """Return a sentence for each doubt."""
        ...


@runtime_checkable
class WithChance(Protocol):
    """A metric that knows the value for random guesses, which sharpens the check of the FP32 baseline."""

    def chance(self, classes: int) -> float:
        """Return the value for random guesses among this many classes."""
        ...


@runtime_checkable
class WithMovedLabels(Protocol):
    """A metric whose targets are class numbers, so that labels that are off by one can be detected."""

    def moved_target(self, outputs: Sequence[NDArray[Any]], target: Any, by: int) -> Any:
        """Return the target with its class numbers moved by ``by``, wrapping around at the ends."""
        ...


@runtime_checkable
class ByParts(Protocol):
    """A metric that compares outputs with those of FP32 whatever they mean, and so takes them in parts.

    It is given the parts of both in place of the outputs, see ``calib.values.compared``: boxes and scores that are
    joined in one output apart, and the tensors before a selection in place of what is selected.
    """

    by_parts: bool


@runtime_checkable
class Takes(Protocol):
    """A metric of what outputs mean, for which they are decoded (``calib.outputs``) if they need it.

    Attributes:
        takes: "boxes" for boxes, scores and labels; "scores" of classes; "class map"; or "text".
    """

    takes: str


@runtime_checkable
class ByNames(Protocol):
    """A metric that looks for outputs by their names."""

    def with_names(self, names: Sequence[Sequence[str]]) -> Metric:
        """Return the metric for a model whose outputs have these names, one list for each output."""
        ...


@runtime_checkable
class Configured(Protocol):
    """A metric that a file describes.

    Attributes:
        configuration: Hash of what the file says, so that a changed file is another metric.
    """

    configuration: str


@runtime_checkable
class WithMargin(Protocol):
    """A metric that knows how far the outputs are from another result.

    With margins, a search runs many plans on the samples of small margin instead of few plans on all samples.
    """

    def margin(self, outputs: Sequence[NDArray[Any]], target: Any, *reference: Any) -> float:
        """Return how far the outputs are from another result for a sample, negative if they are wrong.

        The unit is the standard deviation of the sample's scores. If the metric ``needs_reference``, the FP32 outputs
        are the last argument.
        """
        ...


def compares_parts(metric: object) -> bool:
    """Return whether a metric compares outputs with those of FP32 in parts, see `ByParts`."""
    return isinstance(metric, ByParts) and metric.by_parts


def taken(metric: object) -> str | None:
    """Return what a metric takes of outputs that are decoded, see `Takes`; None if it reads them as they are."""
    return metric.takes if isinstance(metric, Takes) else None


def doubts_of(metric: object, parts: Sequence[Any]) -> list[str]:
    """Return what makes the value of a metric doubtful, see `WithDoubts`."""
    return metric.doubts(parts) if isinstance(metric, WithDoubts) else []
