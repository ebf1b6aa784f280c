"""Statistics of an activation tensor: exact extremes and a histogram, which can be merged in any order; numpy only.

The histogram needs no range that is known beforehand: a value falls into the bin of the top 16 bits of its
float32 representation (sign, exponent, 7 bits of mantissa), so bins are exact to 2^-7 relative, counts are integers
and merging is order-independent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from calib.values.plan import QuantizationPlan, Range, TensorId


@dataclass(frozen=True)
class Histogram:
    """Counts over float32 top-16-bit bins, sparse.

    Attributes:
        codes: Unique ascending bin numbers, ``float32 bits >> 16``, as uint16.
        counts: Number of values in each bin, as int64.
    """

    codes: NDArray[np.uint16]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, values: NDArray[np.float32]) -> Histogram:
        """Count finite float32 values of any shape."""
        bits = np.ascontiguousarray(values, dtype=np.float32).reshape(-1).view(np.uint32) >> 16
        counts = np.bincount(bits.astype(np.int64), minlength=1)
        codes = np.flatnonzero(counts)
        return cls(codes.astype(np.uint16), counts[codes].astype(np.int64))

    def merge(self, other: Histogram) -> Histogram:
        """Add the counts of another histogram."""
        codes = np.union1d(self.codes, other.codes)
        counts = np.zeros(len(codes), np.int64)
        counts[np.searchsorted(codes, self.codes)] += self.counts
        counts[np.searchsorted(codes, other.codes)] += other.counts
        return Histogram(codes.astype(np.uint16), counts)

    @property
    def total(self) -> int:
        """Number of values counted."""
        return int(self.counts.sum())

    def distribution(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return ``(values, counts)``: ascending bin centres in float64 and the number of values in each.

        The bin of zero, which also holds subnormals, is centred at exactly 0.
        """
        low = (self.codes.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        high = ((self.codes.astype(np.uint32) << 16) | 0xFFFF).view(np.float32).astype(np.float64)
        centres = np.where((self.codes & 0x7FFF) == 0, 0.0, (low + high) / 2)
        order = np.argsort(centres, kind="stable")
        return centres[order], self.counts[order]


@dataclass(frozen=True)
class TensorSummary:
    """Statistics of one tensor over the calibration samples.

    Attributes:
        samples: Number of samples seen.
        low, high: Exact extremes over all samples.
        mean_low, mean_high: Means over samples of each sample's extremes.
        histogram: Histogram; None if no estimator needs one.
        channel_low, channel_high: Exact extremes along axis 1 (last axis for MatMul inputs), ``(channels,)``, or None.
        histogram_samples: Number of samples that the histogram was taken from.
        trimmed_low, trimmed_high: Extremes without outlier samples, see :func:`calib.statistics.totals.count_beyond`;
            -inf and inf where there are none.
        channel_energy: Mean square of the weights that each channel is multiplied with, over all readers, 1 on average,
            ``(channels,)``. It depends on the model and not on the samples, so it is not saved. None if unknown.
        high_sample, low_sample: Ids of the samples that hold ``high`` and ``low``; "" where several do, or if unknown.
        next_high, next_low: Extremes over all other samples, -inf and inf where there are none.
        farthest_high, farthest_low: ``(sample id, extreme)`` of the few samples that reach farthest to each side of
            zero, the farthest first; none that others equal beyond these few. Of a sequence each frame counts.
        uncounted: Histogram of those of the samples that ``histogram`` is not from that reach farthest, without outlier
            samples; None if it is from all samples.
        uncounted_samples: Number of these.
        estimated: Ranges that estimators chose from these statistics, see :func:`calib.ranges.bins.once`.
    """

    tensor: TensorId
    samples: int
    low: float
    high: float
    mean_low: float
    mean_high: float
    histogram: Histogram | None = None
    channel_low: NDArray[np.float32] | None = None
    channel_high: NDArray[np.float32] | None = None
    histogram_samples: int = 0
    channel_energy: NDArray[np.float64] | None = None
    high_sample: str = ""
    low_sample: str = ""
    next_high: float = -math.inf
    next_low: float = math.inf
    trimmed_low: float = -math.inf
    trimmed_high: float = math.inf
    farthest_high: tuple[tuple[str, float], ...] = ()
    farthest_low: tuple[tuple[str, float], ...] = ()
    uncounted: Histogram | None = None
    uncounted_samples: int = 0
    estimated: dict[object, Range] = field(default_factory=dict[object, Range], init=False, repr=False, compare=False)

    @property
    def has_outlier_samples(self) -> bool:
        """Whether a few samples reach so much farther than the others that they count as outliers."""
        return self.trimmed_low > self.low or self.trimmed_high < self.high

    def divided(self, tensor: TensorId, factors: NDArray[np.float64]) -> TensorSummary:
        """Return the extremes of a tensor whose channels are these divided by factors, ``(channels,)``.

        What is not known by channel is missing or, for the means over samples, the extremes themselves.
        """
        assert self.channel_high is not None
        high = self.channel_high / factors
        low = (np.zeros_like(self.channel_high) if self.channel_low is None else self.channel_low) / factors
        ends = float(low.min()), float(high.max())
        channels = low.astype(np.float32), high.astype(np.float32)
        return TensorSummary(tensor, self.samples, *ends, *ends, None, *channels)


Summaries = Mapping[TensorId, TensorSummary]


@dataclass(frozen=True)
class Collected:
    """Summaries of every tensor over two sets of calibration samples.

    Attributes:
        kept: Over the samples that are not held out, which recipes are chosen by.
        whole: Over all samples, which the final ranges are fitted to; the same object if no samples are held out.
        outliers: Ids of the samples that reach at least four times as far as the others in half of the tensors or more.
        plain: Summaries of the tensors as they are without equalization; None if nothing is equalized.
        pieces: Number of pieces that the network was compiled in for them.
    """

    kept: Summaries
    whole: Summaries
    outliers: tuple[str, ...] = ()
    plain: Collected | None = None
    pieces: int = 1

    def of(self, plan: QuantizationPlan) -> Summaries:
        """Return the summaries over all samples of the tensors as a plan has them, with its equalization or without."""
        return self.plain.whole if self.plain is not None and not plan.scalings else self.whole

    def parted(self) -> Collected:
        """Return the same with the summaries of tensors :func:`without_equalization` in a collection of their own."""
        if not any(without_equalization(tensor) in self.whole for tensor in self.whole):
            return self
        kept, whole = ([_chosen(some, plain) for plain in (False, True)] for some in (self.kept, self.whole))
        if self.kept is self.whole:
            kept = whole
        plain = Collected({**whole[1], **kept[1]}, whole[1], self.outliers)
        return Collected(kept[0], whole[0], self.outliers, plain, self.pieces)


def without_equalization(tensor: TensorId) -> TensorId:
    """Return the name under which statistics are collected of a tensor as it is without equalization."""
    return TensorId(f"{tensor.node} without equalization", tensor.output)


def _chosen(summaries: Summaries, plain: bool) -> Summaries:
    names = {without_equalization(tensor) for tensor in summaries}
    found = {tensor: summary for tensor, summary in summaries.items() if tensor not in names}
    if plain:
        other = {tensor: summaries.get(without_equalization(tensor)) for tensor in found}
        found |= {tensor: replace(summary, tensor=tensor) for tensor, summary in other.items() if summary is not None}
    return found
