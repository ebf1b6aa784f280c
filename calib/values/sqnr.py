"""Squared errors and decibels, by one convention: infinite where nothing was lost."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def decibel(signal: float, noise: float) -> float:
    """Return ``10 log10(signal / noise)``, the signal-to-quantization-noise ratio of two energies.

    Without noise it is inf, even on silence; for noise on silence, or noise without bound, -inf; where the signal is
    not finite or the noise NaN there is nothing to say: NaN.
    """
    if not math.isfinite(signal) or math.isnan(noise):
        return math.nan
    if noise <= 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 and noise < math.inf else -math.inf


def squared_error(y: NDArray[Any], y_q: NDArray[Any]) -> tuple[float, float]:
    """Return ``(sum y², sum (y_q - y)²)`` in float64: the two energies of :func:`decibel`.

    Where ``y`` is not finite nothing is compared. An output whose shape depends on the data and came out differently
    is all wrong: its error is its energy.

    Args:
        y: any shape, in floating point.
        y_q: the same with quantization.
    """
    finite = np.isfinite(y)
    y64 = np.where(finite, y, 0).astype(np.float64)
    signal = float((y64**2).sum())
    return signal, float(((y64 - np.where(finite, y_q, 0)) ** 2).sum()) if y.shape == y_q.shape else signal
