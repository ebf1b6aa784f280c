"""More kinds of operation for random networks: recurrent, three-dimensional, Einsum, masks, and heads of detectors.

Steps are as in ``network_steps``. An ending turns the last tensor into the outputs of a network: what users read there
is often not what the layers compute, but what is selected or rounded from it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from building import integer, op, shape_of
from network_steps import WIDER_TABLES

from calib.runtime.session import ov

if TYPE_CHECKING:
    from strategies_networks import Builder

Step = Callable[["Builder", Any], Any]


def _recurrent(kind: str) -> Step:
    """Return a step with a recurrent layer over the middle axis of ``(batch, steps, values)``."""
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[kind]

    def step(b: Builder, x: Any) -> Any:
        batch, steps, size = shape_of(x)
        if steps > 64 or size > 64:
            return None
        direction, hidden = b.pick(["forward", "forward", "reverse", "bidirectional"]), b.pick([8, 16])
        ways = 2 if direction == "bidirectional" else 1
        w = b.net.weights(ways, gates * hidden, size, fan_in=2 * size)
        r = b.net.weights(ways, gates * hidden, hidden, fan_in=4 * hidden)
        late = kind == "gru" and b.pick([True, False])
        bias = b.net.weights(ways, (gates + late) * hidden, fan_in=20)
        start = op.constant(np.zeros((batch, ways, hidden), np.float32))
        lengths = op.constant(np.full(batch, steps, np.int64))
        if kind == "lstm":
            y = op.lstm_sequence(x, start, start, lengths, w, r, bias, hidden, direction)
        elif kind == "gru":
            y = op.gru_sequence(x, start, lengths, w, r, bias, hidden, direction, linear_before_reset=late)
        else:
            y = op.rnn_sequence(x, start, lengths, w, r, bias, hidden, direction)
        moved = op.transpose(y.output(0), np.array([0, 2, 1, 3]))  # (batch, ways, steps, hidden) before
        return op.reshape(moved, np.array([0, 0, -1]), True)

    return step


def _einsum(b: Builder, x: Any) -> Any:
    size = shape_of(x)[2]
    kind = b.pick(["weights", "heads", "products"])
    if kind == "weights":
        return op.einsum([x, b.net.weights(size, 12)], "bti,io->bto")
    if kind == "heads":
        return op.reshape(op.einsum([x, b.net.weights(size, 2, 6)], "bti,iho->btho"), np.array([0, 0, -1]), True)
    y = op.einsum([x, b.pick(b.partners(x, 1))], "bti,bsi->bts")
    return op.multiply(y, np.float32(1 / np.sqrt(size)))


def _masked_attention(b: Builder, x: Any) -> Any:
    """Add heads of attention as one operation: plain, causal or with a mask."""
    length, size = shape_of(x)[1:]
    if not 0 < length <= 64:
        return None

    def split(y: Any) -> Any:
        return op.transpose(op.reshape(y, np.array([0, 0, 2, 8]), True), np.array([0, 2, 1, 3]))

    q, k, v = (split(b.net.dense(x, 16)) for _ in range(3))
    kind = b.pick(["plain", "causal", "mask"])
    if kind == "mask":
        hidden = np.triu(np.full((length, length), -1e4, np.float32), 1)
        mixed = op.scaled_dot_product_attention(q, k, v, op.constant(hidden))
    else:
        mixed = op.scaled_dot_product_attention(q, k, v, causal=kind == "causal")
    flat = op.reshape(op.transpose(mixed, np.array([0, 2, 1, 3])), np.array([0, 0, 16]), True)
    return op.add(b.net.dense(flat, size), x)


def _mlp(b: Builder, x: Any) -> Any:
    size = shape_of(x)[-1]
    return op.add(b.net.dense(op.gelu(b.net.dense(b.net.layer_norm(x), 2 * size), "erf"), size), x)


def _volume_conv(b: Builder, x: Any) -> Any:
    return b.net.bias(b.net.conv(x, b.pick([4, 8]), b.pick([1, 3]), b.pick([1, 1, 2])))


def _volume_depthwise(b: Builder, x: Any) -> Any:
    return b.net.depthwise(x)


def _volume_deconv(b: Builder, x: Any) -> Any:
    return None if shape_of(x)[2] > 8 else b.net.deconv(op.relu(x), 4)


def _volume_pool(b: Builder, x: Any) -> Any:
    if min(shape_of(x)[2:]) < 2:
        return None
    return op.max_pool(x, [2] * 3, [1] * 3, [0] * 3, [0] * 3, [2] * 3).output(0)


def _volume_flat(b: Builder, x: Any) -> Any:
    return op.reduce_mean(x, np.array([2]), False)


def _wide_deconv(b: Builder, x: Any) -> Any:
    """Add a deconvolution of stride 4."""
    return None if shape_of(x)[2] > 8 else b.net.deconv(op.relu(x), 4, 8, 4, 2)


def _long_deconv(b: Builder, x: Any) -> Any:
    """Add a deconvolution over one axis."""
    return None if shape_of(x)[2] > 32 else b.net.deconv(x, 8, 4, 2, 1)


def _group_norm(b: Builder, x: Any) -> Any:
    size = shape_of(x)[1]
    groups = 2 if size % 2 == 0 else 1
    return op.group_normalization(x, b.net.weights(size, fan_in=2), b.net.weights(size, fan_in=10), groups, 1e-5)


def _leaky_state(b: Builder, x: Any) -> Any:
    """Keep a running mean over the frames of a sequence."""
    if b.sinks or min(shape_of(x)) < 1:
        return None
    shape = shape_of(x)
    read = op.read_value(op.constant(np.zeros(shape, np.float32)), "mean", ov.Type.f32, ov.PartialShape(shape))
    y = op.add(op.multiply(read, np.float32(0.9)), op.multiply(x, np.float32(0.1)))
    b.sinks.append(op.assign(y, "mean"))
    return op.subtract(x, y) if b.pick([True, False]) else y


RECURRENT = {f"{kind} sequence": _recurrent(kind) for kind in ("lstm", "gru", "rnn")}
KINDS: dict[int, dict[str, Step]] = {
    5: {
        "activation": WIDER_TABLES[4]["activation"],
        "concat": WIDER_TABLES[4]["concat"],
        "two": WIDER_TABLES[4]["two"],
        "volume conv": _volume_conv,
        "volume conv again": _volume_conv,
        "volume deconv": _volume_deconv,
        "volume depthwise": _volume_depthwise,
        "volume flat": _volume_flat,
        "volume pool": _volume_pool,
        "with constant": WIDER_TABLES[4]["with constant"],
    },
    4: WIDER_TABLES[4] | {"group norm": _group_norm, "leaky state": _leaky_state, "wide deconv": _wide_deconv},
    3: WIDER_TABLES[3]
    | RECURRENT
    | {
        "einsum": _einsum,
        "leaky state": _leaky_state,
        "long deconv": _long_deconv,
        "masked attention": _masked_attention,
        "mlp": _mlp,
    },
    2: WIDER_TABLES[2],
}


def rows(b: Builder, x: Any) -> Any:
    """Return a tensor as ``(1, rows, values)``: what heads read."""
    rank = len(shape_of(x))
    if rank == 2:
        return op.unsqueeze(x, integer(1))
    if rank == 3:
        return x
    if shape_of(x)[1] < 8:
        x = op.relu(b.net.conv(x, 16, 1))
    flat = op.reshape(x, np.array([1, shape_of(x)[1], -1]), False)
    return op.transpose(flat, np.array([0, 2, 1]))


def _boxes_and_scores(b: Builder, x: Any) -> tuple[Any, Any]:
    """Return boxes ``(1, n, 4)`` in pixels and scores ``(1, n, 3)``."""
    y = rows(b, x)
    middle = op.multiply(op.sigmoid(b.net.dense(y, 2)), np.float32(320))
    size = op.multiply(op.exp(op.multiply(op.tanh(b.net.dense(y, 2)), np.float32(2))), np.float32(20))
    half = op.multiply(size, np.float32(0.5))
    boxes = op.concat([op.subtract(middle, half), op.add(middle, half)], -1)
    return boxes, op.sigmoid(b.net.dense(y, 3))


def _joined(b: Builder, x: Any) -> list[Any]:
    return [op.concat(list(_boxes_and_scores(b, x)), -1)]


def _suppressed(b: Builder, x: Any) -> list[Any]:
    boxes, scores = _boxes_and_scores(b, x)
    found = op.non_max_suppression(
        boxes, op.transpose(scores, np.array([0, 2, 1])), integer(5), np.float32(0.6), np.float32(0.3)
    )
    return [found.output(0), found.output(1)]


def _best(b: Builder, x: Any) -> list[Any]:
    scores = op.softmax(b.net.dense(_pooled(b, x), 10), -1)
    best = op.topk(scores, integer(3), -1, "max", "value", "i64")
    return [best.output(0), best.output(1)]


def _labels(b: Builder, x: Any) -> list[Any]:
    best = op.topk(b.net.dense(rows(b, x), 6), integer(1), -1, "max", "none", "i32")
    return [op.squeeze(best.output(1), integer(-1))]


def _pixels(b: Builder, x: Any) -> list[Any]:
    """Return the tensor as an image of bytes."""
    scaled = op.multiply(op.sigmoid(x), np.float32(255))
    return [op.convert(op.round(scaled, "half_to_even"), np.uint8)]


def _probabilities(b: Builder, x: Any) -> list[Any]:
    return [op.softmax(b.net.dense(_pooled(b, x), 10), -1)]


def _pooled(b: Builder, x: Any) -> Any:
    rank = len(shape_of(x))
    return x if rank == 2 else op.reduce_mean(rows(b, x), np.array([1]), False)


ENDINGS: dict[str, Callable[[Builder, Any], list[Any]]] = {
    "best three": _best,
    "bytes": _pixels,
    "joined boxes and scores": _joined,
    "labels": _labels,
    "nothing": lambda b, x: [x],
    "nothing again": lambda b, x: [x],
    "probabilities": _probabilities,
    "suppressed": _suppressed,
    "value and logits": lambda b, x: [x, b.net.dense(_pooled(b, x), 10)],
}
"""Name → the outputs that it makes of the last tensor."""
SELECTING = frozenset({"best three", "labels", "suppressed"})
"""Endings that select: nearly equal scores change places, so a small error may change an output wholly."""
