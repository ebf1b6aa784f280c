"""Sums, extremes and counts that do not depend on the order in which samples arrive; numpy only."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.values.summary import Histogram

# A float32 is m · 2^(e − 150), |m| < 2^24, 1 <= e <= 254. Exponents are taken in bins of 16, mantissas shifted within
# their bin: |m · 2^15| < 2^39, so an int64 holds 2^24 of them without overflow.
_SHIFT = 4
_BIN = 1 << _SHIFT
_BINS = 256 // _BIN


class ExactSum:
    """Sums of float32 vectors without rounding, so that the order of additions does not matter.

    This is a fixed-point accumulator in pieces (Kulisch; Neal, "Fast exact summation using small and large
    superaccumulators", 2015): each value goes, as an integer, to the piece of its exponent. It holds 2^24 vectors.
    """

    def __init__(self, size: int):
        self._pieces = np.zeros((_BINS, size), np.int64)

    def add(self, rows: NDArray[np.float32], where: NDArray[np.bool_] | None = None) -> None:
        """Add finite vectors ``(number, size)``; values not in ``where`` count as 0 and need not be finite."""
        if where is not None:
            rows = np.where(where, rows, np.float32(0))
        # int32 views throughout: several times faster than frexp and ldexp
        bits = np.ascontiguousarray(rows, np.float32).view(np.int32)
        exponent = (bits >> 23) & 0xFF
        integer = (bits & 0x7FFFFF).astype(np.int64)
        integer[exponent > 0] |= 0x800000  # subnormals have no hidden bit, and the exponent of 1
        np.maximum(exponent, 1, out=exponent)
        integer <<= exponent & (_BIN - 1)
        np.negative(integer, out=integer, where=bits < 0)
        pieces = exponent >> _SHIFT
        for piece in np.flatnonzero(np.bincount(pieces.reshape(-1))):  # two or three of them, mostly
            self._pieces[piece] += np.where(pieces == piece, integer, 0).sum(axis=0)

    def absorb(self, other: ExactSum) -> None:
        """Add the sums of other vectors."""
        self._pieces += other._pieces

    def total(self) -> NDArray[np.float64]:
        """Return the sums as float64, exact to 2^-52 relative if the terms do not cancel."""
        result = np.zeros(self._pieces.shape[1], np.float64)
        for number, piece in enumerate(self._pieces):  # small ones first, always in this order
            result += np.ldexp(piece.astype(np.float64), number * _BIN - 150)
        return result


class Leaders:
    """The largest value of each column, the second largest, and the one sample that holds the largest.

    The samples may be added in any order: where two of them share the largest value, no one sample holds it.

    Attributes:
        first: Largest values, ``(size,)``; -inf where there was none.
        second: Second largest values, of other samples, ``(size,)``.
        names: Name of the sample with the largest value, ``(size,)``; "" where several share it.
    """

    def __init__(self, size: int):
        self.first = np.full(size, -np.inf, np.float32)
        self.second = np.full(size, -np.inf, np.float32)
        self.names: NDArray[Any] = np.full(size, "", object)

    def add(self, rows: NDArray[np.float32], names: Sequence[str]) -> None:
        """Add the values of samples, ``(samples, size)``, with the name of each; -inf for no value."""
        self._keep(rows, np.broadcast_to(np.array(names, object)[:, None], rows.shape))

    def absorb(self, other: Leaders) -> None:
        """Add the values of other samples."""
        self._keep(np.stack([other.first, other.second]), np.stack([other.names, np.full_like(other.names, "")]))

    def _keep(self, values: NDArray[np.float32], names: NDArray[Any]) -> None:
        values = np.concatenate([[self.second, self.first], values])
        holders = np.concatenate([[np.full_like(self.names, ""), self.names], names])
        holder = np.take_along_axis(holders, values.argmax(axis=0)[None], axis=0)[0]
        self.second, self.first = np.partition(values, -2, axis=0)[-2:]
        self.names = np.where(self.second < self.first, holder, "")


class Largest:
    """The largest values of each column over all rows and the rows that hold them, whatever the order of the rows.

    Of equal values any may be taken for the last one.
    """

    def __init__(self, size: int, count: int):
        self._values = np.zeros((count, size), np.float32)
        self._rows = np.full((count, size), -1)

    def add(self, values: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
        """Add rows of values that are at least 0, ``(number, size)``, with the number of each, ``(number,)``."""
        self._keep(values, np.broadcast_to(rows[:, None], values.shape))

    def absorb(self, other: Largest) -> None:
        """Add the values of other rows."""
        self._keep(other._values, other._rows)

    def descending(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return values and rows, ``(count, size)``, the largest first; 0 and -1 where there were fewer rows."""
        order = np.argsort(-self._values, axis=0, kind="stable")
        return np.take_along_axis(self._values, order, axis=0), np.take_along_axis(self._rows, order, axis=0)

    def _keep(self, values: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
        values, rows = np.concatenate([self._values, values]), np.concatenate([self._rows, rows])
        kept = np.argpartition(values, -len(self._values), axis=0)[-len(self._values) :]
        self._values, self._rows = np.take_along_axis(values, kept, axis=0), np.take_along_axis(rows, kept, axis=0)


class CodeCounts:
    """Counts of the top-16-bit codes of float32 values, for the codes in use.

    Counts for all codes would take 512 KiB per tensor. Most data is zero or within a few dozen powers of two, so each
    sign keeps a window of codes, with zero apart. Counting takes time in proportion to the number of codes, however few
    the values, so values are gathered first.
    """

    def __init__(self) -> None:
        self._signs = (_Window(), _Window())
        self._waiting: list[NDArray[np.uint16]] = []
        self._values = 0

    def add(self, values: NDArray[np.float32]) -> None:
        """Count the finite values of a contiguous vector."""
        self._waiting.append(values.view(np.uint16)[_UPPER::2].copy())
        self._values += len(values)
        if self._values >= _GATHERED:
            self._flush()

    def absorb(self, other: CodeCounts) -> None:
        """Add the counts of other values."""
        self._flush()
        other._flush()
        for mine, others in zip(self._signs, other._signs, strict=True):
            mine.absorb(others)

    def histogram(self) -> Histogram:
        """Return the counts as a sparse histogram."""
        self._flush()
        found = [window.sparse(sign * _NEGATIVE) for sign, window in enumerate(self._signs)]
        codes, counts = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return Histogram(codes.astype(np.uint16), counts)

    def _flush(self) -> None:
        """Count the gathered values."""
        if self._values:
            counts = np.bincount(np.concatenate(self._waiting))
            self._signs[0].add(counts[:_NEGATIVE])
            self._signs[1].add(counts[_NEGATIVE:])
        self._waiting, self._values = [], 0


_NEGATIVE = 0x8000  # the first code with the sign bit
_GATHERED = 1 << 16  # values of a tensor: 128 KiB, as many as there are codes
_UPPER = 1 if sys.byteorder == "little" else 0  # which half of a float32 holds its top bits


class _Window:
    """Counts of the codes of one sign: zero, and ``low`` to ``low + len(counts)``."""

    def __init__(self) -> None:
        self.zero = 0
        self.low = 1
        self.counts = np.zeros(0, np.int64)

    def add(self, counts: NDArray[np.int64]) -> None:
        """Add dense counts that start at code 0."""
        if len(counts) == 0:
            return
        self.zero += int(counts[0])
        known = self.low if len(self.counts) else len(counts)
        below = counts[1:known] != 0
        low = 1 + int(below.argmax()) if below.any() else known
        if low < len(counts):
            self._fit(low, len(counts))
            self.counts[low - self.low : len(counts) - self.low] += counts[low:]

    def absorb(self, other: _Window) -> None:
        """Add the counts of another window."""
        self.zero += other.zero
        if len(other.counts):
            self._fit(other.low, other.low + len(other.counts))
            start = other.low - self.low
            self.counts[start : start + len(other.counts)] += other.counts

    def sparse(self, first: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the codes and counts that are not zero; ``first`` is the code of zero for this sign."""
        counts = np.concatenate([[self.zero], self.counts])
        codes = np.concatenate([[0], np.arange(self.low, self.low + len(self.counts))])
        used = counts > 0
        return codes[used] + first, counts[used]

    def _fit(self, low: int, stop: int) -> None:
        """Widen the window to hold the codes from ``low`` up to, not including, ``stop``."""
        if len(self.counts):
            low, stop = min(low, self.low), max(stop, self.low + len(self.counts))
        if stop - low > len(self.counts):
            grown = np.zeros(stop - low, np.int64)
            grown[self.low - low : self.low - low + len(self.counts)] = self.counts
            self.low, self.counts = low, grown


_FEW = 1 << 13  # values that take no more memory than their histogram may


class Farthest:
    """Histograms of the few samples that reach farthest in one tensor, independent of the order of the samples.

    Samples that reach equally far are all kept or none: of a bounded tensor, where most reach its bound, none are.

    Args:
        count: Most samples to keep.
    """

    def __init__(self, count: int):
        self._count = count
        self._reaches: list[float] = []  # descending, one more than samples are kept
        self._kept: list[tuple[float, NDArray[np.float32] | Histogram]] = []

    def add(self, values: NDArray[np.float32]) -> None:
        """Add a sample's values, at least one and all finite or none kept."""
        reach = float(max(values.max(), -values.min()))
        if self._among(reach):
            # the most are dropped again, and counting takes longer than keeping a few values
            self._kept.append((reach, values.copy() if len(values) <= _FEW else Histogram.of(values)))
            self._insert(reach)

    def absorb(self, other: Farthest) -> None:
        """Add the samples of another one."""
        self._kept += other._kept
        for reach in other._reaches:
            self._insert(reach)

    @property
    def limit(self) -> float:
        """Reach that a sample has to exceed to be kept; -inf while there are too few."""
        return self._reaches[-1] if len(self._reaches) > self._count else -np.inf

    def within(self, limit: float) -> list[Histogram]:
        """Return the histograms of the samples kept that reach no farther than a limit."""
        found = (one for reach, one in self._kept if reach <= limit)
        return [one if isinstance(one, Histogram) else Histogram.of(one) for one in found]

    def _among(self, reach: float) -> bool:
        return np.isfinite(reach) and reach > self.limit

    def _insert(self, reach: float) -> None:
        self._reaches = sorted([*self._reaches, reach], reverse=True)[: self._count + 1]
        if len(self._reaches) > self._count:
            self._kept = [one for one in self._kept if one[0] > self._reaches[-1]]
