"""Auto: for each tensor the estimator whose range costs least, by expected output error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from calib.plan import Range, Scheme
from calib.ranges.bins import bins_of
from calib.ranges.estimator import RangeEstimator
from calib.ranges.expected import ExpectedError, expected_parts
from calib.ranges.kl import Kl
from calib.ranges.minmax import MeanMinMax, MinMax
from calib.ranges.mse import FEW_VALUES, Mse
from calib.ranges.percentile import Percentile
from calib.summary import TensorSummary

CLIPPING_WEIGHT = 2.0
MARGIN = 1.01  # a narrower range has to be this much better than min-max: the last bits of a sum don't decide


class Auto:
    """Try every estimator and keep the range with the smallest expected output error.

    The error that a layer passes on is estimated from the tensor's histogram as::

        E[rounding²] + 2 · E[clipping²]

    Rounding errors are independent from one element to the next and average out in the sums of the next layer.
    Clipping errors are not: they have the sign of the value, and come together, in one channel or one sample. A layer
    of n inputs adds n independent errors to n times their variance, and n equal ones to n² times; the weight is a
    cautious step between the two. Min-max, which clips nothing, is kept unless another is at least 1 % better, and
    always for tensors of few distinct values, see :meth:`calib.ranges.bins.Bins.fit_levels`.

    Args:
        estimators: to choose from, min-max first.
    """

    name = "auto"
    needs_histogram = True

    def __init__(self, estimators: Sequence[RangeEstimator] = ()):
        self.estimators = tuple(estimators) or (MinMax(), MeanMinMax(), Percentile(), Percentile(99.9), Kl(), Mse())

    def __call__(self, summary: TensorSummary, scheme: Scheme, levels: int) -> Range:
        """Return the range of the best estimator, with the figures of all in its reason."""
        if bins_of(summary).fit_levels(scheme, levels):
            return replace(MinMax()(summary, scheme, levels), estimator=self.name, reason=FEW_VALUES)
        ranges = [estimator(summary, scheme, levels) for estimator in self.estimators]
        errors = [expected_parts(summary, chosen, scheme, levels) for chosen in ranges]
        best = min(range(len(ranges)), key=lambda i: (_cost(errors[i]), i))
        if _cost(errors[0]) <= MARGIN * _cost(errors[best]):
            best = 0
        figures = ", ".join(f"{e.name} {_figure(error)}" for e, error in zip(self.estimators, errors, strict=True))
        reason = f"{self.estimators[best].name} has the smallest expected error: {figures}"
        return Range(ranges[best].low, ranges[best].high, self.name, reason)


def _cost(error: ExpectedError) -> float:
    return error.rounding + CLIPPING_WEIGHT * error.clipping


def _figure(error: ExpectedError) -> str:
    return f"{error.sqnr:.1f} dB" if error.total > 0 else "no error"
