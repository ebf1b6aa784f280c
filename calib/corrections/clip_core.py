"""How much of each weight channel's largest magnitude to keep, by the layer's output error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calib.corrections.rounding_core import layer_error, nearest
from calib.ranges.affine import SCALE_FLOOR, dequantized

# 8-bit weights rarely gain from more; 1.0, no clipping, must come first: ties go to it
GRID = (1.0, 0.97, 0.94, 0.91, 0.88, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5)
_SHORTLIST = 3
_CACHED = 1 << 16  # weights at a time: three arrays of 256 KiB


def choose_clip(weights: NDArray[np.floating], hessian: NDArray[np.float64], levels: int = 255) -> NDArray[np.float64]:
    """Choose the share of the largest magnitude, per output channel, with the smallest output error.

    A smaller scale rounds all weights more finely and clips the largest; the best is, in the notation of
    :mod:`calib.corrections.rounding_core`, ``argmin over c of Δ(c) H Δ(c)ᵀ`` with ``Δ(c) = w - quantized at scale c ·
    max|w| / half``. Source: Choukroun et al., "Low-bit Quantization of Neural Networks for Efficient Inference", 2019,
    eq. 5, which minimizes the squared error of the weights; here it is the output's. Output channels don't depend on
    each other. With the whole of H the grid is first thinned, for each output channel, to the three shares that are
    best under its diagonal, and 1.0: a product with H costs more than all else.

    Args:
        weights: ``(…, outputs, inputs)``.
        hessian: ``(…, inputs, inputs)``, or its diagonal ``(…, inputs)``, which costs a factor of inputs less.
        levels: odd: 255 for [-127, 127].

    Returns:
        ``(…, outputs)``; flattened, a :class:`calib.values.plan.WeightQuantizer`'s ``clip``.
    """
    diagonal = np.einsum("...kk->...k", hessian) if hessian.ndim == weights.ndim else hessian
    largest = np.abs(weights).max(axis=-1).astype(np.float64)
    shares = np.array(GRID)
    tried = [np.full_like(largest, share) for share in shares]
    errors = _diagonal_errors(weights, largest, shares, diagonal, levels)
    if diagonal is not hessian:
        short = np.argsort(errors, axis=0, kind="stable")[:_SHORTLIST]
        tried = [np.ones_like(largest), *shares[short]]
        errors = np.stack([_clip_error(weights, largest, share, hessian, levels) for share in tried])
    best = np.argmin(errors, axis=0)
    return np.take_along_axis(np.stack(tried), best[None], axis=0)[0]


def _clip_error(weights, largest, share, hessian, levels: int) -> NDArray[np.floating]:
    scale = np.maximum(largest * share / ((levels - 1) // 2), SCALE_FLOOR)
    return layer_error(weights - dequantized(nearest(weights, scale, levels), scale[..., None]), hessian)


def _diagonal_errors(weights, largest, shares, diagonal, levels: int) -> NDArray[np.float64]:
    """Return what ``layer_error`` would for each share, ``(shares, …, outputs)``.

    In single precision: it only has to tell shares apart. And a few outputs at a time, which stay in the cache.
    """
    half = (levels - 1) // 2
    scale = np.maximum(largest / half, SCALE_FLOOR)
    errors = np.empty((len(shares), *largest.shape))
    power = diagonal.astype(np.float32)[..., None]
    step = max(1, _CACHED * largest.shape[-1] // max(weights.size, 1))
    for start in range(0, largest.shape[-1], step):
        part = np.s_[..., start : start + step]
        whole = np.asarray(weights[(*part, slice(None))] / scale[part][..., None], np.float32)
        exact, off = np.empty_like(whole), np.empty_like(whole)
        for number, share in enumerate(shares):
            np.multiply(whole, np.float32(1 / share), out=exact)
            np.rint(exact, out=off)
            np.clip(off, -half, half, out=off)
            off -= exact
            off *= off
            errors[number][part] = (off @ power)[..., 0] * (scale[part] * share) ** 2
    return errors
