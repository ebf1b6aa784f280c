"""Metrics that run the model themselves: ``evaluate(predict) -> float`` or ``-> (float, per_sample_scores)``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import CalibError, MetricError, one_line

Predict = Callable[[Any], list[NDArray[Any]]]


class WholeSetMetric:
    """A user's function over the whole set, as for AUC, ranking, mAP or stateful models.

    Attributes:
        name: Name of the function.
        higher_is_better: Direction, declared by the user.
        unit: Always "score".
        reads: Description of the function's argument.
    """

    unit = "score"
    reads = "whatever the function reads; it calls predict(feed), which returns the list of output arrays"
    needs_target = False
    needs_reference = False

    def __init__(self, function: Callable[[Predict], Any], higher_is_better: bool, name: str = ""):
        self.function = function
        self.higher_is_better = higher_is_better
        self.name = name or getattr(function, "__name__", type(function).__name__)

    def evaluate(self, predict: Predict) -> tuple[float, NDArray[np.float64] | None]:
        """Call the function and return its value, and the scores of samples or None.

        Args:
            predict: Function from a feed (array, tuple in input order, or dict by input name) to the list of outputs;
                of a ``calib.Sequence`` the outputs of its frames are stacked along the first axis.

        Raises:
            MetricError: The function raised an error, or did not return a finite number (and finite scores).
        """
        calls = 0

        def counted(feed: Any) -> list[NDArray[Any]]:
            nonlocal calls
            calls += 1
            return predict(feed)

        try:
            result = self.function(counted)
        except CalibError:
            raise
        except Exception as error:
            raise MetricError(
                f"the metric {self.name} raised after {calls} calls of predict: {type(error).__name__}: "
                f"{one_line(error)}"
            ) from error
        value, scores = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
        return self._number(value), None if scores is None else self._scores(scores)

    def aggregate(self, parts: Sequence[Any]) -> float:
        """Return the function's value; the only part is the result of `evaluate`."""
        return float(parts[0][0])

    def per_sample(self, parts: Sequence[Any]) -> NDArray[np.float64] | None:
        """Return the scores that the function returned, if any, and if their mean is its value."""
        value, scores = parts[0]
        if scores is None or not np.isclose(np.mean(scores), value, rtol=1e-6, atol=1e-9):
            return None
        return np.asarray(scores, np.float64)

    def _number(self, value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise MetricError(
                f"the metric {self.name} has to return a float, or (float, per_sample_scores); got {str(value)[:80]!r}"
            ) from error
        if not math.isfinite(number):
            raise MetricError(f"the metric {self.name} returned {number}; it has to be finite")
        return number

    def _scores(self, scores: Sequence[float]) -> NDArray[np.float64]:
        try:
            array = np.asarray(scores, np.float64)
        except (TypeError, ValueError) as error:
            raise MetricError(f"the metric {self.name}: its per-sample scores are no numbers: {error}") from error
        if array.ndim != 1 or not np.isfinite(array).all():
            raise MetricError(
                f"the metric {self.name}: per-sample scores are one finite number a sample, got shape {array.shape}"
            )
        return array
