"""The running totals of extremes and means: reads the flat output of the instrumented model, sample by sample."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calib.graph.taps import Kind, Segment, Taps
from calib.statistics.accumulators import ExactSum
from calib.summary import TensorSummary

Index = NDArray[np.int64]


class Extremes:
    """Totals over samples; all of them independent of the order in which samples are added.

    Attributes:
        samples: how many samples were added.
    """

    def __init__(self, taps: Taps):
        self.samples = 0
        self._taps = taps
        tensors = len(taps.tensors)
        self._high = _Field(taps.segments, Kind.HIGH, tensors)
        self._low = _Field(taps.segments, Kind.LOW, tensors, like=self._high)
        self._mean = _Field(taps.segments, Kind.MEAN, tensors)
        self._check = _Field(taps.segments, Kind.CHECK, tensors)
        self._seen = np.zeros(tensors, np.int64)
        self._highest = np.full(self._high.size, -np.inf, np.float32)
        self._lowest = np.full(self._high.size, np.inf, np.float32)
        self._highs = ExactSum(tensors)
        self._lows = ExactSum(tensors)
        self._means = ExactSum(self._mean.size)

    def add(self, flat: NDArray[np.float32]) -> tuple[int, ...]:
        """Add a sample; return the tensors (indices, ascending) whose values look not finite."""
        starts = self._taps.starts(flat)
        high, low, mean, check = (f.read(flat, starts) for f in (self._high, self._low, self._mean, self._check))
        top = np.maximum.reduceat(high, self._high.first)
        bottom = np.minimum.reduceat(low, self._high.first)
        # An empty tensor has no extremes: the CPU plugin returns -FLT_MAX and FLT_MAX.
        seen = top >= bottom
        self.samples += 1
        self._seen += seen
        spread = seen if self._high.size == len(seen) else np.repeat(seen, self._high.sizes)
        np.maximum(self._highest, high, out=self._highest, where=spread)
        np.minimum(self._lowest, low, out=self._lowest, where=spread)
        self._highs.add(top, seen & np.isfinite(top))
        self._lows.add(bottom, seen & np.isfinite(bottom))
        if len(mean):
            self._means.add(mean, seen[self._mean.owner] & np.isfinite(mean))
        return self._suspects(top, bottom, mean, check)

    def _suspects(self, *fields: NDArray[np.float32]) -> tuple[int, ...]:
        top, bottom, mean, check = fields
        if all(np.isfinite(field).all() for field in fields):
            return ()
        bad = ~np.isfinite(top) | ~np.isfinite(bottom)
        bad[self._mean.owner[~np.isfinite(mean)]] = True
        bad[self._check.owner[~np.isfinite(check)]] = True
        return tuple(int(index) for index in np.flatnonzero(bad))

    def summaries(self) -> list[TensorSummary]:
        """Return what was kept of each tensor that held a value in at least one sample; no histograms."""
        counts = np.maximum(self._seen, 1)
        mean_high, mean_low = self._highs.total() / counts, self._lows.total() / counts
        means = self._means.total() / counts[self._mean.owner] if self._mean.size else np.zeros(0)
        found = []
        for index, tensor in enumerate(self._taps.tensors):
            if not self._seen[index]:
                continue
            part, several = self._high.part(index), self._high.per_channel[index]
            mean = self._mean.part(index)
            found.append(
                TensorSummary(
                    tensor=tensor,
                    samples=int(self._seen[index]),
                    low=float(self._lowest[part].min()),
                    high=float(self._highest[part].max()),
                    mean_low=float(mean_low[index]),
                    mean_high=float(mean_high[index]),
                    channel_low=self._lowest[part].copy() if several else None,
                    channel_high=self._highest[part].copy() if several else None,
                    channel_mean=means[mean].copy() if mean.stop > mean.start else None,
                )
            )
        return found


class _Field:
    """Where the values of one kind lie in the flat output.

    Attributes:
        size: number of values over all tensors.
        sizes: number of values of each tensor, 0 where it has none.
        first: position of each tensor's first value among them.
        owner: the tensor of each value.
        per_channel: whether a tensor's values are one a channel.
    """

    def __init__(self, segments: tuple[Segment, ...], kind: Kind, tensors: int, like: _Field | None = None):
        self._segment = np.zeros(tensors, np.int64)  # an absent one reads from the first, and is overwritten by zero
        absent = np.ones(tensors, np.bool_)
        self.sizes = np.zeros(tensors, np.int64)
        self.per_channel = [False] * tensors
        for position, segment in enumerate(segments):
            if segment.kind == kind:
                self._segment[segment.tensor] = position
                absent[segment.tensor] = False
                self.sizes[segment.tensor] = segment.size
                self.per_channel[segment.tensor] = segment.per_channel
        if like is not None:  # a provable zero is not computed, but it has a place
            self.sizes = like.sizes
        self.size = int(self.sizes.sum())
        self.owner = np.repeat(np.arange(tensors), self.sizes)
        self.first = np.cumsum(self.sizes) - self.sizes
        self._within = np.arange(self.size) - self.first[self.owner]
        self._zero = absent[self.owner]
        self._starts: Index | None = None
        self._places: Index = np.zeros(0, np.int64)

    def read(self, flat: NDArray[np.float32], starts: Index) -> NDArray[np.float32]:
        """Return the values of all tensors in a row, 0 for those that are not computed."""
        if self._starts is not starts:  # the same array for every sample, unless shapes are dynamic
            self._starts, self._places = starts, starts[self._segment[self.owner]] + self._within
        values = flat[self._places]
        values[self._zero] = 0.0
        return values

    def part(self, tensor: int) -> slice:
        """Return where a tensor's values lie in the row."""
        return slice(int(self.first[tensor]), int(self.first[tensor] + self.sizes[tensor]))
