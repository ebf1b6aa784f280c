"""The networks of the benchmarks, built in code with random weights: their shapes decide the cost, not their values."""

from __future__ import annotations

import numpy as np

from calib.runtime.session import ov

op = ov.opset13


class _Weights:
    """Random weights scaled so that activations keep their size (He et al., 2015)."""

    def __init__(self, seed: int = 0):
        self._rng = np.random.default_rng(seed)

    def __call__(self, *shape: int, fan_in: int) -> ov.Node:
        values = self._rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / fan_in))
        return op.constant(values)

    def bias(self, *shape: int) -> ov.Node:
        return op.constant(self._rng.standard_normal(shape, np.float32) * np.float32(0.1))


def _named(model: ov.Model) -> ov.Model:
    """Give every node a unique friendly name that does not depend on what was built before."""
    for index, node in enumerate(model.get_ordered_ops()):
        node.set_friendly_name(f"{node.get_type_name().lower()}_{index}")
    return model


def _output(x: ov.Output | ov.Node) -> ov.Output:
    return x.output(0) if isinstance(x, ov.Node) else x


def _conv(w: _Weights, x: ov.Output | ov.Node, out: int, kernel: int, stride: int = 1, groups: int = 1) -> ov.Node:
    channels = _output(x).get_partial_shape()[1].get_length()
    pad = [kernel // 2] * 2
    fan_in = channels // groups * kernel * kernel
    strides, dilations = [stride] * 2, [1, 1]
    if groups == 1:
        y = op.convolution(x, w(out, channels, kernel, kernel, fan_in=fan_in), strides, pad, pad, dilations)
    else:
        weights = w(groups, out // groups, channels // groups, kernel, kernel, fan_in=fan_in)
        y = op.group_convolution(x, weights, strides, pad, pad, dilations)
    return op.add(y, w.bias(1, out, 1, 1))


def _dense(w: _Weights, x: ov.Node, inputs: int, outputs: int) -> ov.Node:
    return op.add(op.matmul(x, w(outputs, inputs, fan_in=2 * inputs), False, True), w.bias(outputs))


def _classify(w: _Weights, x: ov.Output | ov.Node, channels: int, classes: int) -> ov.Node:
    pooled = op.reduce_mean(x, np.array([2, 3]), keep_dims=False)
    return _dense(w, pooled, channels, classes)


def resnet18(size: int = 224) -> ov.Model:
    """ResNet-18 (He et al., 2016) with folded batch normalization; input ``(1, 3, size, size)``."""
    w = _Weights()
    image = op.parameter([1, 3, size, size], np.float32)
    x = op.relu(_conv(w, image, 64, 7, 2))
    x = op.max_pool(x, [2, 2], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)
    channels = 64
    for out in (64, 128, 256, 512):
        for block in range(2):
            stride = 2 if block == 0 and out != 64 else 1
            shortcut = x if stride == 1 and channels == out else _conv(w, x, out, 1, stride)
            y = _conv(w, op.relu(_conv(w, x, out, 3, stride)), out, 3)
            x, channels = op.relu(op.add(y, shortcut)), out
    return _named(ov.Model([_classify(w, x, 512, 1000)], [image], "resnet18"))


def mobilenet_v2(size: int = 224) -> ov.Model:
    """MobileNetV2 (Sandler et al., 2018), width 1, folded; input ``(1, 3, size, size)``."""
    w = _Weights()
    image = op.parameter([1, 3, size, size], np.float32)
    x = op.clamp(_conv(w, image, 32, 3, 2), 0.0, 6.0)
    channels = 32
    for expand, out, count, first_stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for block in range(count):
            stride = first_stride if block == 0 else 1
            wide = channels * expand
            y = op.clamp(_conv(w, x, wide, 1), 0.0, 6.0) if expand > 1 else x
            y = op.clamp(_conv(w, y, wide, 3, stride, groups=wide), 0.0, 6.0)
            y = _conv(w, y, out, 1)
            x = op.add(x, y) if stride == 1 and channels == out else y
            channels = out
    x = op.clamp(_conv(w, x, 1280, 1), 0.0, 6.0)
    return _named(ov.Model([_classify(w, x, 1280, 1000)], [image], "mobilenet_v2"))


def bert_base(seq: int = 128, layers: int = 12) -> ov.Model:
    """The encoder of BERT-base (Devlin et al., 2019); input: embeddings ``(1, seq, 768)``."""
    w = _Weights()
    width, heads = 768, 12
    embeddings = op.parameter([1, seq, width], np.float32)
    x: ov.Node = embeddings
    for _ in range(layers):
        query, key, value = (_heads(_dense(w, x, width, width), seq, heads) for _ in range(3))
        scores = op.softmax(op.multiply(op.matmul(query, key, False, True), np.float32(1 / 8)), 3)
        mixed = op.transpose(op.matmul(scores, value, False, False), np.array([0, 2, 1, 3]))
        x = _normalize(op.add(x, _dense(w, op.reshape(mixed, np.array([1, seq, width]), False), width, width)))
        x = _normalize(op.add(x, _dense(w, op.gelu(_dense(w, x, width, 4 * width), "erf"), 4 * width, width)))
    return _named(ov.Model([x], [embeddings], "bert_base"))


def vision_blocks(tokens: int, width: int = 384, layers: int = 3, *, fused: bool) -> ov.Model:
    """Blocks of ViT-S (Dosovitskiy et al., 2021) and a dense layer; input: embeddings ``(1, tokens, width)``.

    Args:
        tokens: Number of tokens.
        width: Number of channels, 64 a head.
        layers: Number of blocks.
        fused: Whether attention is ScaledDotProductAttention, as torch exports it, or written out as MatMuls.
    """
    w, heads = _Weights(), width // 64
    embeddings = op.parameter([1, tokens, width], np.float32)
    x: ov.Node = embeddings
    for _ in range(layers):
        y = _normalize(x)
        query, key, value = (_heads(_dense(w, y, width, width), tokens, heads) for _ in range(3))
        if fused:
            mixed = op.scaled_dot_product_attention(query, key, value)
        else:
            scores = op.multiply(op.matmul(query, key, False, True), np.float32(1 / 8))
            mixed = op.matmul(op.softmax(scores, 3), value, False, False)
        joined = op.reshape(op.transpose(mixed, np.array([0, 2, 1, 3])), np.array([1, tokens, width]), False)
        x = op.add(x, _dense(w, joined, width, width))
        x = op.add(x, _dense(w, op.gelu(_dense(w, _normalize(x), width, 4 * width), "erf"), 4 * width, width))
    return _named(ov.Model([_dense(w, _normalize(x), width, 16)], [embeddings], "vision_blocks"))


def cached_decoder(seed: int = 0, layers: int = 1, width: int = 64, heads: int = 4) -> ov.Model:
    """Decoder blocks that keep keys and values of earlier tokens in states; input: embeddings ``(1, ?, width)``."""
    w, size = _Weights(seed), width // heads
    embeddings = op.parameter([1, -1, width], np.float32)
    x: ov.Node = embeddings
    sinks: list[ov.Node] = []
    for layer in range(layers):
        y = _normalize(x)
        query, *new = (_heads(_dense(w, y, width, width), 0, heads) for _ in range(3))
        whole: list[ov.Node] = []
        for name, part in zip((f"key {layer}", f"value {layer}"), new, strict=True):
            none = op.constant(np.zeros((1, heads, 0, size), np.float32))
            past = ov.opset6.read_value(none, name, ov.Type.f32, ov.PartialShape([1, heads, -1, size]))
            whole.append(op.concat([past, part], 2))
            sinks.append(ov.opset6.assign(whole[-1], name))
        scores = op.multiply(op.matmul(query, whole[0], False, True), np.float32(size**-0.5))
        mixed = op.transpose(op.matmul(op.softmax(scores, 3), whole[1], False, False), np.array([0, 2, 1, 3]))
        x = op.add(x, _dense(w, op.reshape(mixed, np.array([0, 0, width]), True), width, width))
        x = op.add(x, _dense(w, op.gelu(_dense(w, _normalize(x), width, 2 * width), "erf"), 2 * width, width))
    logits = op.result(_dense(w, _normalize(x), width, 16))
    return _named(ov.Model([logits], sinks, [embeddings], "cached_decoder"))


def _heads(x: ov.Node, seq: int, heads: int) -> ov.Node:
    split = op.reshape(x, np.array([1, seq, heads, -1]), seq == 0)  # 0 for any length
    return op.transpose(split, np.array([0, 2, 1, 3]))


def _normalize(x: ov.Node) -> ov.Node:
    return op.mvn(x, np.array([-1]), True, 1e-12, "INSIDE_SQRT")


def voice_detector(samples: int = 576) -> ov.Model:
    """Six 1-D convolutions as in a small voice detector: a filter bank, its magnitude, four layers and a score.

    Input: ``(1, 1, samples)`` of sound.
    """
    w = _Weights()
    sound = op.parameter([1, 1, samples], np.float32)
    bins = 129
    spectrum = op.convolution(sound, w(2 * bins, 1, 256, fan_in=256), [128], [0], [64], [1])
    real, imaginary = op.split(spectrum, 1, 2).outputs()
    x: ov.Node = op.sqrt(op.add(op.multiply(real, real), op.multiply(imaginary, imaginary)))
    channels = bins
    for out, stride in ((128, 1), (64, 2), (64, 2), (128, 1)):
        y = op.convolution(x, w(out, channels, 3, fan_in=3 * channels), [stride], [1], [1], [1])
        x, channels = op.relu(op.add(y, w.bias(1, out, 1))), out
    score = op.convolution(x, w(1, channels, 1, fan_in=channels), [1], [0], [0], [1])
    return _named(ov.Model([op.reduce_mean(op.sigmoid(score), np.array([2]), False)], [sound], "voice_detector"))


def yolov8_head(size: int = 320, classes: int = 20) -> ov.Model:
    """A short backbone with the head of YOLOv8 (Jocher et al., 2023): boxes as distributions over 16 distances.

    Input ``(1, 3, size, size)``; output ``(1, 4 + classes, positions)`` of box centres and sizes in pixels, and scores.
    """
    w, distances = _Weights(), 16
    image = op.parameter([1, 3, size, size], np.float32)

    def swish(x: ov.Output | ov.Node, out: int, stride: int = 1) -> ov.Node:
        return op.swish(_conv(w, x, out, 3, stride))

    x = swish(swish(image, 16, 2), 32, 2)
    maps: list[ov.Node] = []
    for level, out in enumerate((64, 128, 192)):
        x = swish(x, out, 2)
        x = op.add(x, swish(swish(x, out), out))
        strided = 8 * 2**level
        boxes = _conv(w, swish(swish(x, 64), 64), 4 * distances, 1)
        scores = _conv(w, swish(swish(x, 64), 64), classes, 1)
        positions = (size // strided) ** 2
        maps.append(op.reshape(op.concat([boxes, scores], 1), np.array([1, -1, positions]), False))
    joined = op.concat(maps, 2)
    parts = op.variadic_split(joined, 1, np.array([4 * distances, classes]))
    boxes, scores = parts.outputs()
    spread = op.transpose(op.reshape(boxes, np.array([1, 4, distances, -1]), False), np.array([0, 2, 1, 3]))
    steps = op.constant(np.arange(distances, dtype=np.float32).reshape(1, distances, 1, 1))
    distance = op.convolution(op.softmax(spread, 1), steps, [1, 1], [0, 0], [0, 0], [1, 1])
    near, far = op.split(op.reshape(distance, np.array([1, 4, -1]), False), 1, 2).outputs()
    anchors, strides = _anchors(size)
    low, high = op.subtract(anchors, near), op.add(anchors, far)
    centre = op.multiply(op.add(low, high), np.float32(0.5))
    box = op.multiply(op.concat([centre, op.subtract(high, low)], 1), strides)
    return _named(ov.Model([op.concat([box, op.sigmoid(scores)], 1)], [image], "yolov8_head"))


def _anchors(size: int) -> tuple[ov.Node, ov.Node]:
    """Return the centres ``(1, 2, positions)`` of the cells of three maps, and their strides ``(1, 1, positions)``."""
    centres, strides = [], []
    for stride in (8, 16, 32):
        cells = np.arange(size // stride, dtype=np.float32) + np.float32(0.5)
        down, across = np.meshgrid(cells, cells, indexing="ij")
        centres.append(np.stack([across.ravel(), down.ravel()]))
        strides.append(np.full((1, across.size), stride, np.float32))
    return op.constant(np.concatenate(centres, 1)[None]), op.constant(np.concatenate(strides, 1)[None])


def unet(height: int = 1088, width: int = 1920, base: int = 16, depth: int = 4) -> ov.Model:
    """A U-Net (Ronneberger et al., 2015) of the size used on video frames; input ``(1, 3, height, width)``."""
    w = _Weights()
    image = op.parameter([1, 3, height, width], np.float32)
    x: ov.Output | ov.Node = image
    skips = []
    for level in range(depth):
        x = _double(w, x, base * 2**level)
        skips.append(x)
        x = op.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0)
    x = _double(w, x, base * 2**depth)
    for level in reversed(range(depth)):
        upsampled = op.interpolate(
            x, np.array([2.0, 2.0], np.float32), "nearest", "scales", axes=np.array([2, 3]), nearest_mode="floor"
        )
        x = _double(w, op.concat([skips[level], upsampled], 1), base * 2**level)
    return _named(ov.Model([_conv(w, x, 2, 1)], [image], "unet"))


def _double(w: _Weights, x: ov.Output | ov.Node, out: int) -> ov.Node:
    return op.relu(_conv(w, op.relu(_conv(w, x, out, 3)), out, 3))


def chain(tensors: int = 300, channels: int = 16, size: int = 96) -> ov.Model:
    """A chain of as many convolutions as tensors are wanted, each with a signed and large enough input."""
    w = _Weights()
    image = op.parameter([1, channels, size, size], np.float32)
    x: ov.Output | ov.Node = image
    for _ in range(tensors):
        x = op.multiply(op.tanh(_conv(w, x, channels, 1)), np.float32(2))
    return _named(ov.Model([x], [image], "chain"))


def deep_chain(layers: int) -> ov.Model:
    """Convolutions with biases and ReLUs one after the other; input ``(1, 8, 8, 8)``."""
    w = _Weights()
    image = x = op.parameter([1, 8, 8, 8], np.float32)
    for _ in range(layers):
        x = op.relu(_conv(w, x, 8, 3))
    return _named(ov.Model([x], [image], "chain"))


def deep_residual(layers: int) -> ov.Model:
    """Blocks of two convolutions whose output is added to what went in; input ``(1, 8, 8, 8)``."""
    w = _Weights()
    image = op.parameter([1, 8, 8, 8], np.float32)
    x = op.relu(image)
    half = op.constant(np.float32(0.5))  # the sum keeps its size over any number of blocks
    for _ in range(layers // 2):
        y = _conv(w, op.relu(_conv(w, x, 8, 3)), 8, 3)
        x = op.relu(op.add(op.multiply(y, half), x))
    return _named(ov.Model([x], [image], "residual"))


def deep_transformer(layers: int) -> ov.Model:
    """Blocks of eight MatMuls: attention over 4 tokens of 16 numbers, and two dense layers; input ``(1, 4, 16)``."""
    w = _Weights()
    size, axis = 16, op.constant(np.array([-1]))
    tokens = op.parameter([1, 4, size], np.float32)

    def normed(x: ov.Node) -> ov.Node:
        return op.mvn(x, axis, True, 1e-5, "inside_sqrt")

    x: ov.Node = tokens
    for _ in range(max(1, layers // 8)):
        y = normed(x)
        query, key, value = (_dense(w, y, size, size) for _ in range(3))
        scores = op.multiply(op.matmul(query, key, False, True), op.constant(np.float32(size**-0.5)))
        x = op.add(x, _dense(w, op.matmul(op.softmax(scores, -1), value, False, False), size, size))
        x = op.add(x, _dense(w, op.gelu(_dense(w, normed(x), size, size), "erf"), size, size))
    return _named(ov.Model([normed(x)], [tokens], "transformer"))
