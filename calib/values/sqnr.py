"""Squared errors and decibels by one convention: the SQNR is infinite if there is no error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def decibel(signal: float, noise: float) -> float:
    """Return ``10 log10(signal / noise)``, the signal-to-quantization-noise ratio of two energies.

    It is inf without noise, even if the signal is zero; -inf for noise without signal or for infinite noise; NaN if the
    signal is not finite or the noise is NaN.
    """
    if not math.isfinite(signal) or math.isnan(noise):
        return math.nan
    if noise <= 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 and noise < math.inf else -math.inf


# Share of the mean norm over the samples below which an output is nearly empty, such as the scores of an image without
# objects: relative to itself, its error would outweigh those of all other samples.
NEARLY_EMPTY = 0.1


def usual_norms(norms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return norms to take errors relative to: the mean over the samples where an output is nearly empty.

    Args:
        norms: Norms of outputs, ``(samples, …)``.
    """
    usual = norms.mean(axis=0)
    return np.where(norms < NEARLY_EMPTY * usual, usual, norms)


def squared_error(y: NDArray[Any], y_q: NDArray[Any]) -> tuple[float, float]:
    """Return ``(sum y², sum (y_q - y)²)`` in float64: the two energies of :func:`decibel`.

    Elements where ``y`` is not finite are left out. An output whose shape depends on the data and differs counts as
    entirely wrong: its error is its energy.

    Args:
        y: Output in floating point, of any shape.
        y_q: The same output with quantization.
    """
    finite = np.isfinite(y)
    y64 = np.where(finite, y, 0).astype(np.float64)
    signal = float((y64**2).sum())
    return signal, float(((y64 - np.where(finite, y_q, 0)) ** 2).sum()) if y.shape == y_q.shape else signal
