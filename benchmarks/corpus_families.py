"""Small networks of the kinds that NNCF and onnxruntime test quantization with, rebuilt from what they hold.

Each is a function that adds its operations to a :class:`Net` and returns the outputs; ``FAMILIES`` names them all. The
weights are random, with He's variance. ``corpus_models.py`` writes them as files.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from building import Net, integer, ints, max_pool, nchw, nhwc, op, resize, shape_of  # noqa: E402
from recurrent_layers import recurrent  # noqa: E402

from calib.runtime.session import ov  # noqa: E402

Outputs = Any  # a tensor or a tuple of tensors
Network = Callable[[Net], Outputs]


def images(net: Net, channels: int = 3, side: int = 16) -> Any:
    return net.input(1, channels, side, side)


def block(net: Net, x: Any, out: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> Any:
    """Add a convolution with its bias and a Relu."""
    return op.relu(net.bias(net.conv(x, out, kernel, stride, groups=groups)))


def head(net: Net, x: Any, classes: int = 10) -> Any:
    """Add a mean over space and a dense layer."""
    rank = len(shape_of(x))
    return net.dense(op.reduce_mean(x, ints(*range(2, rank)), False), classes)


def behind_stem(layer: Callable[[Net, Any], Any], channels: int = 8) -> Network:
    """Return a network of a stem, what ``layer`` adds, and a head."""
    return lambda net: head(net, layer(net, block(net, images(net), channels)))


def alone(layer: Callable[[Net, Any], Any], *shape: int) -> Network:
    """Return a network of an input and what ``layer`` adds."""
    return lambda net: layer(net, net.input(*shape))


def random(net: Net, *shape: int) -> np.ndarray:
    return (net.rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)


def conv_with(weights: Callable[[Net], Any]) -> Network:
    """Return a network whose convolution gets its weights, 8 x 3 x 3 x 3, from a subgraph of constants."""
    return lambda net: head(net, op.relu(op.convolution(images(net), weights(net), [1, 1], [1, 1], [1, 1], [1, 1])))


def squeeze_excite(net: Net, x: Any) -> Any:
    channels = shape_of(x)[1]
    pooled = op.reduce_mean(x, ints(2, 3), True)
    gate = op.sigmoid(net.bias(net.conv(block(net, pooled, 4, 1), channels, 1)))
    return op.multiply(x, gate)


def inverted_residual(net: Net, x: Any) -> Any:
    wide = op.clamp(net.bias(net.conv(x, 24, 1)), 0, 6)
    deep = op.clamp(net.bias(net.depthwise(wide)), 0, 6)
    return op.add(net.bias(net.conv(deep, shape_of(x)[1], 1)), x)


def residual(net: Net, x: Any) -> Any:
    channels = shape_of(x)[1]
    return op.relu(op.add(net.bias(net.conv(block(net, x, channels), channels)), x))


def residual_down(net: Net, x: Any) -> Any:
    inner = net.bias(net.conv(block(net, x, 16, stride=2), 16))
    return op.relu(op.add(inner, net.bias(net.conv(x, 16, 1, 2))))


def preactivated(net: Net, x: Any) -> Any:
    channels = shape_of(x)[1]
    normal = op.relu(net.bias(op.multiply(x, op.constant(np.float32(0.7)))))
    return op.add(net.conv(op.relu(net.conv(normal, channels)), channels), x)


def inception(net: Net, x: Any) -> Any:
    return op.concat([block(net, x, 4, 1), block(net, block(net, x, 4, 1), 8), block(net, x, 4, 5),
                      block(net, max_pool(x, 3, 1), 4, 1)], 1)  # fmt: skip


def dense_block(net: Net, x: Any) -> Any:
    for _ in range(3):
        x = op.concat([x, block(net, x, 4)], 1)
    return x


def nested_concat(net: Net, x: Any) -> Any:
    inner = op.concat([block(net, x, 4), block(net, x, 4, 1)], 1)
    outer = op.concat([inner, block(net, x, 8, 1)], 1)
    return block(net, op.concat([outer, inner], 1), 8, 1)


def fire(net: Net, x: Any) -> Any:
    squeezed = block(net, x, 4, 1)
    return op.concat([block(net, squeezed, 8, 1), block(net, squeezed, 8)], 1)


def shuffle(net: Net, x: Any) -> Any:
    left, right = op.split(x, integer(1), 2).outputs()
    right = block(net, net.bias(net.depthwise(block(net, right, 4, 1))), 4, 1)
    joined = op.concat([left, right], 1)
    height = shape_of(joined)[2]
    turned = op.transpose(op.reshape(joined, ints(1, 2, -1, height, height), False), np.array([0, 2, 1, 3, 4]))
    return op.reshape(turned, ints(1, -1, height, height), False)


def variadic(net: Net, x: Any) -> Any:
    a, b, c = op.variadic_split(x, integer(1), ints(2, 2, 4)).outputs()
    return op.concat([block(net, a, 4), op.add(block(net, b, 2), a), block(net, c, 4, 1)], 1)


def crop(net: Net, x: Any) -> Any:
    left = op.strided_slice(x, ints(0, 0, 2, 2), ints(0, 0, 14, 14), ints(1, 1, 1, 1), [1, 1, 0, 0], [1, 1, 0, 0])
    return block(net, op.concat([left, op.slice(x, ints(1, 1), ints(13, 13), ints(1, 1), ints(2, 3))], 1), 8)


def ghost(net: Net, x: Any) -> Any:
    main = block(net, x, 8, 1)
    return op.concat([main, op.relu(net.bias(net.depthwise(main)))], 1)


def shape_of_subgraph(net: Net, x: Any) -> Any:
    """Resize one branch to the size of the other, which is read at run time."""
    small = block(net, x, 8, stride=2)
    size = op.gather(op.shape_of(x), ints(2, 3), integer(0))
    return op.concat([x, op.interpolate(small, size, "nearest", "sizes", axes=ints(2, 3))], 1)


def flatten_by_shape(net: Net) -> Any:
    x = block(net, images(net, 3, 8), 4, stride=2)
    batch = op.gather(op.shape_of(x), ints(0), integer(0))
    return net.dense(op.reshape(x, op.concat([batch, ints(64)], 0), False).output(0), 10)


def instance_norm(net: Net, x: Any) -> Any:
    normal = op.mvn(net.conv(x, 8), ints(2, 3), True, 1e-5, "INSIDE_SQRT")
    return op.relu(net.bias(op.multiply(normal, net.weights(1, 8, 1, 1, fan_in=2))))


def group_norm(net: Net, x: Any) -> Any:
    scale, shift = net.weights(8, fan_in=2), net.weights(8, fan_in=10)
    return op.relu(op.group_normalization(net.conv(x, 8), scale, shift, 2, 1e-5))


def normalized_l2(x: Any) -> Any:
    return op.multiply(op.normalize_l2(x, ints(1), 1e-5, "add"), np.float32(4))


def batch_norm(net: Net, x: Any) -> Any:
    y, size = net.conv(x, 8), (8,)
    scale = op.constant(net.rng.uniform(0.5, 1.5, size).astype(np.float32))
    values = [op.constant(net.rng.standard_normal(size).astype(np.float32) * 0.1) for _ in range(2)]
    variance = op.constant(net.rng.uniform(0.5, 1.5, size).astype(np.float32))
    return op.relu(op.batch_norm_inference(y, scale, *values, variance, 1e-5))


def unet(net: Net) -> Any:
    x = images(net)
    first = block(net, x, 8)
    second = block(net, max_pool(first), 16)
    third = block(net, max_pool(second), 16)
    up = op.concat([op.relu(net.bias(net.deconv(third, 16))), second], 1)
    up = op.concat([op.relu(net.bias(net.deconv(block(net, up, 16), 8))), first], 1)
    return net.bias(net.conv(block(net, up, 8), 2, 1))


def segmenter(net: Net) -> Any:
    """Dilated branches side by side and a mean over the picture, resized to it (ASPP)."""
    x = block(net, block(net, images(net), 8, stride=2), 8)
    branches = [op.relu(net.bias(net.conv(x, 4, 3, dilation=d))) for d in (1, 2, 3)]
    pooled = block(net, op.reduce_mean(x, ints(2, 3), True), 4, 1)
    spread = op.interpolate(pooled, ints(8, 8), "linear_onnx", "sizes", axes=ints(2, 3))
    y = block(net, op.concat([*branches, spread], 1), 8, 1)
    return resize(net.conv(y, 3, 1), 16, "linear_onnx")


def pyramid(net: Net) -> Outputs:
    """Sums of a small map, resized, with a large one (FPN)."""
    low = block(net, images(net, 3, 32), 8, stride=2)
    mid = block(net, low, 8, stride=2)
    high = block(net, mid, 8, stride=2)
    top = net.bias(net.conv(high, 8, 1))
    middle = op.add(net.bias(net.conv(mid, 8, 1)), resize(top, 8))
    bottom = op.add(net.bias(net.conv(low, 8, 1)), resize(middle, 16))
    return tuple(net.bias(net.conv(one, 8)) for one in (top, middle, bottom))


def anchors(net: Net) -> Outputs:
    """Scores and boxes of two maps, joined (SSD)."""
    first = block(net, block(net, images(net, 3, 32), 8, stride=2), 16, stride=2)
    second = block(net, first, 16, stride=2)
    joined = []
    for size in (4, 6):
        maps = [nhwc(net.bias(net.conv(one, size))) for one in (first, second)]
        joined.append(op.concat([op.reshape(one, ints(1, -1, size // 2), False) for one in maps], 1))
    return joined[0], op.softmax(joined[1], -1)


def yolo(net: Net) -> Any:
    x = net.bias(net.conv(images(net, 3, 32), 8, 3, 2))
    x = op.multiply(x, op.sigmoid(x))
    left, right = op.split(x, integer(1), 2).outputs()
    right = op.add(op.swish(net.bias(net.conv(op.swish(net.bias(net.conv(right, 4))), 4))), right)
    x = op.swish(net.bias(net.conv(op.concat([left, right], 1), 16, 1)))
    pools: list[Any] = [x]
    for _ in range(2):
        pools.append(op.max_pool(pools[-1], [1, 1], [1, 1], [2, 2], [2, 2], [5, 5]).output(0))
    x = op.swish(net.bias(net.conv(op.concat(pools, 1), 16, 1)))
    grid = op.reshape(net.bias(net.conv(x, 18, 1)), ints(1, 3, 6, -1), False)
    xy, rest = op.variadic_split(
        op.sigmoid(op.transpose(grid, np.array([0, 1, 3, 2]))), integer(3), ints(2, 4)
    ).outputs()
    return op.concat(
        [op.multiply(op.subtract(op.multiply(xy, np.float32(2)), np.float32(0.5)), np.float32(8)), rest], 3
    )


def suppressed(net: Net) -> Outputs:
    x = block(net, images(net), 8, stride=2)
    boxes = op.reshape(net.bias(net.conv(x, 4)), ints(1, -1, 4), False)
    scores = op.reshape(op.sigmoid(net.bias(net.conv(x, 2))), ints(1, 2, -1), False)
    return boxes, scores, op.non_max_suppression(boxes, scores, integer(5), np.float32(0.5), np.float32(0.1)).output(0)


def super_resolution(net: Net) -> Any:
    x = block(net, block(net, images(net), 16, 5), 8)
    return op.depth_to_space(net.bias(net.conv(x, 12)), "depth_first", 2)


def focus(net: Net) -> Any:
    return head(net, block(net, op.space_to_depth(images(net), "blocks_first", 2), 8))


def matmul_with(shape: tuple[int, ...], data: tuple[int, ...], a: bool, b: bool) -> Network:
    """Return a network of a MatMul with constant weights, and a second one behind a Relu."""

    def network(net: Net) -> Any:
        y = op.relu(op.matmul(net.input(*data), net.weights(*shape, fan_in=32), a, b))
        return net.dense(y, 8)

    return network


def products(a: bool, b: bool) -> Network:
    """Return a network of a MatMul of two dense layers' outputs."""

    def network(net: Net) -> Any:
        x = net.input(1, 32, 32)
        left, right = net.dense(x, 32), net.dense(x, 32)
        return net.dense(op.matmul(left, right, a, b), 8)

    return network


def shared_dense(net: Net) -> Outputs:
    weights, x, y = net.weights(16, 16), net.input(1, 16), net.input(1, 16)
    return tuple(op.add(op.matmul(one, weights, False, True), net.weights(16, fan_in=10)) for one in (x, y))


def shared_conv(net: Net) -> Outputs:
    weights = net.weights(8, 3, 3, 3)
    sides = [op.convolution(images(net, 3, side), weights, [1, 1], [1, 1], [1, 1], [1, 1]) for side in (16, 8)]
    return tuple(head(net, op.relu(one)) for one in sides)


def siamese(net: Net) -> Any:
    weights = [net.weights(8, 3, 3, 3), net.weights(8, 8, 3, 3)]
    ends = []
    for _ in range(2):
        x = images(net)
        for one in weights:
            x = op.relu(op.convolution(x, one, [2, 2], [1, 1], [1, 1], [1, 1]))
        ends.append(op.reduce_mean(x, ints(2, 3), False))
    return op.reduce_sum(op.multiply(*ends), ints(1), True)


def embedded(net: Net) -> Any:
    ids = net.input(1, 12, dtype=np.int64)
    x = op.gather(net.weights(2, 32, fan_in=4), ids, integer(0))  # samples hold 0 and 1
    return net.dense(op.relu(net.dense(net.layer_norm(x), 64)), 8)


def tied(net: Net) -> Any:
    """Embed words and score them with the same table."""
    table, ids = net.weights(64, 32, fan_in=4), net.input(1, 12, dtype=np.int64)
    x = net.dense(op.gather(table, ids, integer(0)), 32)
    return op.matmul(op.tanh(x), table, False, True)


def heads(x: Any, count: int) -> Any:
    return op.transpose(op.reshape(x, ints(0, 0, count, -1), True), np.array([0, 2, 1, 3]))


def attention(net: Net, x: Any, form: str = "written", kv_heads: int = 4) -> Any:
    """Add attention of four heads, in one of the forms that exporters write."""
    size, count = shape_of(x)[2], 4
    if form == "fused qkv":
        q, k, v = (heads(one, count) for one in op.split(net.dense(x, 3 * size), integer(2), 3).outputs())
    else:
        q = heads(net.dense(x, size), count)
        k, v = (heads(net.dense(x, size * kv_heads // count), kv_heads) for _ in range(2))
    if kv_heads < count:
        k, v = (_repeated(one, count // kv_heads) for one in (k, v))
    if form in ("one", "causal"):
        mixed = op.scaled_dot_product_attention(q, k, v, causal=form == "causal")
    else:
        turned = op.transpose(k, np.array([0, 1, 3, 2])) if form == "transposed" else k
        scores = op.matmul(q, turned, False, form != "transposed")
        scores = op.multiply(scores, np.float32((size // count) ** -0.5))
        if form == "masked":
            scores = op.add(scores, np.triu(np.full((shape_of(x)[1],) * 2, -1e4, np.float32), 1))
        mixed = op.matmul(op.softmax(scores, -1), v, False, False)
    flat = op.reshape(op.transpose(mixed, np.array([0, 2, 1, 3])), ints(0, 0, -1), True)
    return net.dense(flat, size)


def _repeated(x: Any, times: int) -> Any:
    batch, count, length, size = shape_of(x)
    wide = op.broadcast(op.unsqueeze(x, integer(2)), ints(batch, count, times, length, size))
    return op.reshape(wide, ints(batch, count * times, length, size), False)


def transformer(form: str, tokens: int = 64, kv_heads: int = 4, activation: str = "gelu") -> Network:
    def network(net: Net) -> Any:
        x = net.input(1, tokens, 32)
        x = op.add(attention(net, net.layer_norm(x), form, kv_heads), x)
        if activation == "gated":
            y = op.multiply(op.swish(net.dense(net.layer_norm(x), 64)), net.dense(net.layer_norm(x), 64))
        else:
            y = op.gelu(net.dense(net.layer_norm(x), 64), "erf")
        return net.dense(net.layer_norm(op.add(net.dense(y, 32), x)), 8)

    return network


def patches(net: Net) -> Any:
    """Cut a picture in patches for a transformer (ViT), with a token of its own."""
    x = net.bias(net.conv(images(net, 3, 32), 32, 4, 4))
    size = shape_of(x)[2]
    x = op.transpose(op.reshape(x, ints(1, 32, size * size), False), np.array([0, 2, 1]))
    x = op.concat([net.weights(1, 1, 32, fan_in=2), x], 1)
    x = op.add(x, net.weights(1, size * size + 1, 32, fan_in=2))
    x = op.add(attention(net, net.layer_norm(x), "fused qkv"), x)
    return net.dense(op.gather(net.layer_norm(x), integer(0), integer(1)), 10)


def windows(net: Net) -> Any:
    """Attend inside windows of 4 x 4, shifted by two (Swin)."""
    x = op.roll(net.input(1, 8, 8, 32), ints(-2, -2), ints(1, 2))
    x = op.transpose(op.reshape(x, ints(2, 4, 2, 4, 32), False), np.array([0, 2, 1, 3, 4]))
    x = attention(net, net.layer_norm(op.reshape(x, ints(4, 16, 32), False)))
    return net.dense(x, 8)


def convnext(net: Net, x: Any) -> Any:
    y = net.layer_norm(nhwc(net.bias(net.depthwise(x, 7))))
    return op.add(nchw(net.dense(op.gelu(net.dense(y, 32), "tanh"), shape_of(x)[1])), x)


def mixer(net: Net) -> Any:
    x = net.input(1, 16, 32)
    y = op.transpose(net.layer_norm(x), np.array([0, 2, 1]))
    x = op.add(op.transpose(net.dense(op.gelu(net.dense(y, 32), "erf"), 16), np.array([0, 2, 1])), x)
    return net.dense(op.add(net.dense(op.gelu(net.dense(net.layer_norm(x), 64), "erf"), 32), x), 8)


def conformer(net: Net) -> Any:
    x = net.input(1, 32, 32)
    y = op.transpose(net.dense(net.layer_norm(x), 64), np.array([0, 2, 1]))
    left, right = op.split(y, integer(1), 2).outputs()
    y = op.swish(net.bias(net.conv(op.multiply(left, op.sigmoid(right)), 32, 5, groups=32)))
    return net.dense(op.add(net.dense(op.transpose(y, np.array([0, 2, 1])), 32), x), 8)


def wavenet(net: Net) -> Any:
    x = net.input(1, 8, 64)
    for dilation in (1, 2, 4):
        y = op.multiply(op.tanh(net.bias(net.conv(x, 8, 3, dilation=dilation))),
                        op.sigmoid(net.bias(net.conv(x, 8, 3, dilation=dilation))))  # fmt: skip
        x = op.add(net.bias(net.conv(y, 8, 1)), x)
    return net.bias(net.conv(x, 4, 1))


def sequence_model(kind: str, direction: str = "forward", *, late: bool = False, alone: bool = False) -> Network:
    def network(net: Net) -> Any:
        x = net.input(1, 16, 16)
        if alone:
            return recurrent(net, x, kind, direction, late=late)
        x = op.tanh(net.dense(x, 16))
        return net.dense(recurrent(net, x, kind, direction, late=late), 8)

    return network


def crnn(net: Net) -> Any:
    x = block(net, block(net, net.input(1, 1, 8, 32), 8, stride=2), 8)
    x = op.transpose(op.reshape(x, ints(1, 32, 16), False), np.array([0, 2, 1]))
    return op.softmax(net.dense(recurrent(net, x, "lstm", "bidirectional"), 12), -1)


def cell_loop(kind: str) -> Network:
    """Return a network whose recurrent cell runs in a TensorIterator over 16 steps."""

    def network(net: Net) -> Any:
        x, size, gates = op.tanh(net.dense(net.input(1, 16, 16), 16)), 16, {"lstm": 4, "gru": 3}[kind]
        step = op.parameter([1, 1, size], np.float32)
        states = [op.parameter([1, size], np.float32) for _ in range(1 + (kind == "lstm"))]
        weights = [op.constant(random(net, gates * size, size) / 2) for _ in range(2)]
        flat = op.squeeze(step, ints(1))
        bias = op.constant(np.zeros(gates * size, np.float32))
        cell = (op.lstm_cell if kind == "lstm" else op.gru_cell)(flat, *states, *weights, bias, size)
        cell.set_friendly_name(kind)
        ends = [op.result(cell.output(i)) for i in range(len(states))]
        each = op.result(op.unsqueeze(cell.output(0), ints(1)))
        body = ov.Model([*ends, each], [step, *states], "body")
        loop = op.tensor_iterator()
        loop.set_body(body)
        loop.set_sliced_input(step, x.output(0), 0, 1, 1, -1, 1)
        for state, end in zip(states, ends, strict=True):
            start = op.constant(np.zeros((1, size), np.float32))
            loop.set_merged_input(state, start.output(0), end.output(0))
        y = loop.get_concatenated_slices(each.output(0), 0, 1, 1, -1, 1)
        return net.dense(y, 8)

    return network


def branch(net: Net) -> Any:
    """Choose one of two convolutions by a truth value."""
    x = block(net, images(net, 3, 8), 8)
    chosen = op.if_op(op.greater(op.reduce_mean(x, ints(0, 1, 2, 3), False), np.float32(0.1)).output(0))
    bodies = []
    for kernel in (1, 3):
        data = op.parameter([1, 8, 8, 8], np.float32)
        bodies.append((data, op.result(block(net, data, 8, kernel))))
    chosen.set_then_body(ov.Model([bodies[0][1]], [bodies[0][0]], "then"))
    chosen.set_else_body(ov.Model([bodies[1][1]], [bodies[1][0]], "else"))
    chosen.set_input(x.output(0), bodies[0][0], bodies[1][0])
    return head(net, chosen.set_output(bodies[0][1], bodies[1][1]))


def repeated(net: Net) -> Any:
    """Apply a dense layer four times in a Loop."""
    x = op.relu(net.dense(net.input(1, 32), 32))
    data = op.parameter([1, 32], np.float32)
    again = op.result(op.constant(np.array([True])))
    end = op.result(op.add(op.relu(net.dense(data, 32)), data))
    loop = op.loop(integer(4), op.constant(np.array(True)))
    loop.set_function(ov.Model([again, end], [data], "body"))
    loop.set_special_body_ports([-1, 0])
    loop.set_merged_input(data, x.output(0), end.output(0))
    return net.dense(loop.get_iter_value(end.output(0), -1), 8)


def scattered(net: Net) -> Any:
    x = block(net, images(net, 3, 8), 8)
    rows = block(net, x, 8, 1)
    updates = op.gather(rows, ints(0, 2), integer(1))
    return block(net, op.scatter_update(x, ints(1, 3), updates, integer(1)), 8)


def gathered(net: Net, x: Any) -> Any:
    return block(net, op.gather(x, ints(7, 6, 5, 4, 3, 2, 1, 0), integer(1)), 8)


def gathered_elements(net: Net) -> Any:
    x = op.relu(net.dense(net.input(1, 8, 16), 16))
    index = op.constant(net.rng.integers(0, 8, (1, 4, 16)).astype(np.int64))
    return net.dense(op.gather_elements(x, index, 1), 8)


def top_rows(net: Net) -> Any:
    x = op.relu(net.dense(net.input(1, 16, 16), 16))
    scores = op.reshape(net.dense(x, 1), ints(1, 16), False)
    chosen = op.topk(scores, integer(4), 1, "max", "value").output(1)
    return net.dense(op.squeeze(op.gather(x, chosen, integer(1)), ints(0)), 8)


def padded(net: Net, x: Any, mode: str = "constant") -> Any:
    return block(net, op.pad(x, ints(0, 0, 1, 1), ints(0, 0, 1, 1), mode, op.constant(np.float32(0))), 8)


def dynamic(shape: list[int], layers: Callable[[Net, Any], Any]) -> Network:
    """Return a network with dynamic axes, -1."""

    def network(net: Net) -> Any:
        net.inputs.append(op.parameter(ov.PartialShape(shape), np.float32))
        return layers(net, net.inputs[-1])

    return network


def two_inputs(net: Net) -> Any:
    x, y = images(net), net.input(1, 16)
    return net.dense(op.concat([op.reduce_mean(block(net, x, 8), ints(2, 3), False), op.relu(net.dense(y, 8))], 1), 8)


def joint(net: Net) -> Any:
    """Three inputs, added and joined before a convolution."""
    x, y, z = images(net), images(net), images(net)
    return head(net, block(net, op.concat([op.add(x, y), z], 1), 8))


def in_place(net: Net, x: Any) -> Any:
    """Write back to channels of a tensor, as x[:, :4] += … is exported."""
    left, right = op.split(x, integer(1), 2).outputs()
    return block(net, op.concat([op.add(left, block(net, right, 4)), right], 1), 8)


def einsum(net: Net) -> Any:
    x = net.dense(net.input(1, 64, 16), 16)
    scores = op.einsum([x, net.dense(x, 16)], "btc,bsc->bts")
    mixed = op.einsum([op.softmax(scores, -1), x], "bts,bsc->btc")
    return op.einsum([mixed, net.weights(16, 8)], "btc,co->bto")


def detector_mix(net: Net) -> Outputs:
    """One trunk, three heads of three kinds."""
    x = residual(net, block(net, images(net, 3, 32), 8, stride=2))
    return op.sigmoid(net.conv(x, 1, 1)), net.bias(net.conv(x, 4)), head(net, x, 5)


def quantile(x: Any) -> Any:
    return op.multiply(op.divide(op.subtract(x, np.float32(0.4)), np.float32(0.25)), np.float32(1))


def activation(make: Callable[[Any], Any]) -> Network:
    """Return a network with an activation between two convolutions."""
    return behind_stem(lambda net, x: block(net, make(net.bias(net.conv(x, 8))), 8))


def prelu(net: Net, x: Any) -> Any:
    return block(net, op.prelu(net.bias(net.conv(x, 8)), op.constant(np.full(8, 0.25, np.float32))), 8)


def constant_minus(net: Net, x: Any) -> Any:
    return block(net, op.subtract(op.constant(np.float32(1)), op.sigmoid(net.conv(x, 8))), 8)


def byte_image(net: Net) -> Any:
    x = net.input(1, 16, 16, 3, dtype=np.uint8)
    scaled = op.multiply(op.subtract(op.convert(x, "f32"), np.float32(0.5)), np.float32(2))
    return head(net, block(net, nchw(scaled), 8))


def hard_swish_block(net: Net, x: Any) -> Any:
    wide = op.hswish(net.bias(net.conv(x, 16, 1)))
    deep = squeeze_excite(net, op.hswish(net.bias(net.depthwise(wide, 5))))
    return op.add(net.bias(net.conv(deep, shape_of(x)[1], 1)), x)


def bilinear(net: Net) -> Any:
    """Channels times channels: attention between channels, and a gate on the map."""
    x = block(net, images(net, 3, 16), 8)
    flat = op.reshape(x, ints(1, 8, 256), False)
    weights = op.softmax(op.matmul(flat, flat, False, True), -1)
    return head(net, op.add(op.reshape(op.matmul(weights, flat, False, False), ints(1, 8, 16, 16), False), x))


def stacked(net: Net) -> Any:
    """A stack of matrices, one for each expert."""
    x = op.unsqueeze(op.relu(net.dense(net.input(16, 32), 32)), integer(0))
    wide = op.broadcast(x, ints(4, 16, 32))
    y = op.relu(op.matmul(wide, net.weights(4, 32, 32, fan_in=32), False, False))
    return op.reduce_sum(op.matmul(y, net.weights(4, 32, 8, fan_in=32), False, False), ints(0), False)


def autoencoder(net: Net) -> Any:
    x = net.input(1, 64)
    for size in (32, 8, 32, 64):
        x = op.relu(net.dense(x, size))
    return x


def lenet(net: Net) -> Any:
    x = max_pool(op.relu(net.bias(net.conv(images(net, 1, 28), 6, 5))))
    x = max_pool(op.relu(net.bias(net.conv(x, 16, 5))))
    x = op.reshape(x, ints(1, -1), False)
    return net.dense(op.relu(net.dense(op.relu(net.dense(x, 32)), 24)), 10)


def weight_chain(kind: str) -> Network:
    """Return a convolution whose weights are computed from constants."""
    return conv_with(lambda net: {
        "converted": lambda: op.convert(op.constant(random(net, 8, 3, 3, 3).astype(np.float16)), "f32"),
        "reshaped": lambda: op.reshape(op.constant(random(net, 8, 27)), ints(8, 3, 3, 3), False),
        "transposed": lambda: op.transpose(op.constant(random(net, 3, 3, 3, 8)), np.array([3, 2, 0, 1])),
        "multiplied": lambda: op.multiply(op.constant(random(net, 8, 3, 3, 3)),
                                          op.constant(net.rng.uniform(0.5, 2, (8, 1, 1, 1)).astype(np.float32))),
        "padded": lambda: op.pad(op.constant(random(net, 8, 3, 1, 1)), ints(0, 0, 1, 1), ints(0, 0, 1, 1), "constant",
                                 op.constant(np.float32(0))),
        "normalized": lambda: op.normalize_l2(op.constant(random(net, 8, 3, 3, 3)), ints(1, 2, 3), 1e-9, "max"),
        "standardized": lambda: op.mvn(op.constant(random(net, 8, 3, 3, 3)), ints(1, 2, 3), True, 1e-5, "INSIDE_SQRT"),
    }[kind]())  # fmt: skip


FAMILIES: dict[str, Network] = {
    "conv 1d": alone(lambda net, x: head(net, op.relu(net.bias(net.conv(x, 8, 5)))), 1, 4, 64),
    "conv 3d": alone(lambda net, x: head(net, op.relu(net.bias(net.conv(x, 8)))), 1, 3, 8, 8, 8),
    "conv without bias": alone(lambda net, x: head(net, op.relu(net.conv(x, 8))), 1, 3, 16, 16),
    "conv alone": alone(lambda net, x: net.conv(x, 8), 1, 3, 16, 16),
    "conv one channel": alone(lambda net, x: net.bias(net.conv(block(net, x, 8), 1)), 1, 1, 16, 16),
    "conv strided": behind_stem(lambda net, x: block(net, x, 16, 3, 2)),
    "conv dilated": behind_stem(lambda net, x: op.relu(net.bias(net.conv(x, 8, 3, dilation=2)))),
    "conv grouped": behind_stem(lambda net, x: block(net, x, 8, groups=4)),
    "conv grouped 1d": alone(lambda net, x: head(net, block(net, block(net, x, 8), 8, groups=2)), 1, 4, 32),
    "conv grouped 3d": alone(lambda net, x: head(net, block(net, block(net, x, 8), 8, groups=2)), 1, 3, 6, 6, 6),
    "depthwise": behind_stem(lambda net, x: block(net, op.relu(net.bias(net.depthwise(x))), 8, 1)),
    "depthwise 1d": alone(lambda net, x: head(net, block(net, net.depthwise(block(net, x, 8)), 8, 1)), 1, 4, 32),
    "depthwise 3d": alone(lambda net, x: head(net, net.depthwise(block(net, x, 8))), 1, 3, 6, 6, 6),
    "depthwise multiplied": behind_stem(lambda net, x: block(net, net.conv(x, 16, groups=8), 8, 1)),
    "depthwise pair": behind_stem(lambda net, x: op.relu(net.bias(net.depthwise(op.relu(net.bias(net.depthwise(x))))))),
    "deconv": behind_stem(lambda net, x: op.relu(net.bias(net.deconv(x, 8)))),
    "deconv 1d": alone(lambda net, x: net.bias(net.deconv(block(net, x, 8), 4)), 1, 4, 32),
    "deconv 3d": alone(lambda net, x: net.bias(net.deconv(block(net, x, 8), 4)), 1, 3, 4, 4, 4),
    "deconv grouped": behind_stem(lambda net, x: net.bias(net.deconv(x, 8, groups=2))),
    "deconv of the input": alone(lambda net, x: block(net, net.deconv(x, 8), 4), 1, 3, 8, 8),
    "deconv kernel 3": behind_stem(lambda net, x: net.bias(net.deconv(x, 8, 3, 2, 1))),
    "conv with a computed weight": lambda net: op.convolution(images(net), op.reshape(op.relu(net.dense(
        net.input(8, 4), 27)), ints(8, 3, 3, 3), False), [1, 1], [1, 1], [1, 1], [1, 1]),
    **{f"weights {kind}": weight_chain(kind) for kind in (
        "converted", "reshaped", "transposed", "multiplied", "padded", "normalized", "standardized")},
    "weights shared by convs": shared_conv,
    "weights shared by matmuls": shared_dense,
    "siamese": siamese,
    "matmul": matmul_with((32, 16), (1, 8, 32), False, False),
    "matmul b": matmul_with((16, 32), (1, 8, 32), False, True),
    "matmul a": matmul_with((32, 16), (1, 32, 8), True, False),
    "matmul a b": matmul_with((16, 32), (1, 32, 8), True, True),
    "matmul rows": matmul_with((16, 32), (8, 32), False, True),
    "matmul rank 4": matmul_with((32, 16), (1, 4, 8, 32), False, False),
    "matmul stacked": stacked,
    "matmul vector": alone(lambda net, x: op.matmul(net.dense(x, 16), net.weights(16, fan_in=16), False, False), 4, 16),
    "matmul weights left": lambda net: net.dense(op.matmul(net.weights(8, 16), net.input(1, 16, 32), False, False), 8),
    **{f"product{' a' * a}{' b' * b}": products(a, b) for a in (False, True) for b in (False, True)},
    "gemm scaled": alone(lambda net, x: op.add(op.multiply(op.matmul(x, net.weights(8, 16), False, True),
                                                           np.float32(0.5)), net.weights(8, fan_in=9)), 4, 16),
    "einsum": einsum,
    "autoencoder": autoencoder,
    "lenet": lenet,
    "residual": behind_stem(residual),
    "residual twice": behind_stem(lambda net, x: residual(net, residual(net, x))),
    "residual down": behind_stem(residual_down),
    "residual preactivated": behind_stem(preactivated),
    "residual of the input": alone(lambda net, x: head(net, op.relu(op.add(net.conv(x, 3), x))), 1, 3, 16, 16),
    "inverted residual": behind_stem(inverted_residual),
    "two convs added": behind_stem(lambda net, x: op.relu(op.add(net.conv(x, 8), net.bias(net.conv(x, 8, 1))))),
    "inception": behind_stem(inception),
    "dense block": behind_stem(dense_block),
    "nested concat": behind_stem(nested_concat),
    "fire": behind_stem(fire),
    "shuffle": behind_stem(shuffle),
    "variadic split": behind_stem(variadic),
    "ghost": behind_stem(ghost),
    "crop": behind_stem(crop),
    "in place": behind_stem(in_place),
    "concat of inputs": joint,
    "squeeze excite": behind_stem(lambda net, x: block(net, squeeze_excite(net, x), 8)),
    "hard swish block": behind_stem(hard_swish_block),
    **{f"activation {name}": activation(make) for name, make in {
        "swish": op.swish, "x times sigmoid": lambda x: op.multiply(x, op.sigmoid(x)), "hswish": op.hswish,
        "gelu": lambda x: op.gelu(x, "erf"), "clamp": lambda x: op.clamp(x, 0, 6), "tanh": op.tanh, "mish": op.mish,
        "sigmoid": op.sigmoid, "elu": lambda x: op.elu(x, 1.0), "leaky": lambda x: op.prelu(x, np.float32(0.1)),
        "softplus": op.softplus, "hsigmoid": op.hsigmoid, "abs": op.absolute, "square": lambda x: op.multiply(x, x),
    }.items()},
    "activation prelu": behind_stem(prelu),
    "constant minus": behind_stem(constant_minus),
    "scaled between": behind_stem(lambda net, x: block(net, quantile(x), 8)),
    "batch norm": behind_stem(batch_norm),
    "instance norm": behind_stem(instance_norm),
    "group norm": behind_stem(group_norm),
    "layer norm": alone(lambda net, x: net.dense(net.layer_norm(net.dense(x, 32)), 8), 1, 8, 16),
    "l2 norm": behind_stem(lambda net, x: block(net, normalized_l2(x), 8)),
    "average pool": behind_stem(lambda net, x: block(net, op.avg_pool(x, [2, 2], [0, 0], [0, 0], [2, 2], True), 8)),
    "max pool": behind_stem(lambda net, x: block(net, max_pool(x), 8)),
    "reduce max": behind_stem(lambda net, x: block(net, op.reduce_max(x, ints(2, 3), True), 8, 1)),
    "reduce sum": alone(lambda net, x: net.dense(op.reduce_sum(block(net, x, 8), ints(2, 3), False), 8), 1, 3, 8, 8),
    "padded": behind_stem(padded),
    "padded by reflection": behind_stem(lambda net, x: padded(net, x, "reflect")),
    "resized": behind_stem(lambda net, x: block(net, resize(x, 32), 8)),
    "resized linear": behind_stem(lambda net, x: block(net, resize(x, 32, "linear_onnx"), 8)),
    "transposed between": behind_stem(lambda net, x: block(net, op.transpose(x, np.array([0, 1, 3, 2])), 8)),
    "tiled": behind_stem(lambda net, x: block(net, op.tile(x, ints(1, 2, 1, 1)), 8)),
    "shape of": behind_stem(shape_of_subgraph),
    "flatten by shape": flatten_by_shape,
    "gathered": behind_stem(gathered),
    "gathered elements": gathered_elements,
    "scattered": scattered,
    "top rows": top_rows,
    "unet": unet, "segmenter": segmenter, "pyramid": pyramid, "anchors": anchors, "yolo": yolo,
    "suppressed": suppressed, "super resolution": super_resolution, "focus": focus,
    "heads of three kinds": detector_mix,
    "embedding": embedded,
    "embedding tied": tied,
    **{f"transformer {form}": transformer(form) for form in (
        "written", "fused qkv", "transposed", "masked", "one", "causal")},
    "transformer grouped queries": transformer("one", kv_heads=2),
    "transformer few keys": transformer("written", tokens=16),
    "transformer few keys one": transformer("one", tokens=16),
    "transformer gated": transformer("one", activation="gated"),
    "patches": patches, "windows": windows, "convnext": behind_stem(convnext), "mixer": mixer, "conformer": conformer,
    "wavenet": wavenet, "bilinear": bilinear,
    **{f"{kind} {way}": sequence_model(kind, way) for kind in ("lstm", "gru", "rnn")
       for way in ("forward", "reverse", "bidirectional")},
    "gru late": sequence_model("gru", late=True),
    "lstm alone": sequence_model("lstm", alone=True),
    "gru alone": sequence_model("gru", alone=True),
    "crnn": crnn,
    "lstm cell loop": cell_loop("lstm"),
    "gru cell loop": cell_loop("gru"),
    "if": branch, "loop": repeated,
    "dynamic batch": dynamic([-1, 3, 16, 16], lambda net, x: head(net, block(net, x, 8))),
    "dynamic side": dynamic([1, 3, -1, -1], lambda net, x: head(net, residual(net, block(net, x, 8)))),
    "dynamic length": dynamic([1, -1, 16], lambda net, x: net.dense(net.layer_norm(net.dense(x, 32)), 8)),
    "two inputs": two_inputs,
    "bytes": byte_image,
}  # fmt: skip


# Shapes of the samples of networks with dynamic axes.
DYNAMIC = {"dynamic batch": (1, 3, 16, 16), "dynamic side": (1, 3, 20, 12), "dynamic length": (1, 24, 16)}
# Families that are written in f16 too.
HALVED = {"lenet", "residual", "inverted residual", "matmul b", "transformer written", "unet", "lstm forward"}


def made(name: str) -> ov.Model:
    """Return the network of a family; its weights depend on its name's place in the table."""
    net = Net(list(FAMILIES).index(name))
    outputs = FAMILIES[name](net)
    return net.model(*(outputs if isinstance(outputs, tuple) else (outputs,)))
