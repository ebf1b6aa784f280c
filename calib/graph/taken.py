"""Take values out of a model: rows of channels, or values of a tensor for a histogram, each as a further output.

Convolutions run channels-last in the CPU plugin, whatever the IR says: a raw NCHW output costs a reorder larger than
the whole inference of a MobileNetV2. So values for a histogram are sliced along the other axes first, which moves whole
rows of channels, and channels are transposed to the end, which then costs nothing.

It costs nothing as the plugin takes the same memory in another shape. If the network takes it in a third shape, as
tokens that are made of a feature map, OpenVINO 2026.4 lets the network's own layers read memory that nobody wrote once
one of the two is an output. So such a tensor is copied first.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from calib.runtime.session import ov

op = ov.opset13

# Fewer channels than a vector holds would be padded by a reorder of the whole tensor.
VECTOR = 16
# Operations that give the same memory another shape.
RESHAPING = frozenset({"Reshape", "Squeeze", "Transpose", "Unsqueeze"})


def channel_rows(x: ov.Output, positions: NDArray[np.int64] | None) -> ov.Output:
    """Return an output ``(positions, channels)`` at flat positions over batch and space of a tensor; None for all.

    Convolutions run channels-last: taking rows of channels costs almost nothing, taking the whole tensor in the layout
    of the IR costs a reorder.

    Args:
        x: Tensor of static shape ``(batch, channels, *spatial)``.
        positions: Ascending flat positions.
    """
    shape = x.get_shape()
    order = [0, *range(2, len(shape)), 1]
    rows = op.reshape(op.transpose(_apart(x), np.array(order)), np.array([-1, shape[1]]), False)
    return (rows if positions is None else op.gather(rows, positions, np.int64(0))).output(0)


def taken(output: ov.Output, values: int, channel_axis: int) -> tuple[ov.Node, int]:
    """Return a flat tensor with about ``values`` evenly spread values of a tensor, and their count.

    The count is -1 if it depends on the sample.
    """
    partial = output.get_partial_shape()
    if partial.is_dynamic:
        return _take_dynamic(output, values, channel_axis), -1
    shape = tuple(partial.to_shape())
    strides = _grid(shape, channel_axis, values)
    counts = [-(-size // stride) for size, stride in zip(shape, strides, strict=True)]
    taken = _strided(output, shape, strides)
    return _flat(_channels_last(taken, len(shape), channel_axis)), prod(counts)


def _strided(output: ov.Output, shape: tuple[int, ...], strides: tuple[int, ...]) -> ov.Output:
    """Slice each axis with its stride."""
    if max(strides, default=1) == 1:
        return output
    if 3 <= len(shape) <= 5 and strides[:2] == (1, 1) and shape[1] >= VECTOR:
        # a pooling of one position is vectorized over channels; Slice runs a reference implementation, half as fast
        ones, none = [1] * (len(shape) - 2), [0] * (len(shape) - 2)
        return op.max_pool(output, list(strides[2:]), ones, none, none, ones).output(0)
    axes = [axis for axis, stride in enumerate(strides) if stride > 1]
    starts, stops, steps = [0 for _ in axes], [shape[axis] for axis in axes], [strides[axis] for axis in axes]
    return op.slice(output, *(int_vector(*part) for part in (starts, stops, steps, axes))).output(0)


def _grid(shape: tuple[int, ...], channel_axis: int, values: int) -> tuple[int, ...]:
    """Return a stride for each axis so that about ``values`` values of a tensor are left at most.

    The longest axis is thinned first, channels only when nothing else is left: distributions differ from channel to
    channel. Strides are odd, because patterns that networks make at every second position (strides, upsampling) are
    even.
    """
    strides = [1] * len(shape)
    channel = channel_axis % len(shape) if shape else 0
    counts = list(shape)
    while prod(counts) > values:
        others = [axis for axis, count in enumerate(counts) if axis != channel and count > 1]
        axis = max(others, key=lambda a: counts[a]) if others else channel
        strides[axis] += 2
        counts[axis] = -(-shape[axis] // strides[axis])
    return tuple(strides)


def _take_dynamic(output: ov.Output, values: int, channel_axis: int) -> ov.Node:
    """Thin a tensor whose size is known only when it runs: take rows of channels with an odd stride."""
    partial = output.get_partial_shape()
    width, rows = 1, _flat(output)
    if len(partial) >= 2 and partial[channel_axis % len(partial)].is_static:
        width = partial[channel_axis % len(partial)].get_length()
        rows = op.reshape(_channels_last(output, len(partial), channel_axis), int_vector(-1, width), False)
    count = op.gather(op.shape_of(rows, "i64"), int_vector(0), op.constant(np.int64(0)))
    half = op.divide(count, int_vector(2 * max(values // width, 1)))
    step = op.add(op.multiply(half, int_vector(2)), int_vector(1))
    return _flat(op.slice(rows, int_vector(0), count, step, int_vector(0)).output(0))


def spread(output: ov.Output, values: int) -> ov.Node:
    """Return ``values`` values of a tensor whose size is known only when it runs, evenly spread; zeros of an empty one.

    Of a tensor with fewer values, all occur about equally often.
    """
    flat = op.concat([_flat(output), op.constant(np.zeros(1, np.float32))], 0)  # a place to read from in any case
    count = op.subtract(op.shape_of(flat, "i64"), int_vector(1))
    places = op.divide(op.multiply(op.constant(np.arange(values)), count), int_vector(values))
    return op.gather(flat, places, op.constant(np.int64(0)))


def _channels_last(output: ov.Output, rank: int, channel_axis: int) -> ov.Output:
    plain = output.get_node().get_type_name() == "Parameter" or _sliced_parameter(output)
    if rank < 3 or channel_axis % rank == rank - 1 or plain:
        return output
    axis = channel_axis % rank
    return op.transpose(_apart(output), int_vector(*(a for a in range(rank) if a != axis), axis)).output(0)


def _apart(output: ov.Output) -> ov.Output:
    """Return a tensor, copied if the network reads it in another shape."""
    readers = {port.get_node().get_type_name() for port in output.get_target_inputs()}
    return copied(output) if readers & RESHAPING else output


def copied(output: ov.Output) -> ov.Output:
    """Return a copy of a tensor by an operation that changes nothing, and is not removed as adding 0 would be."""
    return op.maximum(output, op.constant(np.finfo(np.float32).min)).output(0)


def _sliced_parameter(output: ov.Output) -> bool:
    node = output.get_node()
    return node.get_type_name() == "Slice" and node.input_value(0).get_node().get_type_name() == "Parameter"


def _flat(output: ov.Output) -> ov.Node:
    return op.reshape(output, int_vector(-1), False)


def int_vector(*values: int) -> ov.Node:
    """Return a vector of integers."""
    return op.constant(np.array(values, np.int64))
