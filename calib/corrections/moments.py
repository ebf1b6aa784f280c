"""Second moments of what a layer multiplies its weights with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.linalg import get_blas_funcs


@dataclass(frozen=True)
class Moments:
    """Sums over rows, float64; add them in the order of sample ids, so that they don't depend on arrival.

    Attributes:
        count: how many rows.
        total: ``(groups, inputs)`` sum of x.
        products: ``(groups, inputs, inputs)`` sum of x xᵀ.
    """

    count: int
    total: NDArray[np.float64]
    products: NDArray[np.float64]

    @classmethod
    def of(cls, rows: NDArray[np.floating]) -> Moments:
        """Sum over the rows of ``(rows, groups, inputs)``, those of one sample.

        Products are summed in the rows' own precision: over a sample's rows float32 is off by about 1e-6 of the
        diagonal, ten thousand times less than what rounding damps it by, and costs half. Over samples it is float64.
        """
        total = rows.sum(axis=0, dtype=np.float64)
        if rows.shape[1] == 1 and len(rows):
            # half the work of a product; .T: a row in memory is a column to BLAS
            columns = np.ascontiguousarray(rows[:, 0]).T
            syrk = get_blas_funcs("syrk", (columns,))  # one name, one function: the stubs only know of lists
            upper = np.triu(np.asarray(syrk(1.0, columns), np.float64))  # pyright: ignore[reportCallIssue]
            return cls(len(rows), total, (upper + np.triu(upper, 1).T)[None])
        x = np.ascontiguousarray(np.moveaxis(rows, 0, 1))
        return cls(len(rows), total, np.asarray(x.transpose(0, 2, 1) @ x, np.float64))

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.count + other.count, self.total + other.total, self.products + other.products)

    @property
    def hessian(self) -> NDArray[np.float64]:
        """E[x xᵀ], ``(groups, inputs, inputs)``."""
        return self.products / max(self.count, 1)

    @property
    def mean(self) -> NDArray[np.float64]:
        """E[x], ``(groups, inputs)``."""
        return self.total / max(self.count, 1)

    def covariance(self) -> NDArray[np.float64]:
        """Return E[x xᵀ] - E[x] E[x]ᵀ: what counts where a constant output error is corrected in the bias."""
        return self.hessian - self.mean[:, :, None] * self.mean[:, None, :]


def matmul_rows(x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the ``(rows, 1, inputs)`` of a MatMul whose contracted axis is the last of ``x``."""
    return x.reshape(-1, 1, x.shape[-1])


def convolution_rows(
    x: NDArray[np.floating],
    kernel: Sequence[int],
    strides: Sequence[int],
    pads_begin: Sequence[int],
    pads_end: Sequence[int],
    dilations: Sequence[int],
    groups: int = 1,
    limit: int | None = None,
) -> NDArray[np.floating]:
    """Unfold a convolution's input into ``(rows, groups, inputs)``, a row for each position of the output.

    Inputs are in the order of the weights' own axes behind the output's: (channel of the group, *kernel), so a
    convolution's weights are ``(outputs, inputs)`` after ``reshape(outputs, -1)``.

    Args:
        x: ``(batch, channels, *spatial)``, any number of spatial axes.
        kernel: its spatial shape.
        strides: as the operation's.
        pads_begin: zeros before, as computed by the operation.
        pads_end: zeros after.
        dilations: as the operation's.
        groups: of the convolution; the channels for a depthwise one.
        limit: at most this many rows, taken evenly, for a bounded cost; None for all.
    """
    axes = tuple(range(2, 2 + len(kernel)))
    pads = list(zip(pads_begin, pads_end, strict=True))
    padded = np.pad(x, [(0, 0), (0, 0), *pads]) if any(map(any, pads)) else x
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    windows = sliding_window_view(padded, reach, axis=axes)
    steps = [slice(None, None, s) for s in strides]
    taps = [slice(None, None, d) for d in dilations]
    windows = windows[(slice(None), slice(None), *steps, *taps)]
    # (batch, *positions, channels, *kernel), still a view
    windows = np.moveaxis(windows, 1, len(kernel) + 1)
    positions = windows.shape[: len(kernel) + 1]
    rows = int(np.prod(positions))
    kept = np.arange(rows) if limit is None or rows <= limit else np.linspace(0, rows - 1, limit).round().astype(int)
    picked = windows[np.unravel_index(kept, positions)]
    return picked.reshape(len(kept), groups, -1)
