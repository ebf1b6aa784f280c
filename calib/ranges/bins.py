"""A tensor's histogram as intervals of real numbers, cut at its exact extremes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calib.errors import StatisticsError
from calib.ranges.affine import level_grid
from calib.values.plan import Scheme
from calib.values.summary import TensorSummary

_REPEATS = 16  # how often a value is seen on average before it counts as repeated


@dataclass(frozen=True)
class Bins:
    """Values are taken as uniform within their bin.

    Attributes:
        low: ``(bins,)`` float64, ascending lower ends.
        high: ``(bins,)`` upper ends; equal to ``low`` for zero and for whatever the extremes cut to a point.
        counts: ``(bins,)`` float64, whole numbers: exact up to 2^53 values.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    counts: NDArray[np.float64]

    @property
    def total(self) -> float:
        """How many values there are, at least 1 so that it can be divided by."""
        return max(float(self.counts.sum()), 1.0)

    @property
    def first_moment(self) -> NDArray[np.float64]:
        """Sum of the values of each bin."""
        return self.counts * (self.low + self.high) / 2

    @property
    def second_moment(self) -> NDArray[np.float64]:
        """Sum of the squared values of each bin."""
        return self.counts * (self.low**2 + self.low * self.high + self.high**2) / 3

    def fit_levels(self, scheme: Scheme, levels: int) -> bool:
        """Tell whether the values probably are the levels of their exact extremes, but for one shift of all.

        Images of 8-bit pixels are like that: 256 equidistant values. Only the exact extremes give levels with the
        pixels' own distance, and a shift f of them costs f² levels where other ranges cost 1/12. A histogram can't
        see that, because its bins are as wide as the levels, and would promise a gain from other ranges. So: no more
        distinct values than levels, each repeated, and a shift of at most a quarter of a level.
        """
        if not 0 < len(self.counts) <= levels or self.total < _REPEATS * len(self.counts):
            return False
        low, high = self.low[0], self.high[-1]
        scale, below = (float(v) for v in level_grid(low, high, scheme, levels))
        same_distance = abs(scale * (levels - 1) - (high - low)) <= scale / 8
        return same_distance and abs(low + below * scale) <= scale / 4

    def where(self, keep: NDArray[np.bool_]) -> Bins:
        """Return the bins of a mask."""
        return Bins(self.low[keep], self.high[keep], self.counts[keep])


def bins_of(summary: TensorSummary) -> Bins:
    """Return the bins of a tensor's histogram.

    A bin holds the float32 numbers with the same top 16 bits, so it is 2^-7 to 2^-8 of its value wide: at the upper
    end of a range that is about one of 256 levels, which is why a bin's centre alone can't tell a rounding error.

    Raises:
        StatisticsError: the tensor has no histogram.
    """
    if summary.histogram is None:
        raise StatisticsError(
            f"tensor {summary.tensor} has no histogram, which this range estimator needs: "
            "collect the statistics again for it, or use the estimator 'minmax'"
        )
    codes = summary.histogram.codes.astype(np.uint32)
    magnitude = codes & 0x7FFF
    inner = (magnitude << 16).view(np.float32).astype(np.float64)
    outer = ((magnitude << 16) | 0xFFFF).view(np.float32).astype(np.float64)
    outer = np.where(magnitude == 0, 0.0, outer)  # zero and subnormals: exactly zero
    negative = (codes & 0x8000) != 0
    low, high = np.where(negative, -outer, inner), np.where(negative, -inner, outer)
    order = np.argsort(low + high, kind="stable")
    # float32 rounding of a mean can't leave the data, so only the outermost bins are cut
    low, high = (np.clip(edge[order], summary.low, summary.high) for edge in (low, high))
    return Bins(low, high, summary.histogram.counts[order].astype(np.float64))
