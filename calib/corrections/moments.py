"""What a convolution multiplies its weights with, row by row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray


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
