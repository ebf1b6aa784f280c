"""Steps that random networks are built from: each adds operations behind a tensor, or returns None where it can't."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from building import integer, ints, max_pool, op, resize, shape_of

from calib.runtime.session import ov

if TYPE_CHECKING:
    from strategies_networks import Builder


def _window(x: Any, stride: int, pad: int, dilation: int = 1) -> list[list[int]]:
    dims = len(shape_of(x)) - 2
    return [[stride] * dims, [pad] * dims, [pad] * dims, [dilation] * dims]


def _conv(b: Builder, x: Any) -> Any:
    kernel, stride, dilation = b.pick([1, 3]), b.pick([1, 1, 2]), b.pick([1, 1, 2])
    weights = b.weights(b.pick([4, 8]), shape_of(x)[1], kernel, kernel)
    return op.convolution(x, weights, *_window(x, stride, dilation * (kernel // 2), dilation))


def _grouped(b: Builder, x: Any) -> Any:
    channels = shape_of(x)[1]
    if channels % 2:
        return None
    return op.group_convolution(x, b.weights(2, b.pick([1, 4]), channels // 2, 3, 3), *_window(x, 1, 1))


def _depthwise(b: Builder, x: Any) -> Any:
    y = op.group_convolution(x, b.weights(shape_of(x)[1], b.pick([1, 1, 2]), 1, 3, 3), *_window(x, b.pick([1, 2]), 1))
    return y


def _deconv(b: Builder, x: Any) -> Any:
    kernel, stride, pad = b.pick([(2, 2, 0), (4, 2, 1), (3, 1, 1)])
    if shape_of(x)[2] > 16:
        return None
    x = op.relu(x) if b.pick([True, False]) else x
    if b.pick([True, True, True, False]):
        weights, pads = b.weights(shape_of(x)[1], 4, kernel, kernel), [pad, pad]
        # By name: between strides and pads there is a shape of the output, which would be taken for the pads.
        return op.convolution_backprop_data(
            x, weights, [stride, stride], pads_begin=pads, pads_end=pads, dilations=[1, 1]
        )
    return b.net.deconv(x, shape_of(x)[1], kernel, stride, pad, groups=shape_of(x)[1])


def _activation(b: Builder, x: Any) -> Any:
    kind = b.pick([op.relu, op.relu, op.swish, op.sigmoid, op.tanh, op.hswish, op.abs, op.negative, "prelu", "clamp",
                   "elu", "gelu"])  # fmt: skip
    if kind == "prelu":
        return op.prelu(x, op.constant(np.float32([b.pick([0.1, -0.2])])))
    if kind == "clamp":
        return op.clamp(x, *b.pick([(0.0, 6.0), (-1.0, 1.0)]))
    if kind == "elu":
        return op.elu(x, 1.0)
    return op.gelu(x, "erf") if kind == "gelu" else kind(x)


def _with_constant(b: Builder, x: Any) -> Any:
    shape = [1] * len(shape_of(x))
    axis = b.pick([1, 1, len(shape) - 1])
    shape[axis] = b.pick([1, shape_of(x)[axis]])
    kind = b.pick([op.add, op.multiply, op.subtract, op.add])
    pair = (x, b.net.weights(*shape, fan_in=2))
    return kind(*(pair if b.pick([True, True, False]) else pair[::-1]))


def _two(b: Builder, x: Any) -> Any:
    kind = b.pick([op.add, op.add, op.multiply, op.subtract, op.maximum])
    return kind(x, b.pick(b.partners(x)))


def _concat(axis: int) -> Callable[[Builder, Any], Any]:
    def concat(b: Builder, x: Any) -> Any:
        at = axis % len(shape_of(x))
        parts = [x, *(b.pick(b.partners(x, at)) for _ in range(b.pick([1, 2])))]
        if b.pick([False] * 5 + [True]):
            parts.append(b.net.weights(*(2 if i == at else s for i, s in enumerate(shape_of(x))), fan_in=2))
        return None if sum(shape_of(p)[at] for p in parts) > 48 else op.concat(parts, at)

    return concat


def _split(b: Builder, x: Any) -> Any:
    axis = b.pick([1, len(shape_of(x)) - 1])
    size = shape_of(x)[axis]
    if size < 2:
        return None
    if size % 2 == 0 and b.pick([True, False]):
        return list(op.split(x, integer(axis), 2).outputs())
    return list(op.variadic_split(x, integer(axis), ints(1, size - 1)).outputs())


def _slice(b: Builder, x: Any) -> Any:
    axis = b.pick([1, len(shape_of(x)) - 1])
    return op.slice(x, ints(0), ints(max(1, shape_of(x)[axis] // 2)), ints(1), ints(axis))


def _pool(b: Builder, x: Any) -> Any:
    if min(shape_of(x)[2:]) < 2:
        return None
    kind = b.pick(["max", "max same", "average"])
    if kind == "average":
        return op.avg_pool(x, [2, 2], [0, 0], [0, 0], [2, 2], True)
    return max_pool(x) if kind == "max" else max_pool(x, 3, 1)


def _reduce(b: Builder, x: Any) -> Any:
    kind = b.pick([op.reduce_mean, op.reduce_max, op.reduce_min, op.reduce_sum])
    return kind(x, np.array(b.pick([[2, 3], [1], [3]]) if len(shape_of(x)) == 4 else [b.pick([1, 2])]), True)


def _resize(b: Builder, x: Any) -> Any:
    return resize(x, b.pick([8, 16]), b.pick(["nearest", "nearest", "linear_onnx"]))


def _pad(b: Builder, x: Any) -> Any:
    if min(shape_of(x)[2:]) < 2:
        return None
    mode = b.pick(["constant", "reflect", "edge"])
    return op.pad(x, ints(0, 0, 1, 1), ints(0, 0, 1, 1), mode, op.constant(np.float32(b.pick([0.0, 0.0, 3.0]))))


def _rearrange(b: Builder, x: Any) -> Any:
    channels, height, width = shape_of(x)[1:]
    kind = b.pick(["transpose", "shuffle", "gather", "to depth", "to space", "reshape"])
    if kind == "transpose":
        return op.transpose(x, np.array(b.pick([[0, 1, 3, 2], [0, 2, 3, 1]])))
    if kind == "shuffle" and channels % 2 == 0:
        return op.shuffle_channels(x, 1, 2)
    if kind == "gather":
        return op.gather(x, ints(0, channels - 1), integer(1))
    if kind == "to depth" and height % 2 == width % 2 == 0 and channels <= 8:
        return op.space_to_depth(x, "blocks_first", 2)
    if kind == "to space" and channels % 4 == 0:
        return op.depth_to_space(x, "blocks_first", 2)
    if kind == "reshape" and height % 2 == 0:
        return op.reshape(x, np.array([0, channels * 2, height // 2, -1]), True)
    return None


def _gate(b: Builder, x: Any) -> Any:
    pooled = op.reduce_mean(x, np.array([2, 3]), True)
    return op.multiply(x, op.sigmoid(b.net.bias(b.net.conv(pooled, shape_of(x)[1], 1))))


def _residual(b: Builder, x: Any) -> Any:
    y = b.net.bias(b.net.conv(op.relu(b.net.bias(b.net.conv(x, 8))), shape_of(x)[1]))
    return op.relu(op.add(y, x))


def _to_sequence(b: Builder, x: Any) -> Any:
    channels = shape_of(x)[1]
    y = op.reshape(x, np.array([0, channels, -1]), True)
    return None if shape_of(y)[2] > 256 else op.transpose(y, np.array([0, 2, 1]))


def _dense(b: Builder, x: Any) -> Any:
    size, out, transposed = shape_of(x)[2], b.pick([8, 16]), b.pick([True, False])
    y = op.matmul(x, b.weights(out, size) if transposed else b.weights(size, out), False, transposed)
    return op.add(y, b.net.weights(out, fan_in=10)) if b.pick([True, False]) else y


def _dense_batched(b: Builder, x: Any) -> Any:
    return op.matmul(x, b.weights(1, shape_of(x)[2], 8), False, False)


def _constant_first(b: Builder, x: Any) -> Any:
    if b.pick([True, False]):
        return op.matmul(b.weights(8, shape_of(x)[1]), x, False, False)
    return op.matmul(b.weights(8, shape_of(x)[2]), x, False, True)


def _products(b: Builder, x: Any) -> Any:
    y = b.pick(b.partners(x, 1))
    product = op.matmul(x, y, False, True)
    if b.pick([True, False]) or shape_of(x) != shape_of(y):
        return product
    return op.matmul(op.softmax(product, -1), y, False, False)


def _attention(b: Builder, x: Any) -> Any:
    q, k, v = (b.net.dense(x, 16) for _ in range(3))
    if b.pick([True, False]):
        return b.net.dense(op.scaled_dot_product_attention(q, k, v), shape_of(x)[2])
    scores = op.softmax(op.multiply(op.matmul(q, k, False, True), np.float32(0.25)), -1)
    return b.net.dense(op.matmul(scores, v, False, False), shape_of(x)[2])


def _sequence_transpose(b: Builder, x: Any) -> Any:
    return op.transpose(x, np.array([0, 2, 1]))


def _to_image(b: Builder, x: Any) -> Any:
    return op.unsqueeze(op.transpose(x, np.array([0, 2, 1])), integer(3))


def _conv1d(b: Builder, x: Any) -> Any:
    return op.convolution(x, b.weights(8, shape_of(x)[1], 3), *_window(x, 1, 1))


def _state(b: Builder, x: Any) -> Any:
    if b.sinks:
        return None
    shape = shape_of(x)
    start = op.constant(np.zeros(shape, np.float32))
    read = op.read_value(start, "state", ov.Type.f32, ov.PartialShape(shape))
    y = op.add(op.multiply(read, np.float32(0.5)), x)
    b.sinks.append(op.assign(y, "state"))
    return y


def _flatten(b: Builder, x: Any) -> Any:
    size = int(np.prod(shape_of(x)[1:]))
    return None if size > 512 else op.reshape(x, np.array([1, size]), False)


def _dense_rows(b: Builder, x: Any) -> Any:
    return b.net.dense(x, b.pick([4, 8]))


def _columns(b: Builder, x: Any) -> Any:
    return op.matmul(x, b.weights(shape_of(x)[1], 8), True, False)


def _heads(b: Builder, x: Any) -> Any:
    length, size = shape_of(x)[1:]
    if length > 64:
        return None

    def split(y: Any) -> Any:
        return op.transpose(op.reshape(y, np.array([0, 0, 2, 4]), True), np.array([0, 2, 1, 3]))

    q, k, v = (split(b.net.dense(x, 8)) for _ in range(3))
    scores = op.softmax(op.multiply(op.matmul(q, k, False, True), np.float32(0.5)), -1)
    mixed = op.transpose(op.matmul(scores, v, False, False), np.array([0, 2, 1, 3]))
    return op.add(b.net.dense(op.reshape(mixed, np.array([0, 0, 8]), True), size), x)


def _lopsided(b: Builder, x: Any) -> Any:
    weights, pads = b.weights(4, shape_of(x)[1], 3, 3), b.pick([("same_upper", 2), ("same_lower", 2), ("explicit", 1)])
    return op.convolution(x, weights, [pads[1]] * 2, [0, 1], [1, 0], [1, 1], pads[0])


def _batch_norm(b: Builder, x: Any) -> Any:
    size = shape_of(x)[1]
    gamma, beta, mean = (b.net.weights(size, fan_in=4) for _ in range(3))
    return op.batch_norm_inference(x, gamma, beta, mean, op.constant(np.full(size, 0.7, np.float32)), 1e-5)


def _by_channel(b: Builder, x: Any) -> Any:
    means = op.reduce_mean(x, np.array([2, 3]), True)
    return b.pick([op.add, op.multiply])(*b.pick([(x, means), (means, x)]))


def _volume(b: Builder, x: Any) -> Any:
    y = op.convolution(
        op.unsqueeze(x, integer(2)), b.weights(4, shape_of(x)[1], 1, 3, 3), [1] * 3, [0, 1, 1], [0, 1, 1], [1] * 3
    )
    return op.squeeze(y, integer(2))


def _half_and_back(b: Builder, x: Any) -> Any:
    return op.convert(op.convert(x, np.float16), np.float32)


def _chosen_rows(b: Builder, x: Any) -> Any:
    count = integer(min(2, shape_of(x)[1]))  # OpenVINO reads beyond a shorter axis
    best = op.topk(op.reduce_mean(x, np.array([2])), count, 1, "max", "index", "i64")
    return op.gather(x, op.squeeze(best.output(1), integer(0)), integer(1))


COMMON: dict[str, Callable[[Builder, Any], Any]] = {
    "activation": _activation,
    "concat": _concat(1),
    "reduce": _reduce,
    "slice": _slice,
    "split": _split,
    "state": _state,
    "two": _two,
    "with constant": _with_constant,
}
IMAGE = COMMON | {
    "conv": _conv,
    "conv again": _conv,
    "deconv": _deconv,
    "depthwise": _depthwise,
    "gate": _gate,
    "grouped": _grouped,
    "pad": _pad,
    "pool": _pool,
    "rearrange": _rearrange,
    "residual": _residual,
    "resize": _resize,
    "to sequence": _to_sequence,
}
SEQUENCE = COMMON | {
    "attention": _attention,
    "concat last": _concat(-1),
    "constant first": _constant_first,
    "conv": _conv1d,
    "dense": _dense,
    "dense again": _dense,
    "dense batched": _dense_batched,
    "layer norm": lambda b, x: b.net.layer_norm(x),
    "products": _products,
    "softmax": lambda b, x: op.softmax(x, -1),
    "to image": _to_image,
    "transpose": _sequence_transpose,
}
TABLES = {4: IMAGE, 3: SEQUENCE}
WIDER_TABLES = {
    4: IMAGE
    | {
        "batch norm": _batch_norm,
        "by channel": _by_channel,
        "flatten": _flatten,
        "half and back": _half_and_back,
        "lopsided": _lopsided,
        "volume": _volume,
    },
    3: SEQUENCE
    | {
        "chosen rows": _chosen_rows,
        "columns": _columns,
        "flatten": _flatten,
        "half and back": _half_and_back,
        "heads": _heads,
    },
    2: {
        "activation": _activation,
        "concat": _concat(1),
        "dense rows": _dense_rows,
        "dense rows again": _dense_rows,
        "softmax": lambda b, x: op.softmax(x, -1),
        "split": _split,
        "two": _two,
        "with constant": _with_constant,
    },
}
