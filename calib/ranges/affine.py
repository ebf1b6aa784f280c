"""Convert ranges to levels and back: affine quantization as in OpenVINO's FakeQuantize.

A quantizer has ``levels`` equidistant numbers ``scale * k`` for ``k = -below … levels - 1 - below``; zero is always one
of them (k = 0), so padding, ReLU's zeros and pruned weights stay exact.

Activations: the scale is rounded up to 16 significant bits. With at most 256 levels every limit ``scale * k`` and the
width ``scale * (levels - 1)`` are then exact in float32, so that the zero point is an integer in whatever order a
plug-in computes it, and zero stays exactly zero. This costs at most 2^-15 of the range.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calib.errors import UsageError
from calib.values.plan import Range, Scheme

# The smallest scale of a quantizer, 9.1e-13: an all-zero tensor or a dead channel gets it. The product of an
# activation's and a weight's scale stays a normal float32 (2^-80), and so does a bias divided by it.
SCALE_FLOOR = 2.0**-40

_SIGNIFICANT_BITS = 16
_Float = TypeVar("_Float", bound="np.floating[Any]")


def widen_to_zero(low: float, high: float) -> tuple[float, float]:
    """Return the smallest range that holds ``[low, high]`` and zero."""
    return min(float(low), 0.0), max(float(high), 0.0)


def level_grid(
    low: ArrayLike, high: ArrayLike, scheme: Scheme, levels: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ``(scale, below)``: the levels are ``scale * k`` for k from ``-below`` to ``levels - 1 - below``.

    UNSIGNED: below = 0. SYMMETRIC: below = levels // 2, which is 128 of 256 levels and 127 of 255. ASYMMETRIC:
    below = round(-low / scale): the range moves by at most half a level, which clips nothing by more than rounding
    would.

    Args:
        low: Lower ends of ranges, any shape; widened to hold zero.
        high: Upper ends of ranges, same shape.
        scheme: Position of the levels relative to zero.
        levels: Number of levels, 2 to 256.
    """
    low = np.minimum(np.asarray(low, np.float64), 0.0)
    high = np.maximum(np.asarray(high, np.float64), 0.0)
    if not 2 <= levels <= 256:
        raise UsageError(f"a quantizer has 2 to 256 levels, got {levels}; INT8 has 256, or 255 when symmetric")
    if scheme is Scheme.UNSIGNED:
        below = np.zeros_like(high)
        scale = high / (levels - 1)
    elif scheme is Scheme.SYMMETRIC:
        below = np.full_like(high, levels // 2)
        above = levels - 1 - levels // 2
        scale = np.maximum(-low / (levels // 2), high / max(above, 1))
    else:
        scale = (high - low) / (levels - 1)
        below = np.rint(-low / np.maximum(scale, SCALE_FLOOR))
    mantissa, exponent = np.frexp(np.maximum(scale, SCALE_FLOOR))
    one = 2.0**_SIGNIFICANT_BITS
    return np.ldexp(np.ceil(mantissa * one) / one, exponent), below


def fake_quantize_limits(low: float, high: float, scheme: Scheme, levels: int) -> tuple[np.float32, np.float32]:
    """Return ``(input_low, input_high)`` of a FakeQuantize, exact in float32, with zero exactly on a level."""
    scale, below = level_grid(low, high, scheme, levels)
    return np.float32(0.0 - below * scale), np.float32((levels - 1 - below) * scale)


def channel_limits(ranges: ArrayLike, scheme: Scheme, levels: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return :func:`fake_quantize_limits` of ``(channels, 2)`` ranges as two arrays ``(channels,)``."""
    pairs = np.asarray(ranges, np.float64)
    scale, below = level_grid(pairs[:, 0], pairs[:, 1], scheme, levels)
    return (0.0 - below * scale).astype(np.float32), ((levels - 1 - below) * scale).astype(np.float32)


def range_limits(chosen: Range, scheme: Scheme, levels: int) -> tuple[np.float32, np.float32]:
    """Return :func:`fake_quantize_limits` of a range."""
    return fake_quantize_limits(chosen.low, chosen.high, scheme, levels)


def weight_scale(
    weights: NDArray[np.floating], scale_shape: Sequence[int], levels: int = 255, clip: Sequence[float] = ()
) -> NDArray[np.float32]:
    """Return the symmetric scales of weights, where the largest magnitude that shares a scale is the last level.

    Args:
        weights: Weights of any shape.
        scale_shape: Shape of the scales, of the same rank, with 1 on axes that share a scale, such as
            ``(channels, 1, 1, 1)``.
        levels: Odd number of levels: 255 for [-127, 127], 127 for [-63, 63].
        clip: Share of each largest magnitude that is kept, flat in the order of the scales; empty to keep all of it.

    Raises:
        UsageError: ``scale_shape`` doesn't fit the weights, or ``clip`` doesn't fit the scales.
    """
    shape = tuple(scale_shape)
    if len(shape) != weights.ndim or any(s not in (1, w) for s, w in zip(shape, weights.shape, strict=False)):
        raise UsageError(f"the scale's shape must be 1 or the weights' size on each axis: {shape} for {weights.shape}")
    axes = tuple(axis for axis, size in enumerate(shape) if size == 1)
    largest = np.abs(weights).max(axis=axes, keepdims=True, initial=0.0).astype(np.float64)
    if len(clip):
        if len(clip) != largest.size:
            raise UsageError(f"clip has {len(clip)} values for {largest.size} scales of shape {shape}")
        largest = largest * np.asarray(clip, np.float64).reshape(shape)
    return np.maximum(largest / ((levels - 1) // 2), SCALE_FLOOR).astype(np.float32)


def quantize_weights(
    weights: NDArray[np.floating], scale_shape: Sequence[int], levels: int = 255, clip: Sequence[float] = ()
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round weights to the nearest level: ``(q, scale)`` with ``weights ≈ q * scale``; see ``weight_scale``."""
    scale = weight_scale(weights, scale_shape, levels, clip)
    return round_to_levels(weights, scale, levels), scale


def round_to_levels(weights: NDArray[np.floating], scale: NDArray[np.float32], levels: int = 255) -> NDArray[np.int8]:
    """Return ``clip(round(weights / scale), -half, half)`` as int8, half = (levels - 1) // 2."""
    half = (levels - 1) // 2
    return np.clip(np.rint(weights / scale), -half, half).astype(np.int8)


def dequantized(q: NDArray[np.generic], scale: NDArray[_Float]) -> NDArray[_Float]:
    """Return ``q * scale`` in the scale's precision; in float32 these are the values that OpenVINO multiplies with.

    Args:
        q: Integers, as int8 or as whole numbers in floating point.
        scale: Scales, broadcast against q.
    """
    return np.multiply(q, scale, dtype=scale.dtype)
