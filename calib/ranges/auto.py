"""Auto: for each tensor, the range with the smallest expected output error among several estimators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from calib.ranges.bins import ExpectedError, bins_of, expected_parts, once
from calib.ranges.estimator import RangeEstimator
from calib.ranges.minmax import MeanMinMax, MinMax
from calib.ranges.mse import FEW_VALUES, Mse
from calib.ranges.percentile import Percentile
from calib.values.plan import Range, Scheme
from calib.values.summary import TensorSummary

CLIPPING_WEIGHT = 2.0
# Min-max comes first. KL is left out: on six networks it moved the output SQNR by -.1 to +.25 dB, for .4 of the time.
TRIED: tuple[RangeEstimator, ...] = (MinMax(), MeanMinMax(), Percentile(), Percentile(99.9), Mse())
MARGIN = 1.01  # a narrower range has to be this much better than min-max: the last bits of a sum don't decide


class Auto:
    """The range with the smallest expected output error among those of several estimators.

    The error that a layer passes on is estimated from the tensor's histogram and the layer's weights as::

        E[rounding²] + 2 · g · E[clipping²],     g = sum over channels of w_c e_c / sum of w_c

    Rounding errors spread over all channels; clipping errors come from the channels that reach beyond the range: w_c is
    how far channel c reaches (its square would let a single value of the farthest channel decide), and e_c the mean
    square of the weights it meets, 1 on average. In rescaled networks a channel of large values often meets small
    weights, so that clipping it costs little: on such a network these ranges left 12.3 dB of output SQNR, those with
    g = 1 left 5.9 dB, and those of the best single estimator 12.1 dB. Without the extremes of each channel, or without
    weights, g is 1.

    Rounding errors are independent from one element to the next and average out in the sums of the next layer.
    Clipping errors are not: they have the sign of the value and occur together in one channel or one sample. Over the
    n inputs of a layer, independent errors add up to n times their variance and equal ones to n² times; the weight 2 is
    a cautious step between the two. Min-max, which clips nothing, is kept unless another range is at least 1 % better,
    and always for tensors of few distinct values, see :meth:`calib.ranges.bins.Bins.fit_levels`.
    """

    name = "auto"
    needs_histogram = True
    needs_channels: Literal[True] = True

    @once
    def __call__(self, summary: TensorSummary, scheme: Scheme, levels: int) -> Range:
        """Return the range of the best estimator; its reason holds the figures of all."""
        if bins_of(summary).fit_levels(scheme, levels):
            return replace(MinMax()(summary, scheme, levels), estimator=self.name, reason=FEW_VALUES)
        ranges = [estimator(summary, scheme, levels) for estimator in TRIED]
        errors = [expected_parts(summary, chosen, scheme, levels) for chosen in ranges]
        clipping = _clipping(summary, ranges, [error.clipping for error in errors], scheme, levels)
        costs = [
            error.rounding + CLIPPING_WEIGHT * clipped_energy(summary, chosen) * clipped
            for error, chosen, clipped in zip(errors, ranges, clipping, strict=True)
        ]
        best = min(range(len(ranges)), key=lambda i: (costs[i], i))
        if costs[0] <= MARGIN * costs[best]:
            best = 0
        figures = ", ".join(f"{e.name} {_figure(error)}" for e, error in zip(TRIED, errors, strict=True))
        reason = f"{TRIED[best].name} has the smallest expected error: {figures}"
        return Range(ranges[best].low, ranges[best].high, self.name, reason)


def _clipping(
    summary: TensorSummary, ranges: Sequence[Range], counted: Sequence[float], scheme: Scheme, levels: int
) -> list[float]:
    """Return the clipping error of each range over all samples: those of the histogram, and others that reach farthest.

    The m of N samples that are in no histogram and reach farthest stand for themselves, those counted for the rest.

    Args:
        summary: Statistics of the tensor.
        ranges: Ranges.
        counted: Clipping error of each range over the samples of the histogram.
        scheme: Scheme of the levels.
        levels: Number of levels.
    """
    if summary.uncounted is None:
        return list(counted)
    others = replace(summary, histogram=summary.uncounted)
    share = summary.uncounted_samples / summary.samples
    apart = [expected_parts(others, chosen, scheme, levels).clipping for chosen in ranges]
    return [(1 - share) * usual + share * far for usual, far in zip(counted, apart, strict=True)]


def clipped_energy(summary: TensorSummary, chosen: Range) -> float:
    """Return the weight of the clipped channels for the readers, the g of :class:`Auto`; 1 is average."""
    low, high, energy = summary.channel_low, summary.channel_high, summary.channel_energy
    if low is None or high is None or energy is None or len(energy) != len(high):
        return 1.0
    above = np.maximum(high.astype(np.float64) - max(chosen.high, 0.0), 0.0)
    below = np.maximum(min(chosen.low, 0.0) - low.astype(np.float64), 0.0)
    reach = above + below
    return float(reach @ energy / reach.sum()) if reach.any() else 1.0


def _figure(error: ExpectedError) -> str:
    return f"{error.sqnr:.1f} dB" if error.total > 0 else "no error"
