"""Move magnitude between channels without changing the function: one factor per channel of an inner tensor.

Where a layer writes a tensor x, a positively homogeneous function follows (``f(s x) = s f(x)`` for s > 0: identity,
ReLU, PReLU, MaxPool, AvgPool) and another layer reads it::

    y = W2 · f(W1 x + b1)   =   (W2 · s) · f((W1 / s) x + b1 / s)

the division by s goes into the rows of W1 and b1 (or into the gain and bias of a normalization), the multiplication
into the columns of W2. With a depthwise layer in between there are two tensors and a factor for each: the depthwise
weights are multiplied by the first and divided by the second.

Activations have one scale for all channels, so the largest channel leaves few levels for small ones. Weights have a
scale for each *output* channel, so only the columns of the reader, which share scales, lose precision in exchange.

Factors that are powers of two change exponents only: the FP32 outputs stay the same to the last bit (short of overflow
and subnormals), so that the equalized model can be compared with the original bit by bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calib.ranges.affine import SCALE_FLOOR
from calib.values.plan import FULL_RANGE
from calib.values.sqnr import decibel

# No factor goes beyond 1/LIMIT … LIMIT: a channel that hardly ever fires on the calibration samples may fire later.
LIMIT = 1024.0
# A rescaling has to halve the expected error. On two networks smaller gains were within the noise of the whole model's
# error (-0.6 to +0.5 dB), while one with imbalanced channels gained 25 dB from large ones.
WORTHWHILE = 0.5
# An inserted rescaling changes what runs, so it is for outlier channels, whose error it divides by far more. Where
# channels were even, SmoothQuant on every layer has done harm: Swin-B's top-1 fell from 85.2 to 83.6 % (NNCF's table).
WORTHWHILE_INSERTED = 0.25
# Values of an inserted factor in an octave. It divides in f32, so that the function is the same to rounding. Powers of
# two, which can leave a channel 1.4 times as large, cost 1.3 and 1.6 dB on two networks with outlier channels.
FINE = 8
STRENGTHS = (0.0, 0.25, 0.5, 0.625, 0.75, 0.875, 1.0)


def smooth_factors(
    activation_absmax: NDArray[np.floating],
    weight_absmax: NDArray[np.floating],
    alpha: float = 0.5,
    per_octave: int | None = 1,
) -> NDArray[np.float64]:
    """Return the factors that migrate a tensor's range into the weights that read it.

    Source: Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models",
    2023, eq. 4::

        s_c = max|x_c|^alpha / max|W_c|^(1 - alpha),     x_c / s_c,   W_c · s_c

    normalized to a geometric mean of 1 over the channels that are not zero, which changes nothing but keeps numbers in
    their usual size. A channel that is zero in the activations or in the weights gets the factor 1.

    Args:
        activation_absmax: Largest magnitude of each channel over the calibration samples, ``(channels,)``.
        weight_absmax: Largest magnitude of the weights that read each channel, over all readers, ``(channels,)``; ones
            if each channel has a weight scale of its own (a depthwise reader).
        alpha: Migration strength: 0 evens out the weights, 1 the activations; 0.5 to 0.75 suits most networks.
        per_octave: Number of values that a factor can take from one power of two to the next; None for any value. With
            1 they are powers of two, which are at most a factor of sqrt(2) off and keep the function bit-exact.
    """
    activation, weight = (np.asarray(v, np.float64) for v in (activation_absmax, weight_absmax))
    live = (activation > 0) & (weight > 0)
    factors = np.ones_like(activation)
    if not live.any():
        return factors
    logs = alpha * np.log2(activation[live]) - (1 - alpha) * np.log2(weight[live])
    bound = np.log2(LIMIT)
    logs = np.clip(logs - logs.mean(), -bound, bound)
    factors[live] = np.exp2(logs if per_octave is None else np.rint(per_octave * logs) / per_octave)
    return factors


@dataclass(frozen=True)
class Readers:
    """Summary of the weights that read a tensor, over all readers, as a rescaling needs it.

    Attributes:
        squares: Sum of squares over outputs and kernel, ``(channels,)``.
        peaks: Largest magnitude over the kernel, ``(outputs, channels)``.
        kernel: Number of weights that an output has for a channel, the largest of all readers.
        levels: Number of levels of the weights.
    """

    squares: NDArray[np.float64]
    peaks: NDArray[np.float64]
    kernel: int
    levels: int = FULL_RANGE

    @classmethod
    def of(cls, parts: Sequence[NDArray[np.floating]], levels: int = FULL_RANGE) -> Readers:
        """Summarize each reader's weights ``(groups, outputs, channels, kernel)``, by group."""
        squares, peaks = list[NDArray[np.float64]](), list[NDArray[np.float64]]()
        for w in parts:
            groups, outputs, channels, _ = w.shape
            squares.append(np.einsum("gock,gock->gc", w, w, dtype=np.float64).reshape(-1))
            whole = np.zeros((groups, outputs, groups, channels))  # no weights between groups
            whole[np.arange(groups), :, np.arange(groups)] = np.maximum(w.max(axis=3), -w.min(axis=3))
            peaks.append(whole.reshape(groups * outputs, groups * channels))
        return cls(np.sum(squares, axis=0), np.concatenate(peaks), max(w.shape[3] for w in parts), levels)


def migration_error(
    factors: NDArray[np.float64],
    low: NDArray[np.floating],
    high: NDArray[np.floating],
    power: NDArray[np.floating],
    readers: Readers,
) -> float:
    """Return the expected squared error of the reader's outputs, summed over them, after a migration.

    Rounding to a step d adds a variance of d²/12 to whatever it rounds, independently. With the tensor's one step
    ``d_x = (max high_c / s_c - min low_c / s_c) / 255`` and each output's weight step ``d_o = 2 max_c |W_oc| s_c /
    (levels - 1)``::

        E = d_x²/12 · sum of (s_c W_oc)²   +   sum over o of d_o²/12 · sum over c of n · E[x_c²] / s_c²

    where c in the last sum are the channels that o reads, and n is the number of weights that an output has for a
    channel (the kernel's size). A channel whose values all round to zero costs at most its power, so the first term
    takes the smaller of the two.

    Args:
        factors: Factor of each channel, ``(channels,)``.
        low: Smallest value of each channel, ``(channels,)``.
        high: Largest value of each channel, ``(channels,)``.
        power: Mean square of each channel, ``(channels,)``.
        readers: Summary of the weights of all readers.
    """
    x_power = np.asarray(power, np.float64) / factors**2
    top, bottom = max(float((high / factors).max()), 0.0), min(float((low / factors).min()), 0.0)
    noise = np.minimum((top - bottom) ** 2 / 255**2 / 12, x_power)
    from_inputs = float(noise @ (readers.squares * factors**2))
    steps = np.maximum(2 * (readers.peaks * factors).max(axis=1) / (readers.levels - 1), SCALE_FLOOR)
    read = (readers.peaks > 0) @ x_power  # a weight of zero is exact, as those between groups are
    return from_inputs + float(steps**2 @ read) / 12 * readers.kernel


def least_error(
    low: NDArray[np.floating], high: NDArray[np.floating], power: NDArray[np.floating], readers: Readers
) -> float:
    """Return a bound that :func:`migration_error` is never below, whatever the factors are.

    The tensor's step is at least that of each channel by itself, and an output's weight step that of each weight::

        E   ≥   sum over c of min(d_c², 12 E[x_c²]) / 12 · sum of W_oc²   +   n · sum over o, c of d_oc² E[x_c²] / 12

    with ``d_c = (high_c - low_c) / 255`` of a range that holds zero and ``d_oc = 2 |W_oc| / (levels - 1)``, in which
    the factors cancel out. Channels that are even are near it, so that most tensors need no strength to be tried.

    Args:
        low: Smallest value of each channel, ``(channels,)``.
        high: Largest value of each channel, ``(channels,)``.
        power: Mean square of each channel, ``(channels,)``.
        readers: Summary of the weights of all readers.
    """
    widths = np.maximum(high, 0.0) - np.minimum(low, 0.0)
    from_inputs = float(np.minimum(widths**2 / 255**2 / 12, power) @ readers.squares)
    steps = (2 * readers.peaks / (readers.levels - 1)) ** 2
    return from_inputs + float((steps @ power).sum()) / 12 * readers.kernel


def expected_db(
    factors: NDArray[np.float64],
    low: NDArray[np.floating],
    high: NDArray[np.floating],
    power: NDArray[np.floating],
    readers: Readers,
) -> float | None:
    """Return the SQNR in dB expected from :func:`migration_error`; None if nothing is read.

    The outputs' power is taken as that of independent channels without a mean, ``sum of W_oc² E[x_c²]``, and is the
    same for all factors: the difference between two of them is exact as far as the error is.
    """
    signal, error = float(readers.squares @ power), migration_error(factors, low, high, power, readers)
    return round(decibel(signal, error), 3) if signal > 0 else None


def choose_strength(
    low: NDArray[np.floating],
    high: NDArray[np.floating],
    power: NDArray[np.floating],
    readers: Readers,
    inserted: bool = False,
) -> tuple[NDArray[np.float64], float | None]:
    """Return the factors and strength with the smallest :func:`migration_error`; ``(ones, None)`` for no change.

    It needs no inference, and the expected error is never larger than without a change.

    Args:
        low: Smallest value of each channel, ``(channels,)``.
        high: Largest value of each channel, ``(channels,)``.
        power: Mean square of each channel, ``(channels,)``.
        readers: Summary of the weights of all readers.
        inserted: Whether a Multiply in front of the readers divides, which has to gain more and takes finer factors.
    """
    absmax = np.maximum(np.abs(low), np.abs(high))
    largest = readers.peaks.max(axis=0)
    best: tuple[NDArray[np.float64], float | None] = (np.ones(len(absmax)), None)
    least = (WORTHWHILE_INSERTED if inserted else WORTHWHILE) * migration_error(best[0], low, high, power, readers)
    if least_error(low, high, power, readers) >= least:
        return best
    for strength in STRENGTHS:
        factors = smooth_factors(absmax, largest, strength, FINE if inserted else 1)
        error = migration_error(factors, low, high, power, readers)
        if error < least:
            best, least = (factors, strength), error
    return best
