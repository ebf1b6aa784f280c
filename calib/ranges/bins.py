"""A tensor's histogram as intervals of real numbers, and the expected squared error of a range."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from calib.errors import StatisticsError
from calib.ranges.affine import level_grid
from calib.values.plan import Range, Scheme
from calib.values.sqnr import decibel
from calib.values.summary import TensorSummary

Estimate = TypeVar("Estimate", bound=Callable[..., Range])

# A bin narrower than this share of its value is a point: the difference of two integrals would be noise.
_POINT = 2.0**-20
_REPEATS = 16  # how often a value is seen on average before it counts as repeated


@dataclass(frozen=True)
class Bins:
    """The histogram cut at the tensor's exact extremes; values are assumed uniform within their bin.

    Attributes:
        low: Ascending lower ends, float64 ``(bins,)``.
        high: Upper ends, float64 ``(bins,)``; equal to ``low`` for zero and for bins that the extremes cut to a point.
        counts: Whole numbers, float64 ``(bins,)``, exact up to 2^53 values.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    counts: NDArray[np.float64]

    @cached_property
    def total(self) -> float:
        """Number of values, at least 1 so that it can be divided by."""
        return max(float(self.counts.sum()), 1.0)

    @cached_property
    def first_moment(self) -> NDArray[np.float64]:
        """Sum of the values of each bin."""
        return self.counts * (self.low + self.high) / 2

    @cached_property
    def second_moment(self) -> NDArray[np.float64]:
        """Sum of the squared values of each bin."""
        return self.counts * (self.low**2 + self.low * self.high + self.high**2) / 3

    def fit_levels(self, scheme: Scheme, levels: int) -> bool:
        """Return whether the values probably are the levels of their exact extremes, up to a common shift.

        Images of 8-bit pixels are like that: 256 equidistant values. Only the exact extremes give levels with the
        distance of the pixels, and a shift by f levels costs f² where other ranges cost 1/12. A histogram can't show
        that, because its bins are as wide as the levels, and would predict a gain from other ranges. The condition is:
        no more distinct values than levels, each repeated, and a shift of at most a quarter of a level.
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


# The bins made last, with the summary that they are of: estimators ask for the same ones several times in a row.
_latest: list[tuple[TensorSummary, Bins]] = []


def bins_of(summary: TensorSummary) -> Bins:
    """Return the bins of a tensor's histogram, the same object where they were asked for last.

    A bin holds the float32 numbers with the same top 16 bits, so its width is 2^-7 to 2^-8 of its value. At the upper
    end of a range that is about one of 256 levels, so the centre of a bin is not enough to compute a rounding error.

    Raises:
        StatisticsError: The tensor has no histogram.
    """
    for known, bins in _latest:
        if known is summary:
            return bins
    _latest[:] = [(summary, _made(summary))]
    return _latest[0][1]


def once(estimate: Estimate) -> Estimate:
    """Return an estimator's call that looks up what it chose from the same statistics before.

    Candidates, the estimator ``auto`` and the report ask for the same ranges.
    """

    @wraps(estimate)
    def estimated(self: Any, summary: TensorSummary, scheme: Scheme, levels: int) -> Range:
        key: Any = (type(self), self.name, scheme, levels)
        if key not in summary.estimated:
            summary.estimated[key] = estimate(self, summary, scheme, levels)
        return summary.estimated[key]

    return cast(Estimate, estimated)


def _made(summary: TensorSummary) -> Bins:
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


@dataclass(frozen=True)
class ExpectedError:
    """Mean squared error of a quantized tensor, in squared units of the tensor.

    Attributes:
        rounding: Error of values within half a level of the levels.
        clipping: Error of values beyond them.
        power: Mean square of the tensor, for comparison.
    """

    rounding: float
    clipping: float
    power: float

    @property
    def total(self) -> float:
        """Sum of the rounding and clipping errors."""
        return self.rounding + self.clipping

    @property
    def sqnr(self) -> float:
        """Signal-to-quantization-noise ratio in dB; infinite without noise."""
        return decibel(self.power, self.total)


def grid_errors(bins: Bins, scale: NDArray[np.float64], below: NDArray[np.float64], levels: int) -> NDArray[np.float64]:
    """Return the mean squared error of each of several level grids, exact for values uniform within their bins.

    With u = x / scale and n = clip(round(u), -below, levels - 1 - below), the squared error (u - n)² has the
    antiderivative n / 12 + (u - n)³ / 3, inside and outside of the levels alike; a bin's error is its difference
    over the bin's width.

    Args:
        bins: Bins of the tensor.
        scale: Scale of each grid, ``(grids,)``.
        below: Number of levels below zero of each grid, ``(grids,)``.
        levels: Number of levels of every grid.
    """
    scale, below = scale[:, None], below[:, None]
    low, high = bins.low / scale, bins.high / scale
    width = high - low
    point = width <= _POINT * np.abs(low + high)
    upper, at_high = _antiderivative(high, below, levels)
    lower, _ = _antiderivative(low, below, levels)
    error = np.where(point, (high - at_high) ** 2, (upper - lower) / np.where(point, 1.0, width))
    return (error @ bins.counts) * scale[:, 0] ** 2 / bins.total


def _antiderivative(u: NDArray[np.float64], below: NDArray[np.float64], levels: int):
    nearest = np.clip(np.rint(u), -below, levels - 1 - below)
    off = u - nearest
    return nearest / 12 + off * off * off / 3, nearest


def expected_parts(summary: TensorSummary, chosen: Range, scheme: Scheme, levels: int) -> ExpectedError:
    """Return the expected squared error of quantizing a tensor, split into rounding and clipping.

    Raises:
        StatisticsError: The tensor has no histogram.
    """
    bins = bins_of(summary)
    scale, below = level_grid([chosen.low], [chosen.high], scheme, levels)
    total = float(grid_errors(bins, scale, below, levels)[0])
    clipping = min(_clipping(bins, float(scale[0]), float(below[0]), levels), total)
    return ExpectedError(total - clipping, clipping, float(bins.second_moment.sum() / bins.total))


def _clipping(bins: Bins, scale: float, below: float, levels: int) -> float:
    """Return the mean squared error of values more than half a level beyond the last level, by the same integral."""
    total = 0.0
    for sign, last in ((1.0, levels - 1 - below), (-1.0, below)):
        beyond = bins.where((bins.high if sign > 0 else -bins.low) > (last + 0.5) * scale)
        ends = np.sort(sign * np.stack([beyond.low, beyond.high]) / scale - last, axis=0)
        start: NDArray[np.float64] = ends[0]
        high: NDArray[np.float64] = ends[1]
        low: NDArray[np.float64] = np.maximum(start, 0.5)
        whole = high - start
        point = whole <= _POINT * (high + last)
        cubes = (high**3 - low**3) / 3 / np.where(point, 1.0, whole)
        total += float(np.where(point, high**2, cubes) @ beyond.counts)
    return total * scale**2 / bins.total


def clipped_share(summary: TensorSummary, chosen: Range) -> float:
    """Return the share of a tensor's values outside of a range, 0 to 1.

    Raises:
        StatisticsError: The tensor has no histogram.
    """
    bins = bins_of(summary)
    width = bins.high - bins.low
    inside = np.minimum(bins.high, chosen.high) - np.maximum(bins.low, chosen.low)
    part = np.where(width > 0, np.clip(inside / np.where(width > 0, width, 1.0), 0.0, 1.0), inside >= 0)
    return max(0.0, 1.0 - float(part @ bins.counts) / bins.total)
