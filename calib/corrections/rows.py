"""A layer with weights seen as a matrix times rows of its input, for each of its groups.

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.graph.layers import LAYERS, Axes, axes_of
from calib.graph.taken import VECTOR, channel_rows
from calib.graph.view import GraphView
from calib.runtime.session import ov
from calib.values.plan import Port


@dataclass(frozen=True)
class Linear:
    """A layer's constant and how the layer applies it to its other input.

    Attributes:
        port: Port of the constant.
        shape: Shape of the constant.
        axes: Axes of the constant.
        attributes: Attributes of the operation.
    """

    port: Port
    shape: tuple[int, ...]
    axes: Axes
    attributes: Mapping[str, Any]

    @property
    def groups(self) -> int:
        """Number of matrices."""
        return math.prod(self.shape[axis] for axis in (*self.axes.groups, *self.axes.stack))

    @property
    def outputs(self) -> int:
        """Number of rows of a matrix."""
        return self.shape[self.axes.outputs]

    @property
    def inputs(self) -> int:
        """Number of columns of a matrix."""
        return math.prod(self.shape[axis] for axis in (self.axes.inputs, *self.axes.kernel))

    @property
    def _order(self) -> tuple[int, ...]:
        """The constant's axes in the order of matrices: groups, outputs, inputs."""
        axes = self.axes
        return (*axes.groups, *axes.stack, axes.outputs, axes.inputs, *axes.kernel)

    def matrices(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return values in the constant's shape as ``(groups, outputs, inputs)``."""
        return values.transpose(self._order).reshape(self.groups, self.outputs, self.inputs)

    def constant(self, matrices: NDArray[Any]) -> NDArray[Any]:
        """Return matrices in the constant's shape; the inverse of ``matrices``."""
        ordered = matrices.reshape([self.shape[axis] for axis in self._order])
        return np.ascontiguousarray(ordered.transpose(np.argsort(self._order)))

    def pick(self, shape: tuple[int, ...], limit: int | None) -> Pick | None:
        """Return which positions of an input make up the rows; None for a MatMul, whose input holds rows already.

        Args:
            shape: Shape of the layer's other input.
            limit: Most rows to take, spaced evenly; None for all.
        """
        kernel = tuple(self.shape[axis] for axis in self.axes.kernel)
        if not kernel:
            return None
        strides, dilations = (tuple(self.attributes[name]) for name in ("strides", "dilations"))
        begin, end = (tuple(pads) for pads in paddings(shape[2:], kernel, self.attributes))
        return pick_positions(shape, kernel, strides, begin, end, dilations, limit)

    def tap(self, x: ov.Output, limit: int | None) -> tuple[ov.Output, Pick | None]:
        """Return the output that ``take`` needs from the model: x, or its picked positions with channels last."""
        partial = x.get_partial_shape()
        if partial.is_dynamic or not self.axes.kernel or x.get_node().get_type_name() == "Parameter":
            return x, None
        shape = tuple(partial.to_shape())
        pick = self.pick(shape, limit)
        if pick is None or shape[1] < VECTOR:
            return x, None
        count = math.prod(shape) // shape[1]
        if 2 * len(pick.positions) > count:
            return channel_rows(x, None), pick.among_all(count)
        return channel_rows(x, pick.positions), pick

    def take(self, x: NDArray[np.float32], limit: int | None, tapped: Pick | None = None) -> Taken:
        """Return one sample's values.

        Args:
            x: Value of the output that ``tap`` added to the model.
            limit: Most rows to take, as for ``pick``.
            tapped: Positions that x holds; None for the whole of the layer's other input.
        """
        if not self.axes.kernel:
            rows = self._matmul_rows(x)
            return Taken(rows[evenly(len(rows), limit)])
        pick = tapped or self.pick(x.shape, limit)
        assert pick is not None
        values = x if tapped else values_at(x, pick.positions)
        return Taken(values.reshape(len(values), self.groups, -1), pick)

    def _matmul_rows(self, x: NDArray[np.floating]) -> NDArray[np.floating]:
        if self.axes.source == -2:
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
    """Describe the layer whose weights come in through ``port``, or return why it can't be rounded."""
    kind = view.types[layer]
    if LAYERS[kind].spreads:
        return f"rounding has no rows for a {kind}, whose outputs see different shares of the kernel"
    if layer in view.inside:
        return "it is inside a body, whose tensors can't be taken out of the model one by one"
    node = view.nodes[layer]
    attributes = view.attributes(layer)
    if any(pad < 0 for side in ("pads_begin", "pads_end") for pad in attributes.get(side, ())):
        return "its padding is negative"
    return Linear(port, tuple(node.input_value(port.input).get_shape()), axes_of(view, port), attributes)


def paddings(
    size: tuple[int, ...], kernel: tuple[int, ...], attributes: Mapping[str, Any]
) -> tuple[list[int], list[int]]:
    """Return ``(begin, end)`` of a convolution's padding for an input of this spatial size.

    ``auto_pad`` is computed here, because a model of dynamic size has no numbers for it.
    """
    automatic = str(attributes["auto_pad"]).lower()
    if automatic == "valid":
        return [0] * len(size), [0] * len(size)
    if not automatic.startswith("same"):
        return list(attributes["pads_begin"]), list(attributes["pads_end"])
    smaller: list[int] = []
    larger: list[int] = []
    for length, k, stride, dilation in zip(size, kernel, attributes["strides"], attributes["dilations"], strict=True):
        total = max((math.ceil(length / stride) - 1) * stride + (k - 1) * dilation + 1 - length, 0)
        smaller.append(total // 2)
        larger.append(total - total // 2)
    return (smaller, larger) if automatic == "same_upper" else (larger, smaller)


@dataclass(frozen=True, eq=False)
class Pick:
    """Positions of a convolution's input, over batch and space, and the rows they make up.

    Attributes:
        positions: Flat indices of the positions, ascending, ``(positions,)``.
        index: Index into the positions, ``(rows, taps)``, taps in the order of the kernel; -1 for zeros of the padding.
    """

    positions: NDArray[np.int64]
    index: NDArray[np.int64]

    def among_all(self, count: int) -> Pick:
        """Return the same rows with indices into all ``count`` positions."""
        return Pick(np.arange(count), np.where(self.index < 0, -1, self.positions[self.index]))

    @cached_property
    def times(self) -> NDArray[np.float32]:
        """Number of times that each position meets each tap, ``(taps, positions)``."""
        taps: int = self.index.shape[1]
        size = len(self.positions)
        met = (self.index + np.arange(taps) * size)[self.index >= 0]
        return np.bincount(met, minlength=taps * size).reshape(taps, size).astype(np.float32)


@lru_cache(maxsize=64)
def pick_positions(
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    pads_begin: tuple[int, ...],
    pads_end: tuple[int, ...],
    dilations: tuple[int, ...],
    limit: int | None = None,
) -> Pick:
    """Return the positions that the rows of a convolution read, one row per position of its output.

    Args:
        shape: Shape of the input, ``(batch, channels, *spatial)``, with any number of spatial axes.
        kernel: Spatial shape of the kernel.
        strides: Strides of the operation.
        pads_begin: Zeros before each spatial axis.
        pads_end: Zeros after each spatial axis.
        dilations: Dilations of the operation.
        limit: Most rows to take, spaced evenly, to bound the cost; None for all.
    """
    sizes = shape[2:]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    padded = [size + begin + end for size, begin, end in zip(sizes, pads_begin, pads_end, strict=True)]
    outputs = [(whole - far) // step + 1 for whole, far, step in zip(padded, reach, strides, strict=True)]
    rows = shape[0] * int(np.prod(outputs))
    kept = np.arange(rows)[evenly(rows, limit)]
    flat, *places = np.unravel_index(kept, (shape[0], *outputs))
    taps = np.indices(kernel).reshape(len(kernel), -1)
    flat, inside = flat[:, None], np.ones((len(kept), taps.shape[1]), np.bool_)
    for axis, size in enumerate(sizes):
        at = places[axis][:, None] * strides[axis] - pads_begin[axis] + taps[axis] * dilations[axis]
        inside &= (at >= 0) & (at < size)
        flat = flat * size + at
    positions = np.unique(flat[inside]).astype(np.int64)
    return Pick(positions, np.where(inside, np.searchsorted(positions, flat), -1))


def evenly(rows: int, limit: int | None) -> slice | NDArray[np.int64]:
    """Return evenly spaced indices of at most ``limit`` rows, with the first and the last; all for None."""
    if limit is None or rows <= limit:
        return slice(None)
    return np.linspace(0, rows - 1, limit).round().astype(np.int64)


def values_at(x: NDArray[np.floating], positions: NDArray[np.int64]) -> NDArray[np.floating]:
    """Return ``(positions, channels)`` of an input ``(batch, channels, *spatial)``."""
    flat = x.reshape(*x.shape[:2], -1)
    batch, place = np.divmod(positions, flat.shape[2])
    return flat[0][:, place].T if len(x) == 1 else flat[batch, :, place]


@dataclass(frozen=True, eq=False)
class Taken:
    """One sample's values of a layer's input.

    Attributes:
        values: Values, ``(positions, groups, channels of a group)``; without a pick the rows, ``(rows, groups,
            inputs)``.
        pick: Positions that the rows are made of.
    """

    values: NDArray[Any]
    pick: Pick | None = None

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(self.values if self.pick is None else self.pick.index)

    def rows(self) -> NDArray[Any]:
        """Return the rows that the layer multiplies its matrices with, ``(rows, groups, inputs)``.

        Inputs are in the order of the weights' axes after the output axis: (channel of the group, *kernel). So a
        convolution's weights are ``(outputs, inputs)`` after ``reshape(outputs, -1)``.
        """
        if self.pick is None:
            return self.values
        index = self.pick.index
        if index.shape[1] == 1 and index.min(initial=0) >= 0:
            return self.values[index[:, 0]]
        zeros = np.zeros((1, *self.values.shape[1:]), self.values.dtype)
        unfolded = np.concatenate([self.values, zeros])[index]
        return unfolded.transpose(0, 2, 3, 1).reshape(len(unfolded), self.values.shape[1], -1)

    def by_group(self) -> NDArray[np.float32]:
        """Return the rows as ``(groups, rows, inputs)``, contiguous."""
        if self.pick is None or self.values.shape[2] > 1:
            return np.ascontiguousarray(self.rows().transpose(1, 0, 2), np.float32)
        # depthwise: a few positions turned around, then the rows made of them, rather than all the rows turned around
        padded = np.zeros((self.values.shape[1], len(self.values) + 1), np.float32)
        padded[:, :-1] = self.values[:, :, 0].T
        return np.take(padded, self.pick.index, axis=1, mode="wrap")

    def sums(self) -> NDArray[np.float64]:
        """Return the sum of the rows, ``(groups, inputs)``, in single precision: exact for up to 256 8-bit levels."""
        if self.pick is None:
            return self.values.sum(axis=0, dtype=np.float32).astype(np.float64)
        groups, channels = self.values.shape[1:]
        by_tap = self.pick.times @ self.values.reshape(len(self.values), -1)
        return by_tap.reshape(-1, groups, channels).transpose(1, 2, 0).reshape(groups, -1).astype(np.float64)


# float32 counts in ones up to 2^24: 258 products of two 8-bit levels, or, summed up in single precision, this.
CHUNK = 256
_SURE = 0.99 * (1 << 24)


def second_moments(taken: Sequence[Taken]) -> NDArray[np.float64]:
    """Return the exact sum of ``x xᵀ`` over all rows of integers, ``(groups, inputs, inputs)``.

    The sums of squares on the diagonal bound all other sums and their partial sums: as long as they stay below 2^24,
    products in single precision are exact. Above that, the rows are split.
    """
    batches: list[list[Taken]] = []
    most = CHUNK if taken[0].values.shape[1] > 1 else sum(one.count for one in taken)  # many small groups: no bounds
    for one in taken:
        if not batches or sum(other.count for other in batches[-1]) + one.count > most:
            batches.append([])
        batches[-1].append(one)
    moments: list[NDArray[np.float64]] = []
    for batch in batches:
        moments.append(_moments(np.concatenate([one.by_group() for one in batch], axis=1)))
    return np.sum(moments, axis=0)


def _moments(x: NDArray[np.float32]) -> NDArray[np.float64]:
    half = x.shape[1] // 2
    if x.shape[1] > CHUNK and np.einsum("grk,grk->gk", x, x).max(initial=0.0) > _SURE:
        return _moments(x[:, :half]) + _moments(x[:, half:])
    return (x.transpose(0, 2, 1) @ x).astype(np.float64)
