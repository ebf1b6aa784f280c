"""How far a layer's output is from the one in FP32, and where along the network the error jumps.

Numpy only. Errors are those of a whole model: a layer's output carries the error of all layers before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from calib.values.sqnr import decibel

# Undoing channel scales has to win this much before they are believed: noise alone looks like a scale only where it
# is as large as the signal.
RESCALED_GAIN_DB = 6.0
RESCALED_VALUES = 8  # a channel: a scale fitted to fewer values explains their noise away
# What is lost where the inputs are exact: 8-bit activations and weights together leave 30 dB or more of what real
# networks compute. It stands for the layers before the first one.
INPUT_DB = 30.0
JUMP_DB = 6.0  # the error doubles


class LayerError:
    """Sums over samples, for each channel: a², ab and b² of the reference a and the output b, in float64.

    Args:
        channel_axis: Axis of the channels; None for a tensor whose scale is part of its meaning, such as an output.
    """

    def __init__(self, channel_axis: int | None):
        self._axis = channel_axis
        self._sums: NDArray[np.float64] = np.zeros((3, 1))
        self._values = 0  # a channel
        self._overflown = False  # whether an output was not finite where the reference is

    def add(self, reference: NDArray[np.generic], output: NDArray[np.generic]) -> None:
        """Add one sample's outputs, of one shape; a channel count that changes falls back to one channel.

        Elements where the reference is not finite are left out, as in :func:`calib.values.sqnr.squared_error`.
        """
        a, b = (self._by_channel(np.asarray(values, np.float64)) for values in (reference, output))
        if not (finite := np.isfinite(a)).all():
            a, b = np.where(finite, a, 0.0), np.where(finite, b, 0.0)
        if not (finite := np.isfinite(b)).all():
            self._overflown, b = True, np.where(finite, b, 0.0)
        sums = np.array([np.einsum("cn,cn->c", x, y) for x, y in ((a, a), (a, b), (b, b))])
        self._values += a.shape[1]
        if not self._sums.any():
            self._sums = sums
        elif self._sums.shape == sums.shape:
            self._sums += sums
        else:
            self._sums = self._sums.sum(1, keepdims=True) + sums.sum(1, keepdims=True)

    @property
    def values(self) -> int:
        """Number of values added, a channel."""
        return self._values

    @property
    def plain_sqnr_db(self) -> float:
        """10·log10(Σa² / Σ(a − b)²)."""
        if self._overflown:
            return -math.inf
        aa, ab, bb = self._sums.sum(1)
        return _decibel(aa, aa - 2 * ab + bb)

    @property
    def unscaled_sqnr_db(self) -> float:
        """The same with each channel of b divided by its scale αᶜ = Σab / Σa², which least squares gives."""
        if self._overflown:
            return -math.inf
        aa, ab, bb = self._sums
        used = (aa > 0) & (ab > 0)
        noise = np.where(used, 0.0, aa)
        noise[used] = bb[used] * (aa[used] / ab[used]) ** 2 - aa[used]
        return _decibel(aa.sum(), noise.sum())

    @property
    def rescaled(self) -> bool:
        """Whether the channels are at other scales, as cross-layer equalization leaves them."""
        if self._axis is None or self._values < RESCALED_VALUES:
            return False
        return self.unscaled_sqnr_db > self.plain_sqnr_db + RESCALED_GAIN_DB

    @property
    def sqnr_db(self) -> float:
        """The SQNR that says how much was lost: at the reference's scales where the channels were rescaled."""
        return self.unscaled_sqnr_db if self.rescaled else self.plain_sqnr_db

    @property
    def cosine(self) -> float:
        """Σab / √(Σa² Σb²), likewise; 1 for two silent outputs, NaN for one that is not finite."""
        if self._overflown:
            return math.nan
        aa, ab, bb = self._sums
        if self.rescaled:
            used = ab > 0
            scale = np.where(used, aa / np.where(used, ab, 1.0), 1.0)
            ab, bb = ab * scale, bb * scale**2
        power = math.sqrt(aa.sum() * bb.sum())
        return float(ab.sum() / power) if power else float(aa.sum() == bb.sum())

    def _by_channel(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if values.ndim < 2 or self._axis is None:
            return values.reshape(1, -1)
        return np.moveaxis(values, self._axis, 0).reshape(values.shape[self._axis], -1)


def jumps(sqnr_db: Mapping[str, float], upstream: Mapping[str, Iterable[str]]) -> dict[str, float]:
    """Return, for each layer, how many dB were lost between the worst layer it reads from and itself; at least 0.

    Args:
        sqnr_db: Mapping from layer to the SQNR of its output in dB.
        upstream: Mapping from layer to the layers whose outputs reach it without passing through another layer;
            ``INPUT_DB`` is used if there are none.
    """
    found: dict[str, float] = {}
    for layer, value in sqnr_db.items():
        before = min((sqnr_db[name] for name in upstream.get(layer, ())), default=INPUT_DB)
        lost = min(before, INPUT_DB) - value  # below an exact layer, what a first layer may lose is no jump
        found[layer] = max(0.0, lost) if math.isfinite(lost) else 0.0 if lost != math.inf else math.inf
    return found


def first_jump(order: Sequence[str], jump_db: Mapping[str, float]) -> str:
    """Return the first layer where the error at least doubles; empty where it never does."""
    return next((layer for layer in order if jump_db[layer] >= JUMP_DB), "")


def _decibel(signal: float, noise: float) -> float:
    # Differences of sums of squares: below 1e-14 of the signal they are rounding, not noise.
    return decibel(signal, 0.0 if noise <= 1e-14 * signal else noise)
