"""Percentile: clip a fixed share of the values."""

from __future__ import annotations

import numpy as np

from calib.errors import UsageError
from calib.ranges.affine import widen_to_zero
from calib.ranges.bins import Bins, bins_of, once
from calib.values.plan import Range, Scheme
from calib.values.summary import TensorSummary

DEFAULT_PERCENT = 99.99


class Percentile:
    """The range that holds ``percent`` percent of all values over the calibration samples.

    ============ ==========================================================================
    UNSIGNED     ``high = q(percent)``
    SYMMETRIC    ``high = -low = q(percent)`` of ``|x|``, cut at the extremes
    ASYMMETRIC   ``low = q((100 - percent) / 2)``, ``high = q(100 - (100 - percent) / 2)``
    ============ ==========================================================================

    q is the quantile over the dataset, not a mean of per-sample quantiles: it does not depend on how values are
    split into samples or batches. It is interpolated linearly within bins of the histogram, so it is exact to 2^-8
    relative.
    Source: Wu et al., "Integer Quantization for Deep Learning Inference: Principles and Empirical Evaluation", 2020,
    §3.3. It does harm if the clipped values carry information (outlier channels of transformers).

    Args:
        percent: Percentage above 50 and at most 100; 100 is min-max.
    """

    needs_histogram = True

    def __init__(self, percent: float = DEFAULT_PERCENT):
        if not 50.0 < percent <= 100.0:
            raise UsageError(f"a percentile must be above 50 and at most 100, got {percent!r}; 99.9 to 99.999 is usual")
        self.percent = float(percent)
        self.name = "percentile" if percent == DEFAULT_PERCENT else f"percentile-{percent:.12g}"

    @once
    def __call__(self, summary: TensorSummary, scheme: Scheme, levels: int) -> Range:
        """Return the range that holds ``percent`` percent of the values."""
        outside = 1.0 - self.percent / 100.0
        bins = bins_of(summary)
        reason = f"holds {self.percent:.12g} % of the values of {summary.histogram_samples or summary.samples} samples"
        if outside == 0.0 or not len(bins.counts):
            low, high = summary.low, summary.high
        elif scheme is Scheme.SYMMETRIC:
            edge = _upper_quantile(_magnitudes(bins), outside)
            low, high = max(-edge, summary.low), min(edge, summary.high)
        elif scheme is Scheme.UNSIGNED:
            low, high = 0.0, _upper_quantile(bins, outside)
        else:
            low, high = -_upper_quantile(_negated(bins), outside / 2), _upper_quantile(bins, outside / 2)
        return Range(*widen_to_zero(low, high), self.name, reason)


def _negated(bins: Bins) -> Bins:
    return Bins(-bins.high[::-1], -bins.low[::-1], bins.counts[::-1])


def _magnitudes(bins: Bins) -> Bins:
    negative = bins.high <= 0
    low, high = np.where(negative, -bins.high, bins.low), np.where(negative, -bins.low, bins.high)
    order = np.lexsort((high, low))
    return Bins(low[order], high[order], bins.counts[order])


def _upper_quantile(bins: Bins, outside: float) -> float:
    """Return the number above which the share ``outside`` of the values lies."""
    above = np.cumsum(bins.counts[::-1])
    rank = outside * bins.total
    index = int(np.searchsorted(above, rank, side="right"))
    if index >= len(above):
        return float(bins.low[0])
    inside_bin = rank - (above[index - 1] if index else 0.0)
    at = len(above) - 1 - index
    return float(bins.high[at] - (bins.high[at] - bins.low[at]) * inside_bin / bins.counts[at])
