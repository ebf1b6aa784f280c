"""Running totals over samples, read from the instrumented model's flat output: extremes and histograms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from calib.graph.taps import Kind, Need, Taps
from calib.statistics.accumulators import CodeCounts, ExactSum, Farthest, Largest, Leaders
from calib.values.plan import TensorId
from calib.values.summary import Histogram, TensorSummary

# A call to numpy costs more than the numbers of one sample: they are gathered and added up this many at a time, less
# where there are many channels (the buffer holds at most 2^20 numbers).
_ROWS = 64
_BUFFER = 1 << 20

# A sample is an outlier in a tensor if it reaches at least GAP times as far as the next one does. A sample three times
# as bright as the others is not one: it belongs to the data. Neither are several samples if they are more than this
# share of all: then they are one of its kinds.
GAP = 4.0
RARE = 0.05
_OUTLIERS = 64  # most of them that are told apart in one tensor, whatever the number of samples
FARTHEST = 16  # samples of which it is known how far they reach in one tensor


class Extremes:
    """Extremes and their means over samples, independent of the order in which samples are added.

    Attributes:
        samples: Number of samples added.
    """

    def __init__(self, taps: Taps):
        self.samples = 0
        self._taps = taps
        tensors = len(taps.tensors)
        self._row = _Row(taps)
        self._high = self._row.layout(Kind.HIGH)
        self._low = self._row.layout(Kind.LOW, like=self._high)
        self._check = self._row.layout(Kind.CHECK)
        self._owner = np.concatenate([f.owner for f in (self._high, self._low, self._check)])
        self._seen = np.zeros(tensors, np.int64)
        self._highest = np.full(self._high.size, -np.inf, np.float32)
        self._lowest = np.full(self._high.size, np.inf, np.float32)
        self._sums = ExactSum(2 * tensors)  # of highs and lows, in one addition
        self._reach = Largest(2 * tensors, _OUTLIERS + 1)  # of highs and negated lows
        self._leaders = Leaders(2 * tensors)  # of the same
        self._names: list[str] = []  # of the gathered samples
        self._ids: dict[int, str] = {}  # by number
        rows = max(1, min(_ROWS, _BUFFER // len(self._owner)))
        self._buffer = np.empty((rows, len(self._owner)), np.float32)
        self._numbers = np.empty(rows, np.int64)
        self._used = 0

    def add(self, flat: NDArray[np.float32], number: int, name: str = "") -> tuple[int, ...]:
        """Add a sample by its number and id; return the ascending indices of tensors whose values may not be finite."""
        self._names.append(name)
        self._ids[number] = name
        row = self._buffer[self._used]
        self._numbers[self._used] = number
        self._row.read(flat, row)
        self._used += 1
        self.samples += 1
        finite = np.isfinite(row)
        suspects = () if finite.all() else tuple(int(tensor) for tensor in np.unique(self._owner[~finite]))
        if self._used == len(self._buffer):
            self._flush()
        return suspects

    def _flush(self) -> None:
        """Add the gathered samples to the totals."""
        rows, numbers, names = self._buffer[: self._used], self._numbers[: self._used], self._names
        self._used, self._names = 0, []
        if len(rows) == 0:
            return
        high, low, _ = np.split(rows, np.cumsum([self._high.size, self._low.size]), axis=1)
        top = np.maximum.reduceat(high, self._high.first, axis=1)
        bottom = np.minimum.reduceat(low, self._high.first, axis=1)
        # An empty tensor has no extremes: the CPU plugin returns -FLT_MAX and FLT_MAX.
        seen = top >= bottom
        self._seen += seen.sum(axis=0)
        spread = seen[:, self._high.owner]
        np.maximum(self._highest, high.max(axis=0, where=spread, initial=-np.inf), out=self._highest)
        np.minimum(self._lowest, low.min(axis=0, where=spread, initial=np.inf), out=self._lowest)
        terms = np.concatenate([top, bottom], axis=1)
        counted = np.concatenate([seen, seen], axis=1) & np.isfinite(terms)
        self._sums.add(terms, None if counted.all() else counted)
        reach, both = np.concatenate([top, -bottom], axis=1), np.concatenate([seen, seen], axis=1)
        self._leaders.add(np.where(both, reach, np.float32(-np.inf)), names)
        self._reach.add(np.where(counted, np.maximum(reach, 0), np.float32(0)), numbers)

    def absorb(self, other: Extremes) -> None:
        """Add the samples of other extremes, taken with the same taps."""
        self._flush()
        other._flush()
        self.samples += other.samples
        self._seen += other._seen
        self._ids |= other._ids
        np.maximum(self._highest, other._highest, out=self._highest)
        np.minimum(self._lowest, other._lowest, out=self._lowest)
        self._sums.absorb(other._sums)
        self._leaders.absorb(other._leaders)
        self._reach.absorb(other._reach)

    def outliers(self) -> list[int]:
        """Return the ascending numbers of the samples that lie beyond a gap in at least half of the tensors."""
        self._flush()
        reach, numbers = self._reach.descending()
        beyond = np.arange(len(reach))[:, None] < count_beyond(reach, np.tile(self._seen, 2))
        tensors = np.tile(np.arange(len(self._seen)), 2)
        pairs = {(number, tensor) for row, at in zip(numbers, beyond, strict=True)
                 for number, tensor in zip(row[at].tolist(), tensors[at].tolist(), strict=True)}  # fmt: skip
        found = Counter(number for number, _ in pairs)
        return sorted(number for number, count in found.items() if 2 * count >= len(self._seen))

    def summaries(self) -> list[TensorSummary]:
        """Return the summary, without a histogram, of each tensor that held a value in at least one sample."""
        self._flush()
        counts = np.maximum(self._seen, 1)
        mean_high, mean_low = (part / counts for part in np.split(self._sums.total(), 2))
        next_high, next_low = np.split(self._leaders.second, 2)
        high_sample, low_sample = np.split(self._leaders.names, 2)
        reach, numbers = self._reach.descending()
        beyond = count_beyond(reach, np.tile(self._seen, 2))
        limits = np.where(beyond > 0, np.take_along_axis(reach, beyond[None], axis=0)[0].astype(np.float64), np.inf)
        trimmed_high, trimmed_low = np.split(limits, 2)
        found, lows = [], len(self._seen)
        for index, tensor in enumerate(self._taps.tensors):
            if not self._seen[index]:
                continue
            part, several = self._high.part(index), self._high.per_channel[index]
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
                    high_sample=str(high_sample[index]),
                    low_sample=str(low_sample[index]),
                    next_high=float(next_high[index]),
                    next_low=-float(next_low[index]),
                    trimmed_low=-float(trimmed_low[index]),
                    trimmed_high=float(trimmed_high[index]),
                    farthest_high=self._farthest(reach[:, index], numbers[:, index]),
                    farthest_low=self._farthest(reach[:, index + lows], numbers[:, index + lows], -1.0),
                )
            )
        return found

    def _farthest(
        self, reach: NDArray[np.float32], numbers: NDArray[np.int64], sign: float = 1.0
    ) -> tuple[tuple[str, float], ...]:
        """Return ``(id, extreme)`` of the samples that reach farthest; equal ones are all there or none."""
        far = np.flatnonzero(reach[:FARTHEST] > reach[FARTHEST])
        known = (
            (self._ids[number], value) for number, value in zip(numbers[far].tolist(), reach[far].tolist(), strict=True)
        )
        return tuple((name, sign * value) for name, value in sorted(known, key=lambda one: (-one[1], one[0])))


def count_beyond(reach: NDArray[np.float32], samples: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of samples beyond a gap, ``(size,)``; 0 where there is no gap.

    A gap lies between two neighbours of which one is :data:`GAP` times the other. At most a share :data:`RARE` of the
    samples, or one if there are fewer than 1 / RARE, may lie beyond it.

    Args:
        reach: Largest reaches of samples in descending order, ``(count, size)``, at least 0.
        samples: Number of samples, ``(size,)``.
    """
    beyond = np.arange(1, len(reach))[:, None]
    rare = beyond <= np.maximum(samples * RARE, 1)
    gap = (reach[:-1] / np.float32(GAP) >= reach[1:]) & (reach[1:] > 0) & rare
    return np.where(gap, beyond, 0).max(axis=0, initial=0)


class _Layout:
    """Positions of the values of one kind.

    Attributes:
        size: Number of values over all tensors.
        sizes: Number of values of each tensor, 0 if it has none.
        first: Position of the first value of each tensor.
        owner: Tensor of each value.
        per_channel: Whether a tensor has one value per channel.
    """

    def __init__(self, sizes: NDArray[np.int64], per_channel: list[bool]):
        self.sizes = sizes
        self.per_channel = per_channel
        self.size = int(sizes.sum())
        self.owner = np.repeat(np.arange(len(sizes)), sizes)
        self.first = np.cumsum(sizes) - sizes

    def part(self, tensor: int) -> slice:
        """Return the positions of a tensor's values."""
        return slice(int(self.first[tensor]), int(self.first[tensor] + self.sizes[tensor]))


class _Row:
    """Gathers the values of all kinds, kind after kind, from a flat output."""

    def __init__(self, taps: Taps):
        self._taps = taps
        self._segments: list[NDArray[np.int64]] = []  # the segment of each value
        self._within: list[NDArray[np.int64]] = []  # its position in the segment
        self._zero: list[NDArray[np.bool_]] = []  # whether it is a provable zero, which is not computed
        self._starts: NDArray[np.int64] | None = None
        self._places = self._known = np.zeros(0, np.int64)

    def layout(self, kind: Kind, like: _Layout | None = None) -> _Layout:
        """Append the values of one kind; with ``like``, a tensor without values gets as many zeros as in ``like``."""
        tensors = len(self._taps.tensors)
        sizes, position = np.zeros(tensors, np.int64), np.full(tensors, -1)
        per_channel = [False] * tensors
        for number, segment in enumerate(self._taps.segments):
            if segment.kind == kind:
                sizes[segment.tensor], position[segment.tensor] = segment.size, number
                per_channel[segment.tensor] = segment.per_channel
        layout = like or _Layout(sizes, per_channel)
        self._segments.append(np.maximum(position, 0)[layout.owner])
        self._within.append(np.arange(layout.size) - layout.first[layout.owner])
        self._zero.append(position[layout.owner] < 0)
        return layout

    def read(self, flat: NDArray[np.float32], row: NDArray[np.float32]) -> None:
        """Fill ``row`` from one sample's output."""
        starts = self._taps.starts(flat)
        if self._starts is not starts:  # the same array for every sample, unless shapes are dynamic
            places = starts[np.concatenate(self._segments)] + np.concatenate(self._within)
            self._starts, self._places = starts, np.where(np.concatenate(self._zero), 0, places)
            self._known = np.flatnonzero(np.concatenate(self._zero))
        np.take(flat, self._places, out=row, mode="clip")
        row[self._known] = 0.0


# Values that leave the model for one sample: 16 MiB a stream, for any number of tensors.
PASS_VALUES = 1 << 22
# Values of a tensor to be counted over the dataset: 100 of them lie above the 99.99th percentile. Fewer from more
# samples beat more from fewer: neighbours in one image resemble each other.
ENOUGH = 1 << 20
# No sample contributes more than this, nor less (where the tensor has as many).
MOST, LEAST = 1 << 18, 1 << 12
# From 64 samples a tensor on, not every sample is counted for every tensor: a quarter at least.
SAMPLES, GROUPS = 64, 4
# Of the other samples those that reach farthest are counted apart: ranges might clip just these. On a network of three
# convolutions, one of 40 samples 3.5 times as large was in no histogram: ranges that clipped it gave 16.1 dB on others,
# min-max 27.7 dB.
UNCOUNTED = 4


def counting_groups(samples: int | None) -> int:
    """Return the number of groups that tensors are counted in, one group per sample; 1 if all are counted in each."""
    return 1 if samples is None else max(1, min(GROUPS, samples // SAMPLES))


def counting_group(sample_id: str, occurrence: int, period: int) -> int:
    """Return the group of tensors that a sample is counted for; it follows from the id, so that order does not matter.

    Args:
        sample_id: Id of the sample.
        occurrence: Number of earlier samples with this id (equal ids are equal samples).
        period: Number of groups, see ``counting_groups``.
    """
    text = sample_id if occurrence == 0 else f"{sample_id}\0{occurrence}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") % period


def sampled(needs: Mapping[TensorId, Need], samples: int | None) -> dict[TensorId, int]:
    """Return the approximate number of values of one sample that are counted, for each tensor with a histogram."""
    wanted = [tensor for tensor, need in needs.items() if need.histogram]
    if not wanted:
        return {}
    counted = MOST if samples is None else ENOUGH * counting_groups(samples) // max(samples, 1)
    values = min(max(counted, LEAST), MOST, PASS_VALUES // len(wanted))
    return dict.fromkeys(wanted, max(values, 1))


class Counting:
    """Histograms of tensors, independent of the order in which samples are added.

    Attributes:
        period: Number of groups that the tensors are counted in.
    """

    def __init__(self, period: int):
        self.period = period
        self._counts: dict[TensorId, CodeCounts] = {}
        self._samples: dict[TensorId, int] = {}
        self._others: dict[TensorId, Farthest] = {}
        self._limits = np.zeros(0, np.float32)  # of each tensor, the reach from which on a sample may be kept apart

    def add(self, taps: Taps, flat: NDArray[np.float32], whose: int) -> None:
        """Count a sample's values for the tensors of its group.

        Args:
            taps: Description of what ``flat`` holds, the same for all samples.
            flat: First output of the instrumented model.
            whose: Group of the sample.
        """
        starts = taps.starts(flat)
        others: list[tuple[int, int, int]] = []
        for rank, position in enumerate(taps.values):
            segment, start = taps.segments[position], int(starts[position])
            size = segment.size if segment.size >= 0 else int(flat[start - 1])
            if size and rank % self.period != whose:
                others.append((segment.tensor, start, start + size))
            elif size:
                tensor = taps.tensors[segment.tensor]
                self._counts.setdefault(tensor, CodeCounts()).add(flat[start : start + size])
                self._samples[tensor] = self._samples.get(tensor, 0) + 1
        if others:
            self._keep_farthest(taps, flat, others)

    def _keep_farthest(self, taps: Taps, flat: NDArray[np.float32], parts: list[tuple[int, int, int]]) -> None:
        """Keep the values of a sample, ``(tensor, start, stop)``, where they reach as far as few others do.

        The extremes of all parts are taken at once: few samples of many are among the farthest.
        """
        if not len(self._limits):
            self._limits = np.full(len(taps.tensors), -np.inf, np.float32)
        tensors, places = np.array([part[0] for part in parts]), np.array([part[1:] for part in parts]).reshape(-1)
        edges = places[: -1 if places[-1] == len(flat) else None]  # reduceat takes the last stretch up to the end
        high, low = (kind.reduceat(flat, edges)[::2] for kind in (np.maximum, np.minimum))
        for index in np.flatnonzero(np.maximum(high, -low) > self._limits[tensors]).tolist():
            tensor, start, stop = parts[index]
            farthest = self._others.setdefault(taps.tensors[tensor], Farthest(UNCOUNTED))
            farthest.add(flat[start:stop])
            self._limits[tensor] = farthest.limit

    def absorb(self, other: Counting) -> None:
        """Add the samples of another counting of the same groups."""
        for tensor, counts in other._counts.items():
            self._counts.setdefault(tensor, CodeCounts()).absorb(counts)
            self._samples[tensor] = self._samples.get(tensor, 0) + other._samples[tensor]
        for tensor, others in other._others.items():
            self._others.setdefault(tensor, Farthest(UNCOUNTED)).absorb(others)

    def added_to(self, summary: TensorSummary) -> TensorSummary:
        """Return the summary with a histogram, if its tensor was counted."""
        counts = self._counts.get(summary.tensor)
        if counts is None:
            return summary
        found = replace(summary, histogram=counts.histogram(), histogram_samples=self._samples[summary.tensor])
        others = self._others.get(summary.tensor)
        usual = max(min(summary.high, summary.trimmed_high), -max(summary.low, summary.trimmed_low))
        kept = others.within(usual) if others else []
        if not kept:
            return found
        return replace(found, uncounted=reduce(Histogram.merge, kept), uncounted_samples=len(kept))


class Totals:
    """Everything that is added up over a set of samples.

    Args:
        taps: Description of what the instrumented model gives out.
        period: Number of groups that the tensors are counted in.
    """

    def __init__(self, taps: Taps, period: int):
        self._taps = taps
        self._extremes, self._counting = Extremes(taps), Counting(period)

    @property
    def samples(self) -> int:
        """Number of samples added."""
        return self._extremes.samples

    def add(self, flat: NDArray[np.float32], number: int, whose: int, name: str = "") -> tuple[int, ...]:
        """Add a sample; return the ascending indices of tensors whose values may not be finite.

        Args:
            flat: First output of the instrumented model.
            number: Number of the sample.
            whose: Group of the sample.
            name: Id of the sample.
        """
        self._counting.add(self._taps, flat, whose)
        return self._extremes.add(flat, number, name)

    def absorb(self, other: Totals) -> None:
        """Add the samples of another set, to the same bits as if each had been added."""
        self._extremes.absorb(other._extremes)
        self._counting.absorb(other._counting)

    def outliers(self) -> list[int]:
        """Return the ascending numbers of the samples that are outliers in at least half of the tensors."""
        return self._extremes.outliers()

    def summaries(self) -> dict[TensorId, TensorSummary]:
        """Return the summary of each tensor that held a value in at least one sample."""
        return {one.tensor: self._counting.added_to(one) for one in self._extremes.summaries()}
