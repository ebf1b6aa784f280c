"""Round weights to keep the layer's output rather than each weight: GPTQ/OBQ in closed form.

The output error of a linear layer y = W x under a change Δ of its weights is a quadratic form of the input's second
moments H = E[x xᵀ], for each output channel on its own::

    E‖Δ x‖² = Δ H Δᵀ

The weights not yet rounded can compensate for the error of those that are. Sources: Frantar & Alistarh,
"Optimal Brain Compression", 2022, eq. 3; Frantar et al., "GPTQ", 2022, algorithm 1.

All functions take an optional leading axis of groups: a dense layer is one group of (outputs, inputs), a
grouped convolution is (groups, outputs, inputs), and a depthwise one (channels, 1, kernel). A convolution's inputs are
its unfolded patches, see :mod:`calib.corrections.rows`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calib.ranges.affine import SCALE_FLOOR, dequantized

DAMPING = 0.01  # share of the mean of diag(H) that is added to it, as in the GPTQ paper, §3.3
_BLOCK = 64  # inputs between two matrix products; the GPTQ paper's 128 (§3.3) is for a GPU
# Shares of the largest magnitude that are tried: 8-bit weights rarely gain from more clipping. 1.0, none, must come
# first: ties go to it.
GRID = (1.0, 0.97, 0.94, 0.91, 0.88, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5)
_SHORTLIST = 3
_CACHED = 1 << 16  # weights at a time: three arrays of 256 KiB
# What wheels of numpy call OpenBLAS's threads: with scipy's prefix or not, for 64-bit and 32-bit indices.
_NAMES = [f"{prefix}openblas_{{}}_num_threads{suffix}" for prefix in ("scipy_", "") for suffix in ("64_", "")]


def layer_error(delta: NDArray[np.floating], hessian: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return ``Δ H Δᵀ`` for each output channel, its mean squared output error, without inference.

    Args:
        delta: Change of the weights, ``(…, outputs, inputs)``.
        hessian: Second moments of the input, ``(…, inputs, inputs)``, or their diagonal, ``(…, inputs)``. Their
            precision, single or double, is that of the result.

    Returns:
        ``(…, outputs)``, not below 0.
    """
    delta = np.asarray(delta, hessian.dtype)
    through = delta @ hessian if hessian.ndim == delta.ndim else delta * hessian[..., None, :]
    return np.maximum(np.einsum("...ok,...ok->...o", through, delta), 0.0)


def nearest(weights: NDArray[np.floating], scale: NDArray[np.floating], levels: int) -> NDArray[np.int8]:
    """Round each weight to the nearest level, which is the baseline.

    Args:
        weights: Weights, ``(…, outputs, inputs)``.
        scale: Scale of each output channel, ``(…, outputs)``.
        levels: Odd number of levels: 255 for [-127, 127].
    """
    half = (levels - 1) // 2
    return np.clip(np.rint(weights / scale[..., None]), -half, half).astype(np.int8)


def choose_clip(weights: NDArray[np.floating], hessian: NDArray[np.float64], levels: int = 255) -> NDArray[np.float64]:
    """Choose the share of the largest magnitude, per output channel, with the smallest output error.

    A smaller scale rounds all weights more finely and clips the largest; the best share is, with H as above, ``argmin
    over c of Δ(c) H Δ(c)ᵀ`` with ``Δ(c) = w - quantized at scale c · max|w| / half``. Source: Choukroun et al.,
    "Low-bit Quantization of Neural Networks for Efficient Inference", 2019, eq. 5, which minimizes the squared error of
    the weights; here it is that of the output. Output channels are independent. With the whole of H the grid is first
    thinned, for each output channel, to the three shares that are best under its diagonal, and 1.0: a product with H
    costs more than all else.

    Args:
        weights: Weights, ``(…, outputs, inputs)``.
        hessian: Second moments, ``(…, inputs, inputs)``, or their diagonal, ``(…, inputs)``, which costs a factor of
            inputs less.
        levels: Odd number of levels: 255 for [-127, 127].

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


def _clip_error(
    weights: NDArray[np.floating],
    largest: NDArray[np.float64],
    share: NDArray[np.float64],
    hessian: NDArray[np.float64],
    levels: int,
) -> NDArray[np.floating]:
    scale = np.maximum(largest * share / ((levels - 1) // 2), SCALE_FLOOR)
    return layer_error(weights - dequantized(nearest(weights, scale, levels), scale[..., None]), hessian)


def _diagonal_errors(
    weights: NDArray[np.floating],
    largest: NDArray[np.float64],
    shares: NDArray[np.float64],
    diagonal: NDArray[np.float64],
    levels: int,
) -> NDArray[np.float64]:
    """Return ``layer_error`` for each share, ``(shares, …, outputs)``.

    Single precision is enough to tell shares apart. A few outputs are computed at a time, to stay in the cache.
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


def round_weights(
    weights: NDArray[np.floating],
    scale: NDArray[np.floating],
    hessian: NDArray[np.float64],
    levels: int = 255,
) -> NDArray[np.int8]:
    """Round weights one input after the other, each compensating for the errors of those before it.

    GPTQ works with the Cholesky factor U of H⁻¹ = Uᵀ U. Its inverse R = U⁻¹ is upper triangular with H = R Rᵀ, and
    needs no inverse of H; the error is then a sum of squares, ``Δ H Δᵀ = ‖Δ R‖²``, whose k-th term depends on the
    first k inputs only::

        q_k = round((w_k + (sum over j < k of Δ_j R_jk) / R_kk) / scale),     Δ = w - scale · q

    which gives the same numbers as GPTQ. Inputs are taken by falling diag(H). H is damped, by :data:`DAMPING` times its
    mean diagonal. An output channel whose error under the undamped H is not lower than with rounding to nearest keeps
    the latter, so no channel gets worse on the samples that H came from. Deterministic.

    Memory: two copies of H and two of the weights, in float64.

    Args:
        weights: Weights, ``(outputs, inputs)`` or ``(groups, outputs, inputs)``.
        scale: Scale of each output channel, ``(outputs,)`` or ``(groups, outputs)``.
        hessian: Symmetric second moments, ``(inputs, inputs)`` or ``(groups, inputs, inputs)``.
        levels: Odd number of levels: 255 for [-127, 127], 127 for [-63, 63].

    Returns:
        int8 values in the shape of the weights.
    """
    if weights.ndim == 2:
        return round_weights(weights[None], scale[None], hessian[None], levels)[0]
    plain = nearest(weights, scale, levels)
    diagonal = np.einsum("gkk->gk", hessian)
    live = diagonal.mean(axis=1) > 0
    if not live.any():
        return plain
    order = np.argsort(-diagonal[live], axis=1, kind="stable")
    factor = _factor(hessian[live] if len(live) > 1 else hessian, order)
    # (groups, inputs, outputs): one input's weights lie side by side
    by_input = np.asarray(weights[live], np.float64).transpose(0, 2, 1)
    ordered = np.take_along_axis(by_input, order[:, :, None], axis=1)
    rounded = np.empty(ordered.shape, np.int8)
    in_order = _round_ordered(ordered, np.asarray(scale[live], np.float64), factor, levels)
    np.put_along_axis(rounded, order[:, :, None], in_order, axis=1)
    result = plain.copy()
    result[live] = rounded.transpose(0, 2, 1)
    return keep_better(weights, scale, plain, result, hessian)


def keep_better(
    weights: NDArray[np.floating],
    scale: NDArray[np.floating],
    first: NDArray[np.int8],
    second: NDArray[np.int8],
    hessian: NDArray[np.float64],
) -> NDArray[np.int8]:
    """Take, for each output channel, the rounding with the lower output error; ties go to the first.

    With the second moments of held-out samples this is the acceptance test of a rounding, without inference.
    """
    s = np.asarray(scale, np.float64)[..., None]
    errors = [layer_error(weights - dequantized(q, s), hessian) for q in (first, second)]
    return np.where((errors[1] < errors[0])[..., None], second, first)


def _factor(hessian: NDArray[np.float64], order: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the upper triangular R with R Rᵀ = H, damped, inputs in the given order, for each group."""
    backwards = order[:, ::-1]
    damped = hessian[np.arange(len(order))[:, None, None], backwards[:, :, None], backwards[:, None, :]]
    diagonal = np.einsum("gkk->gk", damped)
    diagonal += DAMPING * diagonal.mean(axis=1, keepdims=True)
    # the Cholesky factor of H read backwards is R read backwards
    lower = np.asarray(np.linalg.cholesky(damped), np.float64)[:, ::-1, ::-1]
    if len(damped) > 1:
        return lower
    return np.ascontiguousarray(lower[0].T).transpose()[None]


def _round_ordered(
    weights: NDArray[np.float64], scale: NDArray[np.float64], factor: NDArray[np.float64], levels: int
) -> NDArray[np.int8]:
    """Round ``(groups, inputs, outputs)`` from the first input to the last."""
    half = (levels - 1) // 2
    delta, rounded = np.zeros_like(weights), np.zeros(weights.shape, np.int8)
    columns = factor.transpose(0, 2, 1)  # columns[:, k, j] = R_jk
    pivots = np.einsum("gkk->gk", factor)
    inputs = weights.shape[1]
    for start in range(0, inputs, _BLOCK):
        stop = min(start + _BLOCK, inputs)
        # what the blocks before this one left to make up for
        owed = columns[:, start:stop, :start] @ delta[:, :start]
        for k in range(start, stop):
            inside = columns[:, k, None, start:k] @ delta[:, start:k]
            debt = (owed[:, k - start] + inside[:, 0]) / pivots[:, k, None]
            q = np.clip(np.rint((weights[:, k] + debt) / scale), -half, half)
            rounded[:, k] = q
            delta[:, k] = weights[:, k] - q * scale
    return rounded


@contextmanager
def one_blas_thread() -> Generator[None]:
    """Limit the OpenBLAS of numpy to one thread inside a ``with``; other libraries are not affected.

    OpenBLAS splits products and factorizations among threads, which changes the order of sums: rounding decisions
    that depend on the last bit would then differ between machines, or with OMP_NUM_THREADS.
    """
    before = [(setter, getter()) for setter, getter in _libraries()]
    for setter, _ in before:
        setter(1)
    try:
        yield
    finally:
        for setter, threads in before:
            setter(threads)


@cache
def _libraries() -> list[tuple[Callable[[int], None], Callable[[], int]]]:
    """Return ``(set, get)`` of each OpenBLAS that came with a wheel; loading a loaded library returns that one."""
    found: list[tuple[Callable[[int], None], Callable[[], int]]] = []
    home = Path(np.__path__[0])
    folders = (home.parent / f"{home.name}.libs", home / ".dylibs")
    for path in sorted(path for folder in folders for path in folder.glob("*openblas*")):
        library = ctypes.CDLL(str(path))
        for name in _NAMES:
            if hasattr(library, name.format("set")):
                found.append((getattr(library, name.format("set")), getattr(library, name.format("get"))))
                break
    return found
