"""What a metric of a configuration is, and the commonest kind: the mean of a number for each image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from calib.accuracy_check.values import Value

IGNORED = ("name", "presenter", "reference", "abs_threshold", "rel_threshold", "metric_specific_threshold")
"""Parameters of a metric that change what is shown, not what is measured."""


class Measure(Protocol):
    """A metric as a configuration names it."""

    @property
    def unit(self) -> str:
        """Unit of its value."""
        ...

    @property
    def mean(self) -> bool:
        """Whether the value is the mean of its parts, which are then numbers."""
        ...

    @property
    def higher(self) -> bool:
        """Whether higher values are better."""
        ...

    def part(self, annotation: Value, prediction: Value) -> Any:
        """Return what one image adds, as JSON can hold it."""
        ...

    def value(self, parts: Sequence[Any]) -> float:
        """Return the metric over these images."""
        ...


class Mean:
    """A metric that is the mean of a number for each image."""

    mean = True

    def __init__(self, number: Callable[[Value, Value], float], unit: str = "fraction", *, higher: bool = True):
        self._number, self.unit, self.higher = number, unit, higher

    def part(self, annotation: Value, prediction: Value) -> Any:
        """Return the number of an image."""
        return float(self._number(annotation, prediction))

    def value(self, parts: Sequence[Any]) -> float:
        """Return the mean."""
        return float(np.mean(parts))
