"""MSE: the range with the smallest expected squared error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calib.ranges.affine import level_grid, widen_to_zero
from calib.ranges.bins import Bins, bins_of, grid_errors, once
from calib.values.plan import Range, Scheme
from calib.values.sqnr import decibel
from calib.values.summary import TensorSummary

_EDGES = 96  # ends tried on each side in the coarse search over both
_FINALISTS = 12  # ranges whose error is integrated exactly
_SMALLEST = 2.0**-12  # share of the extreme below which no end is tried
FEW_VALUES = "min-max: the values are few and evenly spaced, like pixels, so that each has its own level"


class Mse:
    """The range with the smallest ``E[(x - FakeQuantize(x))²]``, searched over both ends.

    Source: Banner et al., "Post training 4-bit quantization of convolutional networks for rapid-deployment", 2019,
    eq. 1 and 2, with the dataset's histogram in place of their Laplace density. For a range with scale s::

        E = sum over |x| < s/2 of x²  +  s²/12 · share of the rest inside  +  sum outside of (x - end)²

    which prefix sums of counts, x and x² give in constant time for any pair of ends, so both ends are searched
    together if the scheme is asymmetric. The best few and min-max are then compared by the exact integral over the
    final levels, so the result is never worse than min-max on the histogram. Ties go to the wider range.
    Tensors of few distinct values, such as images of 8-bit pixels, keep min-max, see
    :meth:`calib.ranges.bins.Bins.fit_levels`.
    """

    name = "mse"
    needs_histogram = True

    @once
    def __call__(self, summary: TensorSummary, scheme: Scheme, levels: int) -> Range:
        """Return the range with the smallest expected squared error."""
        low, high = widen_to_zero(summary.low, summary.high)
        bins = bins_of(summary)
        if not bins.second_moment.any():
            return Range(low, high, self.name, "min-max: the tensor is zero everywhere it was sampled")
        if bins.fit_levels(scheme, levels):
            return Range(low, high, self.name, FEW_VALUES)
        lows, highs = _candidates(bins, low, high, scheme, levels)
        order = np.argsort(_quick_errors(_Moments(bins), lows, highs, scheme, levels), kind="stable")[:_FINALISTS]
        lows, highs = np.append(low, lows[order]), np.append(high, highs[order])
        errors = grid_errors(bins, *level_grid(lows, highs, scheme, levels), levels)
        best = int(np.lexsort((lows - highs, errors))[0])
        gain = decibel(errors[0], errors[best])
        if best == 0 or gain <= 0.0:
            return Range(low, high, self.name, "min-max: no narrower range has a smaller expected squared error")
        reason = f"expected squared error {gain:.2f} dB below min-max's"
        return Range(float(lows[best]), float(highs[best]), self.name, reason)


class _Moments:
    """Sums of counts, x and x² below any bin edge."""

    def __init__(self, bins: Bins):
        self.edges = np.append(bins.low, bins.high[-1])
        sums = [bins.counts, bins.first_moment, bins.second_moment]
        self.sums = np.stack([np.append(0.0, np.cumsum(s)) for s in sums])

    def below(self, value: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``(3, …)``: the sums over the bins that start below the values."""
        return self.sums[:, np.searchsorted(self.edges[:-1], value, side="left")]

    def all(self) -> NDArray[np.float64]:
        """Return ``(3,)``: the sums over all bins."""
        return self.sums[:, -1]


def _quick_errors(
    moments: _Moments, lows: NDArray[np.float64], highs: NDArray[np.float64], scheme: Scheme, levels: int
) -> NDArray[np.float64]:
    """Return the error by the formula of the class for each pair of ends; each bin is wholly inside or outside."""
    scale, grid_below = level_grid(lows, highs, scheme, levels)
    bottom, top = -grid_below * scale, (levels - 1 - grid_below) * scale
    whole = moments.all().reshape(3, *([1] * scale.ndim))
    under, over = moments.below(bottom), whole - moments.below(top)
    dead = moments.below(np.minimum(scale / 2, top)) - moments.below(np.maximum(-scale / 2, bottom))
    inside = whole[0] - under[0] - over[0] - dead[0]
    clipped_low = under[2] - 2 * bottom * under[1] + bottom**2 * under[0]
    clipped_high = over[2] - 2 * top * over[1] + top**2 * over[0]
    return dead[2] + inside * scale**2 / 12 + np.maximum(clipped_low, 0.0) + np.maximum(clipped_high, 0.0)


def _candidates(
    bins: Bins, low: float, high: float, scheme: Scheme, levels: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ``(lows, highs)``, candidate ends on bin edges inside the data."""
    above = _ends(bins.high, high)
    under = -_ends(-bins.low[::-1], -low)
    if scheme is Scheme.UNSIGNED:
        return np.zeros_like(above), above
    if scheme is Scheme.SYMMETRIC:
        half = levels // 2
        scales = np.unique(np.concatenate([above / (levels - 1 - half), -under / half]))
        return np.maximum(-scales * half, low), np.minimum(scales * (levels - 1 - half), high)
    moments, few_under, few_above = _Moments(bins), _thinned(under), _thinned(above)
    lows, highs = (grid.reshape(-1) for grid in np.meshgrid(few_under, few_above, indexing="ij"))
    best = int(np.argmin(_quick_errors(moments, lows, highs, scheme, levels)))
    near_low, near_high = _around(under, few_under, lows[best]), _around(above, few_above, highs[best])
    lows, highs = (grid.reshape(-1) for grid in np.meshgrid(near_low, near_high, indexing="ij"))
    return lows, highs


def _ends(edges: NDArray[np.float64], extreme: float) -> NDArray[np.float64]:
    """Return the positive edges up to the extreme, ascending, or just 0 if there are no values on that side."""
    if extreme <= 0.0:
        return np.zeros(1)
    kept = edges[(edges > extreme * _SMALLEST) & (edges <= extreme)]
    return np.unique(np.append(kept, extreme))


def _thinned(ends: NDArray[np.float64]) -> NDArray[np.float64]:
    picks = np.unique(np.linspace(0, len(ends) - 1, min(_EDGES, len(ends))).round().astype(int))
    return ends[picks]


def _around(ends: NDArray[np.float64], thinned: NDArray[np.float64], best: float) -> NDArray[np.float64]:
    """Return all ends between the neighbours of the best in the thinned list."""
    thinned, ends = np.sort(thinned), np.sort(ends)
    at = int(np.searchsorted(thinned, best))
    first, last = thinned[max(at - 1, 0)], thinned[min(at + 1, len(thinned) - 1)]
    return ends[(ends >= first) & (ends <= last)]
