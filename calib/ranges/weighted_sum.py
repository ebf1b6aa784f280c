"""Range of the weights that attention multiplies its values with, by the error of the sums.

Behind a Softmax most numbers are far below the largest one. Their rounding errors have one sign (below half a step all
become 0), so that they add up in the sums instead of averaging out, which the error of the weights themselves does not
show. Attention of 512 tokens: the range that the estimator ``auto`` chose, [0, .42], gave sums of 25 dB, and [0, .21]
33 dB.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from calib.ranges.affine import level_grid
from calib.values.plan import Range, Scheme
from calib.values.sqnr import decibel

NAME = "weighted sum"
"""What a range chosen here has in place of an estimator: ``assign`` keeps it."""

# Shares of the largest weight, by halves of an octave. A smaller range has to gain this much, so that rounding in
# another order of the sums can't decide.
_SHARES = 2.0 ** (-np.arange(9) / 2)
_GAIN_DB = 0.01

Pair = tuple[NDArray[np.floating], NDArray[np.floating]]


def weighted_sum_range(samples: Sequence[Pair], levels: int = 256) -> tuple[Range, float]:
    """Return the range ``[0, high]`` of the weights with the least squared error of the sums, and their SQNR in dB.

    Args:
        samples: Weights, ``(…, rows, keys)`` and never negative, and values, ``(…, keys, size)``, of a few samples.
            The values are rounded to symmetric levels over all that they reach.
        levels: Number of levels of the weights and of the values.
    """
    pairs = [(weights.astype(np.float64), values.astype(np.float64)) for weights, values in samples]
    sums = [weights @ values for weights, values in pairs]
    power = sum(float((each**2).sum()) for each in sums)
    reach = max((float(np.abs(values).max(initial=0.0)) for _, values in pairs), default=0.0)
    rounded = [_rounded(values, -reach, reach, Scheme.SYMMETRIC, levels) for _, values in pairs]
    largest = max((float(weights.max(initial=0.0)) for weights, _ in pairs), default=0.0)
    best, best_db = largest, -np.inf
    for high in (largest * _SHARES).tolist():
        noise = 0.0
        for (weights, _), values, exact in zip(pairs, rounded, sums, strict=True):
            noise += float(((_rounded(weights, 0.0, high, Scheme.UNSIGNED, levels) @ values - exact) ** 2).sum())
        found = decibel(power, noise)
        if found > best_db + _GAIN_DB:
            best, best_db = high, found
    reason = f"least error of the sums over keys, {best_db:.1f} dB, of ranges from {largest * _SHARES[-1]:.3g} up"
    return Range(0.0, best, NAME, reason), best_db


def _rounded(values: NDArray[np.float64], low: float, high: float, scheme: Scheme, levels: int) -> NDArray[np.float64]:
    """Return values on the levels of a range."""
    scale, below = level_grid(low, high, scheme, levels)
    return np.clip(np.rint(values / scale), -below, levels - 1 - below) * scale
