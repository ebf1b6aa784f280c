"""What is kept of an activation tensor: exact extremes and a histogram; mergeable in any order, numpy only.

The histogram has no range that must be known beforehand: a value falls into the bin of the top 16 bits of its
float32 representation (sign, exponent, 7 bits of mantissa), so bins are exact to 2^-7 relative, counts are integers
and merging is order-independent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calib.values.plan import TensorId


@dataclass(frozen=True)
class Histogram:
    """Counts over float32 top-16-bit bins, sparse.

    Attributes:
        codes: uint16, unique, ascending: ``float32 bits >> 16``.
        counts: int64, same length.
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
        """How many values were counted."""
        return int(self.counts.sum())

    def distribution(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return ``(values, counts)``: bin centres ascending, float64, and how often each was seen.

        The bin of zero (which also holds subnormals) is centred at exactly 0.
        """
        low = (self.codes.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        high = ((self.codes.astype(np.uint32) << 16) | 0xFFFF).view(np.float32).astype(np.float64)
        centres = np.where((self.codes & 0x7FFF) == 0, 0.0, (low + high) / 2)
        order = np.argsort(centres, kind="stable")
        return centres[order], self.counts[order]


@dataclass(frozen=True)
class TensorSummary:
    """What one pass over the calibration dataset left of a tensor.

    Attributes:
        samples: how many samples were seen.
        low, high: exact extremes over the dataset.
        mean_low, mean_high: means over samples of each sample's extremes.
        histogram: None where no estimator needs one.
        channel_low, channel_high: ``(channels,)`` exact extremes along axis 1 (last axis for MatMul inputs), or None.
        histogram_samples: how many samples the histogram was taken from.
        channel_energy: ``(channels,)`` mean square of the weights that the tensor's readers multiply each channel
            with, 1 on average; of the model rather than the samples, so it is not saved. None where it is not known.
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


Summaries = Mapping[TensorId, TensorSummary]
