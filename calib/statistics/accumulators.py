"""Sums, extremes and counts that do not depend on the order in which samples arrive; numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# A float32 is m · 2^(e − 24) with |m| < 2^24 and −148 <= e <= 128. Exponents are taken in bins of 16, mantissas
# shifted within their bin: |m · 2^15| < 2^39, so an int64 holds 2^24 of them without overflow.
_LOWEST = -160
_BIN = 16
_BINS = (128 - _LOWEST) // _BIN + 1


class ExactSum:
    """Sums of float32 vectors without any rounding, so that no order of additions can matter.

    A fixed-point accumulator in pieces (Kulisch; Neal, "Fast exact summation using small and large
    superaccumulators", 2015): each value goes, as an integer, to the piece of its exponent.

    Attributes:
        count: how many vectors were added; at most 2^24.
    """

    def __init__(self, size: int):
        self.count = 0
        self._pieces = np.zeros((size, _BINS), np.int64)
        self._rows = np.arange(size)

    def add(self, values: NDArray[np.float32], where: NDArray[np.bool_] | None = None) -> None:
        """Add a vector of ``size`` finite values; with ``where``, the others count 0 and need not be finite."""
        if where is not None:
            values = np.where(where, values, np.float32(0))
        mantissa, exponent = np.frexp(values)
        piece, shift = np.divmod(exponent - _LOWEST, _BIN)
        integer = np.ldexp(mantissa.astype(np.float64), 24 + shift).astype(np.int64)
        self._pieces[self._rows, piece] += integer
        self.count += 1

    def merge(self, other: ExactSum) -> None:
        """Add the sums of another accumulator."""
        self._pieces += other._pieces
        self.count += other.count

    def total(self) -> NDArray[np.float64]:
        """Return the sums as float64; within 2^-52 relative of exact where the terms do not cancel."""
        weights = np.ldexp(1.0, _LOWEST + _BIN * np.arange(_BINS) - 24)
        result = np.zeros(len(self._pieces), np.float64)
        for piece, weight in zip(self._pieces.T, weights, strict=True):  # small ones first, always in this order
            result += piece * weight
        return result
