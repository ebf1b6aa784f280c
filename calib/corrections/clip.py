"""How much of each weight channel's largest magnitude to keep, by the layer's output error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from calib.corrections.rounding import layer_error, nearest
from calib.ranges.affine import SCALE_FLOOR

# 8-bit weights rarely gain from more; 1.0, no clipping, must come first: ties go to it
GRID = (1.0, 0.97, 0.94, 0.91, 0.88, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5)


def choose_clip(
    weights: NDArray[np.floating], hessian: NDArray[np.float64], levels: int = 255, grid: Sequence[float] = GRID
) -> NDArray[np.float64]:
    """Choose the share of the largest magnitude, per output channel, with the smallest output error.

    A smaller scale rounds all weights more finely and clips the largest; the best is, in the notation of
    :mod:`calib.corrections.rounding`, ``argmin over c of Δ(c) H Δ(c)ᵀ`` with ``Δ(c) = w - quantized at scale c ·
    max|w| / half``. Source: Choukroun et al., "Low-bit Quantization of Neural Networks for Efficient Inference", 2019,
    eq. 5, which minimizes the squared error of the weights; here it is the output's. Output channels don't depend on
    each other, so the choice is exact on the grid.

    Args:
        weights: ``(…, outputs, inputs)``.
        hessian: ``(…, inputs, inputs)``, or its diagonal ``(…, inputs)``, which costs a factor of inputs less.
        levels: odd: 255 for [-127, 127].
        grid: shares to try; 1.0 is always tried.

    Returns:
        ``(…, outputs)``; flattened, a :class:`calib.plan.WeightQuantizer`'s ``clip``.
    """
    half = (levels - 1) // 2
    largest = np.abs(weights).max(axis=-1).astype(np.float64)
    chosen = np.ones_like(largest)
    best = np.full_like(largest, np.inf)
    for share in dict.fromkeys((1.0, *grid)):
        scale = np.maximum(largest * share / half, SCALE_FLOOR)
        error = layer_error(weights - nearest(weights, scale, levels) * scale[..., None], hessian)
        better = error < best
        chosen[better], best[better] = share, error[better]
    return chosen
