"""A layer with weights as what it is to an input's second moments: a matrix times rows, for each of its groups.

=====================================  =========  =================  ==============================
layer                                  groups     outputs            inputs
=====================================  =========  =================  ==============================
Convolution                            1          output channels    input channels x kernel
GroupConvolution                       groups     outputs / group    inputs / group x kernel
depthwise GroupConvolution             channels   1 (or multiplier)  kernel
MatMul, constant B ``(…, K, N)``       product …  N                  K
MatMul, constant A ``(…, M, K)``       product …  M                  K
=====================================  =========  =================  ==============================
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from calib.graph.view import GraphView
from calib.plan import Port


@dataclass(frozen=True)
class Linear:
    """A layer's constant and how its other input meets it.

    Attributes:
        port: of the constant.
        shape: of the constant.
        transposed: MatMul: whether the contracted axis of the constant is not the last.
        crossed: MatMul: whether the contracted axis of the other input is not the last.
        attributes: of a convolution, as the operation has them; empty for a MatMul.
    """

    port: Port
    kind: str
    shape: tuple[int, ...]
    transposed: bool
    crossed: bool
    attributes: dict[str, Any]

    @property
    def groups(self) -> int:
        """How many matrices there are."""
        if self.kind == "MatMul":
            return math.prod(self.shape[:-2])
        return self.shape[0] if self.kind == "GroupConvolution" else 1

    @property
    def outputs(self) -> int:
        """Rows of a matrix."""
        if self.kind == "MatMul":
            return self.shape[-1 if self.transposed else -2]
        return self.shape[1 if self.kind == "GroupConvolution" else 0]

    @property
    def inputs(self) -> int:
        """Columns of a matrix."""
        return math.prod(self.shape) // max(self.groups * self.outputs, 1)

    def matrices(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return ``(groups, outputs, inputs)`` of values in the constant's shape."""
        if self.transposed:
            values = np.swapaxes(values, -1, -2)
        return values.reshape(self.groups, self.outputs, self.inputs)

    def constant(self, matrices: NDArray[Any]) -> NDArray[Any]:
        """Return values in the constant's shape: undo ``matrices``."""
        if not self.transposed:
            return np.ascontiguousarray(matrices).reshape(self.shape)
        *batch, last, first = self.shape
        return np.ascontiguousarray(np.swapaxes(matrices.reshape(*batch, first, last), -1, -2))

    def rows(self, x: NDArray[np.floating], limit: int | None) -> NDArray[np.floating]:
        """Return ``(rows, groups, inputs)``: what the layer multiplies its matrices with for an input ``x``.

        Args:
            x: the layer's other input, one sample.
            limit: at most this many rows, taken evenly; None for all.
        """
        if self.kind == "MatMul":
            return _evenly(self._matmul_rows(x), limit)
        kernel = self.shape[3 if self.kind == "GroupConvolution" else 2 :]
        strides, dilations = self.attributes["strides"], self.attributes["dilations"]
        begin, end = paddings(x.shape[2:], kernel, self.attributes)
        return convolution_rows(x, kernel, strides, begin, end, dilations, self.groups, limit)

    def _matmul_rows(self, x: NDArray[np.floating]) -> NDArray[np.floating]:
        if self.crossed:
            x = np.swapaxes(x, -1, -2)
        batch = self.shape[:-2]
        own = (1,) * (len(batch) - (x.ndim - 2)) + x.shape[:-2]  # the batch axes of both, aligned from the right
        batch = (1,) * (len(own) - len(batch)) + batch
        joint = tuple(b if b > 1 else o for b, o in zip(batch, own, strict=True))
        x = np.broadcast_to(x.reshape(*own, *x.shape[-2:]), (*joint, *x.shape[-2:]))
        grouped = [axis for axis, size in enumerate(batch) if size > 1]
        others = [axis for axis in range(len(joint) + 1) if axis not in grouped]
        return x.transpose(*others, *grouped, x.ndim - 1).reshape(-1, self.groups, self.inputs)


def linear(view: GraphView, layer: str, port: Port) -> Linear | str:
    """Describe a layer whose weights come in through ``port``, or say why rounding leaves it alone."""
    kind = view.types[layer]
    if kind not in ("Convolution", "GroupConvolution", "MatMul"):
        return f"rounding has no rows for a {kind}, whose outputs see different shares of the kernel"
    node = view.nodes[layer]
    shape, attributes = tuple(node.input_value(port.input).get_shape()), dict(node.get_attributes())
    if kind != "MatMul":
        if any(pad < 0 for side in ("pads_begin", "pads_end") for pad in attributes[side]):
            return "its padding is negative"
        return Linear(port, kind, shape, False, False, attributes)
    swapped = [attributes["transpose_a"], not attributes["transpose_b"]]  # whether the contracted axis is not the last
    return Linear(port, kind, shape, swapped[port.input], swapped[1 - port.input], {})


def paddings(size: tuple[int, ...], kernel: tuple[int, ...], attributes: dict[str, Any]) -> tuple[list[int], list[int]]:
    """Return ``(begin, end)`` of a convolution's padding for an input of this spatial size.

    ``auto_pad`` is worked out here: a model of dynamic size has no numbers for it.
    """
    automatic = str(attributes["auto_pad"]).lower()
    if automatic == "valid":
        return [0] * len(size), [0] * len(size)
    if not automatic.startswith("same"):
        return list(attributes["pads_begin"]), list(attributes["pads_end"])
    smaller, larger = [], []
    for length, k, stride, dilation in zip(size, kernel, attributes["strides"], attributes["dilations"], strict=True):
        total = max((math.ceil(length / stride) - 1) * stride + (k - 1) * dilation + 1 - length, 0)
        smaller.append(total // 2)
        larger.append(total - total // 2)
    return (smaller, larger) if automatic == "same_upper" else (larger, smaller)


def _evenly(rows: NDArray[np.floating], limit: int | None) -> NDArray[np.floating]:
    if limit is None or len(rows) <= limit:
        return rows
    return rows[np.linspace(0, len(rows) - 1, limit).round().astype(int)]


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
