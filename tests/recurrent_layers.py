"""Recurrent layers over the middle axis of ``(batch, steps, values)``, for tests that run them."""

from __future__ import annotations

from typing import Any

import numpy as np
from building import Net, ints, op, shape_of

GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def recurrent(
    net: Net,
    x: Any,
    kind: str,
    direction: str = "forward",
    *,
    late: bool = False,
    hidden: int = 16,
    memory: float = 1.0,
) -> Any:
    """Return the outputs over time of a recurrent layer, which is named after its kind.

    Args:
        net: Network that it is in.
        x: Data, ``(batch, steps, values)``.
        kind: lstm, gru or rnn.
        direction: forward, reverse or bidirectional.
        late: Whether a gru has its reset gate behind the product.
        hidden: Values of its state.
    """
    batch, steps, size = shape_of(x)
    gates, ways = GATES[kind] * hidden, 2 if direction == "bidirectional" else 1
    state = net.rng.standard_normal((ways, gates, hidden)) / np.sqrt(2 * hidden)
    weights = [net.weights(ways, gates, size, fan_in=2 * size), op.constant(state.astype(np.float32))]
    weights.append(net.weights(ways, gates + late * hidden, fan_in=20))
    start = op.constant(np.zeros((batch, ways, hidden), np.float32))
    lengths = op.constant(np.full(batch, steps, np.int64))
    if kind == "lstm":
        y = op.lstm_sequence(x, start, start, lengths, *weights, hidden, direction)
    elif kind == "gru":
        y = op.gru_sequence(x, start, lengths, *weights, hidden, direction, linear_before_reset=late)
    else:
        y = op.rnn_sequence(x, start, lengths, *weights, hidden, direction)
    y.set_friendly_name(kind)
    return op.reshape(op.transpose(y.output(0), ints(0, 2, 1, 3)), ints(0, 0, -1), True)
