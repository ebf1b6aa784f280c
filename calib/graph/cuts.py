"""Which values of a tensor leave the instrumented model for a histogram.

Convolutions run channels-last in the CPU plugin, whatever the IR says: a raw NCHW output costs a reorder larger than
the whole inference of a MobileNetV2. So a cut is sliced along the other axes first, which moves whole rows of
channels, and its channels are transposed to the end, which then costs nothing.
"""

from __future__ import annotations

from math import prod

import numpy as np

from calib.runtime.session import ov

op = ov.opset13

# Fewer channels than a vector holds would be padded by a reorder of the whole tensor.
_VECTOR = 16


def take(output: ov.Output, values: int, channel_axis: int) -> tuple[ov.Node, int]:
    """Return a flat tensor with about ``values`` of a tensor's, spread evenly, and their count.

    The count is -1 where it depends on the sample.
    """
    partial = output.get_partial_shape()
    if partial.is_dynamic:
        return _take_dynamic(output, values, channel_axis), -1
    shape = tuple(partial.to_shape())
    strides = grid(shape, channel_axis, values)
    counts = [-(-size // stride) for size, stride in zip(shape, strides, strict=True)]
    taken = _strided(output, shape, strides)
    return _flat(_channels_last(taken, len(shape), channel_axis)), prod(counts)


def _strided(output: ov.Output, shape: tuple[int, ...], strides: tuple[int, ...]) -> ov.Output:
    """Take every so many positions of each axis."""
    if max(strides, default=1) == 1:
        return output
    if 3 <= len(shape) <= 5 and strides[:2] == (1, 1) and shape[1] >= _VECTOR:
        # a pooling of one position is vectorized over channels; Slice runs a reference implementation, half as fast
        ones, none = [1] * (len(shape) - 2), [0] * (len(shape) - 2)
        return op.max_pool(output, list(strides[2:]), ones, none, none, ones).output(0)
    axes = [axis for axis, stride in enumerate(strides) if stride > 1]
    stops, steps = [shape[axis] for axis in axes], [strides[axis] for axis in axes]
    return op.slice(output, _int(*(0 for _ in axes)), _int(*stops), _int(*steps), _int(*axes)).output(0)


def grid(shape: tuple[int, ...], channel_axis: int, values: int) -> tuple[int, ...]:
    """Return a stride for each axis so that at most about ``values`` of a tensor are left.

    The longest axis is thinned first, channels only when nothing else is left: distributions differ from channel to
    channel. Strides are odd, because what networks do at every second position (strides, upsampling) is even.
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
    """Thin a tensor whose size is known only when it runs: every so many rows of channels, an odd number."""
    partial = output.get_partial_shape()
    width, rows = 1, _flat(output)
    if len(partial) >= 2 and partial[channel_axis % len(partial)].is_static:
        width = partial[channel_axis % len(partial)].get_length()
        rows = op.reshape(_channels_last(output, len(partial), channel_axis), _int(-1, width), False)
    count = op.gather(op.shape_of(rows, "i64"), _int(0), op.constant(np.int64(0)))
    half = op.divide(count, _int(2 * max(values // width, 1)))
    step = op.add(op.multiply(half, _int(2)), _int(1))
    return _flat(op.slice(rows, _int(0), count, step, _int(0)).output(0))


def _channels_last(output: ov.Output, rank: int, channel_axis: int) -> ov.Output:
    plain = output.get_node().get_type_name() == "Parameter" or _sliced_parameter(output)
    if rank < 3 or channel_axis % rank == rank - 1 or plain:
        return output
    axis = channel_axis % rank
    return op.transpose(output, _int(*(a for a in range(rank) if a != axis), axis)).output(0)


def _sliced_parameter(output: ov.Output) -> bool:
    node = output.get_node()
    return node.get_type_name() == "Slice" and node.input_value(0).get_node().get_type_name() == "Parameter"


def _flat(output: ov.Output) -> ov.Node:
    return op.reshape(output, _int(-1), False)


def _int(*values: int) -> ov.Node:
    return op.constant(np.array(values, np.int64))
