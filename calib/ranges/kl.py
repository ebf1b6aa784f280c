"""KL divergence: the range whose quantized histogram diverges least from that of the tensor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy  # scipy.special is loaded at its first use, not in every process
from numpy.typing import NDArray

from calib.ranges.affine import level_grid, widen_to_zero
from calib.ranges.bins import Bins, bins_of, grid_errors, once
from calib.values.plan import Range, Scheme
from calib.values.summary import TensorSummary

_BINS = 2048  # on the longer side of zero, as in the source
_ROUNDS = 4  # of moving one end, then the other; two are usually enough
_STRIDE = 16
_CHUNK = 256  # candidates at a time: bounds memory to a few MB


class Kl:
    """The range that minimizes the Kullback-Leibler divergence from the tensor to its quantized form.

    Source: Migacz, "8-bit Inference with TensorRT", GTC 2017, s. 38-40. On a histogram H of equal bins, for bins a to
    b as the range::

        P = H[a:b], with counts outside added to its first and last bin
        Q = H[a:b] merged into levels, each spread evenly over the bins where P is not empty
        KL = sum of P/|P| · log((P/|P|) / (Q/|Q|)),   choose a and b with the smallest KL

    It departs from the source as follows: exact zeros are left out (after ReLU they would dominate); all levels of the
    quantizer are used, 256 for non-negative tensors; a signed tensor keeps its sign, with one end searched
    for SYMMETRIC and both in turn for ASYMMETRIC instead of ``|x|``; divergences come from prefix sums.

    KL ignores distances: it can clip outliers that carry information, and has ruined models. So its range is kept only
    if the expected squared error is at most that of min-max; otherwise the range is that of min-max, and the reason
    says so.
    """

    name = "kl"
    needs_histogram = True

    @once
    def __call__(self, summary: TensorSummary, scheme: Scheme, levels: int) -> Range:
        """Return the range of the smallest divergence, or that of min-max if its expected error is smaller."""
        low, high = widen_to_zero(summary.low, summary.high)
        bins = bins_of(summary)
        nonzero = bins.where((bins.low != 0) | (bins.high != 0))
        if not len(nonzero.counts):
            return Range(low, high, self.name, "min-max: the tensor is zero everywhere it was sampled")
        width = max(-low, high) / _BINS
        histogram = _rebinned(nonzero, low, high, width)
        first, last = _search(histogram, scheme, levels)
        # the outermost edges are the exact extremes
        chosen_low = low if first == 0 else (first - histogram.zero) * width
        chosen_high = high if last == histogram.size else (last - histogram.zero) * width
        scale, below = level_grid([low, chosen_low], [high, chosen_high], scheme, levels)
        whole, clipped = grid_errors(bins, scale, below, levels)
        if clipped > whole:
            return Range(low, high, self.name, _guard_reason(chosen_low, chosen_high, clipped / max(whole, 1e-300)))
        if (chosen_low, chosen_high) == (low, high):
            return Range(low, high, self.name, "min-max: no narrower range has a smaller divergence")
        return Range(chosen_low, chosen_high, self.name, "the smallest divergence from the tensor's histogram")


def _guard_reason(low: float, high: float, ratio: float) -> str:
    return (
        f"min-max: the guard fired, because the divergence asked for {low:.4g} to {high:.4g}, "
        f"whose expected squared error is {ratio:.3g} times that of min-max"
    )


class _Equal:
    """A histogram in equal bins with an edge at zero, as prefix sums.

    Attributes:
        bin_mass: Number of values in each bin, ``(size,)``; fractional where a bin of the source is split.
        zero: Index of the edge at zero.
        size: Number of bins.
    """

    def __init__(self, bin_mass: NDArray[np.float64], zero: int):
        self.bin_mass, self.zero, self.size = bin_mass, zero, len(bin_mass)
        self.mass: NDArray[np.float64] = np.append(0.0, np.cumsum(bin_mass))
        self.entropy: NDArray[np.float64] = np.append(0.0, np.cumsum(scipy.special.xlogy(bin_mass, bin_mass)))
        self.filled: NDArray[np.int64] = np.append(0, np.cumsum(bin_mass > 0))

    def padded(self, reach: int) -> _Equal:
        """Return the histogram padded with empty bins to the same extent on both sides of zero."""
        return _Equal(np.pad(self.bin_mass, (reach - self.zero, reach - (self.size - self.zero))), reach)

    def divergences(self, first: NDArray[np.int64], last: NDArray[np.int64], levels: int) -> NDArray[np.float64]:
        """Return the KL divergence of each range of bins; infinite where Q is empty and P is not."""
        found: list[NDArray[np.float64]] = []
        for start in range(0, len(first), _CHUNK):
            part = slice(start, start + _CHUNK)
            found.append(self._divergences(first[part], last[part], levels))
        return np.concatenate(found)

    def _divergences(self, first: NDArray[np.int64], last: NDArray[np.int64], levels: int) -> NDArray[np.float64]:
        # 256 levels of 4,096 bins: far below 2^31, and numpy divides int32 ten times as fast as int64
        steps, width = np.arange(levels + 1, dtype=np.int32), (last - first).astype(np.int32)
        edges = first[:, None] + (steps * width[:, None]) // np.int32(levels)
        merged, filled = np.diff(self.mass[edges], axis=1), np.diff(self.filled[edges], axis=1)
        under, over = self.mass[first], self.mass[-1] - self.mass[last]
        at_first, at_last = self.bin_mass[first], self.bin_mass[last - 1]
        # Σ P log P: only the two outer bins differ from H
        xlogy, own = scipy.special.xlogy, self.entropy[last] - self.entropy[first]
        own += np.asarray(xlogy(at_first + under, at_first + under) - xlogy(at_first, at_first), np.float64)
        own += np.asarray(xlogy(at_last + over, at_last + over) - xlogy(at_last, at_last), np.float64)
        # an outer bin that only the tail fills takes part in the spreading of Q
        filled[:, 0] += (under > 0) & (at_first == 0)
        filled[:, -1] += (over > 0) & (at_last == 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            kept, spread = merged.sum(axis=1), merged / np.maximum(filled, 1)
            clipped = merged  # from here on, the mass of P in each level
            clipped[:, 0] += under
            clipped[:, -1] += over
            spread[clipped == 0] = 1.0  # 0 · log 0 = 0
            cross = np.einsum("ij,ij->i", clipped, np.log(spread, out=spread))
            result = (own - cross) / self.mass[-1] - np.log(self.mass[-1]) + np.log(kept)
        return np.where(np.isfinite(result), result, np.inf)


def _rebinned(bins: Bins, low: float, high: float, width: float) -> _Equal:
    """Spread the histogram over equal bins that cover ``[low, high]``."""
    # tolerance: the longer side has exactly _BINS bins whatever the division rounds to
    zero = int(np.ceil(-low / width - 1e-6))
    size = zero + int(np.ceil(high / width - 1e-6))
    edges = (np.arange(size + 1, dtype=np.float64) - zero) * width
    cumulated = _cumulative(bins, edges)
    cumulated[0] = 0.0  # nothing lies below the lowest value; a heap of values exactly there is in the first bin
    return _Equal(np.diff(cumulated), zero)


def _cumulative(bins: Bins, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the number of values below each edge, interpolated linearly within bins."""
    cumulated = np.append(0.0, np.cumsum(bins.counts))
    at = np.searchsorted(bins.high, edges, side="left")  # the first bin that does not end below the edge
    inside = np.minimum(at, len(bins.counts) - 1)
    width = bins.high[inside] - bins.low[inside]
    share = np.where(
        width > 0, (edges - bins.low[inside]) / np.where(width > 0, width, 1.0), edges >= bins.high[inside]
    )
    partial = np.where(at < len(bins.counts), np.clip(share, 0.0, 1.0) * bins.counts[inside], 0.0)
    return cumulated[at] + partial


def _search(histogram: _Equal, scheme: Scheme, levels: int) -> tuple[int, int]:
    """Return the first and last edge of the best range."""
    if scheme is Scheme.SYMMETRIC:
        return _search_symmetric(histogram, levels)
    return _search_both(histogram, levels)


def _search_symmetric(histogram: _Equal, levels: int) -> tuple[int, int]:
    """Move both ends together."""
    longest = max(histogram.zero, histogram.size - histogram.zero)
    padded = histogram.padded(longest)
    reach = _best(lambda r: padded.divergences(longest - r, longest + r, levels), min(levels // 2, longest), longest)
    shift = longest - histogram.zero
    return max(longest - reach - shift, 0), min(longest + reach - shift, histogram.size)


def _search_both(histogram: _Equal, levels: int) -> tuple[int, int]:
    """Search the upper end, then the lower, until that stays; a side without values stays at zero."""
    first, last = 0, histogram.size
    for _ in range(_ROUNDS):
        before = first
        last = _best(
            lambda top, low=first: histogram.divergences(np.full_like(top, low), top, levels),
            max(histogram.zero, first + levels),
            histogram.size,
        )
        # reach below zero, so that a larger number is a wider range
        reach = _best(
            lambda r, high=last: histogram.divergences(histogram.zero - r, np.full_like(r, high), levels),
            max(histogram.zero - (last - levels), 0),
            histogram.zero,
        )
        first = histogram.zero - reach
        if first == before:  # the upper end follows from the lower
            break
    return first, last


def _best(divergences: Callable[[NDArray[np.int64]], NDArray[np.float64]], least: int, most: int) -> int:
    """Return the number from ``least`` to ``most`` with the smallest divergence; ``most`` for ties or only infinities.

    Every _STRIDE-th number is tried first, then all around the best: divergences change slowly, and this costs a tenth.
    """
    if least >= most:
        return most
    coarse = np.arange(most, least - 1, -_STRIDE)
    middle = int(coarse[np.argmin(divergences(coarse))])
    fine = np.arange(min(middle + _STRIDE - 1, most), max(middle - _STRIDE, least - 1), -1)
    return int(fine[np.argmin(divergences(fine))])
