"""Random valid networks: convolutions of all kinds, MatMul forms, joins, branches, states, dynamic dimensions.

A network is a list of choices, so the same builder serves hypothesis, which shrinks them, and a long seeded run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
from building import Net, integer, ints, max_pool, op, resize, shape_of
from hypothesis import strategies as st
from numpy.typing import NDArray

from calib.runtime.session import ov

Pick = Callable[[Sequence[Any]], Any]


@dataclass
class Generated:
    """A network, samples that fit it, and the steps that built it."""

    model: ov.Model
    feeds: list[list[NDArray[np.float32]]]
    steps: list[str] = field(default_factory=list)


@st.composite
def networks(draw: Any) -> Generated:
    """Draw a network."""
    return build(lambda options: draw(st.sampled_from(list(options))))


def seeded_network(seed: int) -> Generated:
    """Return the network of a seed."""
    return build(Random(seed).choice)


class _Builder:
    """A network that grows by one step at a time; ``pool`` holds what later steps may read."""

    def __init__(self, pick: Pick):
        self.pick = pick
        self.net = Net(pick(range(8)))
        self.sinks: list[ov.Node] = []
        self.steps: list[str] = []
        self.shared: dict[tuple[int, ...], ov.Node] = {}
        image = pick([True, True, False])
        shape = (1, pick([3, 8]), 8, 8) if image else (1, 6, 16)
        self.pool: list[Any] = [self.net.input(*shape) for _ in range(pick([1, 1, 2]))]

    def step(self) -> None:
        """Apply one operation that fits a tensor of the pool; the newest is read most often."""
        x = self.pick([self.pool[-1], self.pool[-1], *self.pool])
        table = {4: IMAGE, 3: SEQUENCE}[len(shape_of(x))]
        name = self.pick(sorted(table))
        try:
            made = table[name](self, x)
        except RuntimeError:  # shapes that don't fit
            return
        made = made if isinstance(made, list) else [made]
        if made[0] is not None and all(min(shape_of(y)) > 0 for y in made):
            self.steps.append(name)
            self.pool.extend(made)

    def weights(self, *shape: int) -> ov.Node:
        """Return a new constant, or one that another layer has already."""
        if shape in self.shared and self.pick([True, False]):
            return self.shared[shape]
        self.shared[shape] = self.net.weights(*shape)
        return self.shared[shape]

    def partners(self, x: Any, axis: int | None = None) -> list[Any]:
        """Return tensors of the pool with x's shape, but for one axis."""

        def rest(t: Any) -> list[int]:
            return [size for i, size in enumerate(shape_of(t)) if i != axis]

        return [t for t in self.pool if len(shape_of(t)) == len(shape_of(x)) and rest(t) == rest(x)]


def build(pick: Pick) -> Generated:
    """Build a network from choices: ``pick`` returns one of the options it is given."""
    builder = _Builder(pick)
    for _ in range(pick(range(2, 10))):
        builder.step()
    pool = builder.pool
    outputs = [pool[-1], *(t for t in pool[:-1] if pick([False] * 5 + [True]))]
    model = builder.net.model(*outputs, sinks=builder.sinks)
    rng = np.random.default_rng(1)
    shapes = [shape_of(x) for x in builder.net.inputs]
    feeds = [[rng.standard_normal(shape).astype(np.float32) for shape in shapes] for _ in range(3)]
    if pick([False, False, True]):
        _make_dynamic(model, pick)
    return Generated(model, feeds, builder.steps)


def _make_dynamic(model: ov.Model, pick: Pick) -> None:
    """Make axes of the inputs dynamic where the network allows it."""
    before = {i: port.get_partial_shape() for i, port in enumerate(model.inputs)}
    free = pick([(0,), (2,), (0, 2)])
    try:
        model.reshape({i: ov.PartialShape([-1 if a in free else s for a, s in enumerate(shape_of(p))])
                       for i, p in enumerate(model.inputs)})  # fmt: skip
    except RuntimeError:  # a constant shape inside holds the axis fixed
        model.reshape(before)


def _window(x: Any, stride: int, pad: int, dilation: int = 1) -> list[list[int]]:
    dims = len(shape_of(x)) - 2
    return [[stride] * dims, [pad] * dims, [pad] * dims, [dilation] * dims]


def _conv(b: _Builder, x: Any) -> Any:
    kernel, stride, dilation = b.pick([1, 3]), b.pick([1, 1, 2]), b.pick([1, 1, 2])
    weights = b.weights(b.pick([4, 8]), shape_of(x)[1], kernel, kernel)
    return op.convolution(x, weights, *_window(x, stride, dilation * (kernel // 2), dilation))


def _grouped(b: _Builder, x: Any) -> Any:
    channels = shape_of(x)[1]
    if channels % 2:
        return None
    return op.group_convolution(x, b.weights(2, b.pick([1, 4]), channels // 2, 3, 3), *_window(x, 1, 1))


def _depthwise(b: _Builder, x: Any) -> Any:
    y = op.group_convolution(x, b.weights(shape_of(x)[1], b.pick([1, 1, 2]), 1, 3, 3), *_window(x, b.pick([1, 2]), 1))
    return y


def _deconv(b: _Builder, x: Any) -> Any:
    kernel, stride, pad = b.pick([(2, 2, 0), (4, 2, 1), (3, 1, 1)])
    if shape_of(x)[2] > 16:
        return None
    x = op.relu(x) if b.pick([True, False]) else x
    if b.pick([True, True, True, False]):
        return op.convolution_backprop_data(x, b.weights(shape_of(x)[1], 4, kernel, kernel), *_window(x, stride, pad))
    return b.net.deconv(x, shape_of(x)[1], kernel, stride, pad, groups=shape_of(x)[1])


def _activation(b: _Builder, x: Any) -> Any:
    kind = b.pick([op.relu, op.relu, op.swish, op.sigmoid, op.tanh, op.hswish, op.abs, op.negative, "prelu", "clamp",
                   "elu", "gelu"])  # fmt: skip
    if kind == "prelu":
        return op.prelu(x, op.constant(np.float32([b.pick([0.1, -0.2])])))
    if kind == "clamp":
        return op.clamp(x, *b.pick([(0.0, 6.0), (-1.0, 1.0)]))
    if kind == "elu":
        return op.elu(x, 1.0)
    return op.gelu(x, "erf") if kind == "gelu" else kind(x)


def _with_constant(b: _Builder, x: Any) -> Any:
    shape = [1] * len(shape_of(x))
    axis = b.pick([1, 1, len(shape) - 1])
    shape[axis] = b.pick([1, shape_of(x)[axis]])
    kind = b.pick([op.add, op.multiply, op.subtract, op.add])
    pair = (x, b.net.weights(*shape, fan_in=2))
    return kind(*(pair if b.pick([True, True, False]) else pair[::-1]))


def _two(b: _Builder, x: Any) -> Any:
    kind = b.pick([op.add, op.add, op.multiply, op.subtract, op.maximum])
    return kind(x, b.pick(b.partners(x)))


def _concat(axis: int) -> Callable[[_Builder, Any], Any]:
    def concat(b: _Builder, x: Any) -> Any:
        at = axis % len(shape_of(x))
        parts = [x, *(b.pick(b.partners(x, at)) for _ in range(b.pick([1, 2])))]
        if b.pick([False] * 5 + [True]):
            parts.append(b.net.weights(*(2 if i == at else s for i, s in enumerate(shape_of(x))), fan_in=2))
        return None if sum(shape_of(p)[at] for p in parts) > 48 else op.concat(parts, at)

    return concat


def _split(b: _Builder, x: Any) -> Any:
    axis = b.pick([1, len(shape_of(x)) - 1])
    size = shape_of(x)[axis]
    if size < 2:
        return None
    if size % 2 == 0 and b.pick([True, False]):
        return list(op.split(x, integer(axis), 2).outputs())
    return list(op.variadic_split(x, integer(axis), ints(1, size - 1)).outputs())


def _slice(b: _Builder, x: Any) -> Any:
    axis = b.pick([1, len(shape_of(x)) - 1])
    return op.slice(x, ints(0), ints(max(1, shape_of(x)[axis] // 2)), ints(1), ints(axis))


def _pool(b: _Builder, x: Any) -> Any:
    if min(shape_of(x)[2:]) < 2:
        return None
    kind = b.pick(["max", "max same", "average"])
    if kind == "average":
        return op.avg_pool(x, [2, 2], [0, 0], [0, 0], [2, 2], True)
    return max_pool(x) if kind == "max" else max_pool(x, 3, 1)


def _reduce(b: _Builder, x: Any) -> Any:
    kind = b.pick([op.reduce_mean, op.reduce_max, op.reduce_min, op.reduce_sum])
    return kind(x, np.array(b.pick([[2, 3], [1], [3]]) if len(shape_of(x)) == 4 else [b.pick([1, 2])]), True)


def _resize(b: _Builder, x: Any) -> Any:
    return resize(x, b.pick([8, 16]), b.pick(["nearest", "nearest", "linear_onnx"]))


def _pad(b: _Builder, x: Any) -> Any:
    if min(shape_of(x)[2:]) < 2:
        return None
    mode = b.pick(["constant", "reflect", "edge"])
    return op.pad(x, ints(0, 0, 1, 1), ints(0, 0, 1, 1), mode, op.constant(np.float32(b.pick([0.0, 0.0, 3.0]))))


def _rearrange(b: _Builder, x: Any) -> Any:
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


def _gate(b: _Builder, x: Any) -> Any:
    pooled = op.reduce_mean(x, np.array([2, 3]), True)
    return op.multiply(x, op.sigmoid(b.net.bias(b.net.conv(pooled, shape_of(x)[1], 1))))


def _residual(b: _Builder, x: Any) -> Any:
    y = b.net.bias(b.net.conv(op.relu(b.net.bias(b.net.conv(x, 8))), shape_of(x)[1]))
    return op.relu(op.add(y, x))


def _to_sequence(b: _Builder, x: Any) -> Any:
    channels = shape_of(x)[1]
    y = op.reshape(x, np.array([0, channels, -1]), True)
    return None if shape_of(y)[2] > 256 else op.transpose(y, np.array([0, 2, 1]))


def _dense(b: _Builder, x: Any) -> Any:
    size, out, transposed = shape_of(x)[2], b.pick([8, 16]), b.pick([True, False])
    y = op.matmul(x, b.weights(out, size) if transposed else b.weights(size, out), False, transposed)
    return op.add(y, b.net.weights(out, fan_in=10)) if b.pick([True, False]) else y


def _dense_batched(b: _Builder, x: Any) -> Any:
    return op.matmul(x, b.weights(1, shape_of(x)[2], 8), False, False)


def _constant_first(b: _Builder, x: Any) -> Any:
    if b.pick([True, False]):
        return op.matmul(b.weights(8, shape_of(x)[1]), x, False, False)
    return op.matmul(b.weights(8, shape_of(x)[2]), x, False, True)


def _products(b: _Builder, x: Any) -> Any:
    y = b.pick(b.partners(x, 1))
    product = op.matmul(x, y, False, True)
    if b.pick([True, False]) or shape_of(x) != shape_of(y):
        return product
    return op.matmul(op.softmax(product, -1), y, False, False)


def _attention(b: _Builder, x: Any) -> Any:
    q, k, v = (b.net.dense(x, 16) for _ in range(3))
    if b.pick([True, False]):
        return b.net.dense(op.scaled_dot_product_attention(q, k, v), shape_of(x)[2])
    scores = op.softmax(op.multiply(op.matmul(q, k, False, True), np.float32(0.25)), -1)
    return b.net.dense(op.matmul(scores, v, False, False), shape_of(x)[2])


def _sequence_transpose(b: _Builder, x: Any) -> Any:
    return op.transpose(x, np.array([0, 2, 1]))


def _to_image(b: _Builder, x: Any) -> Any:
    return op.unsqueeze(op.transpose(x, np.array([0, 2, 1])), integer(3))


def _conv1d(b: _Builder, x: Any) -> Any:
    return op.convolution(x, b.weights(8, shape_of(x)[1], 3), *_window(x, 1, 1))


def _state(b: _Builder, x: Any) -> Any:
    if b.sinks:
        return None
    shape = shape_of(x)
    start = op.constant(np.zeros(shape, np.float32))
    read = op.read_value(start, "state", ov.Type.f32, ov.PartialShape(shape))
    y = op.add(op.multiply(read, np.float32(0.5)), x)
    b.sinks.append(op.assign(y, "state"))
    return y


COMMON: dict[str, Callable[[_Builder, Any], Any]] = {
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
