"""Networks whose layers are inside the bodies of If, Loop and TensorIterator, for tests that run them."""

from __future__ import annotations

from typing import Any

import numpy as np
from building import Net, ints, op
from numpy.typing import NDArray

from calib.runtime.session import ov

CHANNELS = 16


def _tower(net: Net, x: Any, layers: int) -> Any:
    for _ in range(layers):
        x = op.relu(net.bias(net.conv(x, CHANNELS)))
    return x


def _named(node: Any, name: str) -> Any:
    node.set_friendly_name(name)
    return node


def choice(size: int = 10) -> ov.Model:
    """Return a network that runs three convolutions or one, as its second input says: If "branch"."""
    net = Net()
    x, flag = net.input(1, CHANNELS, size, size), net.input(dtype=np.bool_)
    inner = [op.parameter([1, CHANNELS, size, size], np.float32) for _ in range(2)]
    then, other = (
        ov.Model([op.result(_tower(net, p, layers))], [p], "body") for p, layers in zip(inner, (3, 1), strict=True)
    )
    node = _named(op.if_op(flag), "branch")
    node.set_then_body(then)
    node.set_else_body(other)
    node.set_input(_tower(net, x, 1).output(0), *inner)
    y = node.set_output(then.get_results()[0], other.get_results()[0])
    return net.model(net.dense(op.reduce_mean(y, ints(2, 3)), 8))


def loop(trips: int | None = 3, size: int = 10) -> ov.Model:
    """Return a network with a state that two convolutions refine: Loop "loop", of trips in its second input if None."""
    net = Net()
    x, inner = net.input(1, CHANNELS, size, size), op.parameter([1, CHANNELS, size, size], np.float32)
    count = net.input(dtype=np.int64) if trips is None else op.constant(np.int64(trips))
    node = _named(op.loop(count, op.constant(np.array(True))), "loop")
    state = op.tanh(net.bias(net.conv(_tower(net, inner, 1), CHANNELS)))
    body = ov.Model([op.result(state), op.result(op.constant(np.array(True)))], [inner], "body")
    node.set_function(body)
    node.set_special_body_ports([-1, 1])
    node.set_merged_input(inner, _tower(net, x, 1).output(0), body.get_results()[0].output(0))
    last = node.get_iter_value(body.get_results()[0].output(0), -1)
    return net.model(net.dense(op.reduce_mean(last, ints(2, 3)), 8))


def iterator(steps: int = 5, width: int = 32) -> ov.Model:
    """Return a network with a recurrent layer written out: TensorIterator "iterator" over axis 1."""
    net = Net()
    x = net.input(1, steps, width)
    step, state = (op.parameter([1, 1, width], np.float32) for _ in range(2))
    body = ov.Model([op.result(op.tanh(op.add(net.dense(step, width), net.dense(state, width))))], [step, state], "b")
    node = _named(op.tensor_iterator(), "iterator")
    node.set_function(body)
    node.set_sliced_input(step, x.output(0), 0, 1, 1, -1, 1)
    start = op.constant(np.zeros((1, 1, width), np.float32)).output(0)
    node.set_merged_input(state, start, body.get_results()[0].output(0))
    return net.model(net.dense(node.get_concatenated_slices(body.get_results()[0].output(0), 0, 1, 1, -1, 1), 8))


NETWORKS = {"If": choice, "Loop": loop, "TensorIterator": iterator}


def samples(model: ov.Model, count: int, seed: int = 0) -> list[tuple[NDArray[Any], ...]]:
    """Return samples of normal values; flags alternate, and numbers of trips go from 0 to 2."""
    rng = np.random.default_rng(seed)
    found: list[tuple[NDArray[Any], ...]] = []
    for number in range(count):
        sample: list[NDArray[Any]] = []
        for port in model.inputs:
            kind = np.dtype(port.get_element_type().to_dtype())
            if kind.kind == "f":
                sample.append(rng.standard_normal(list(port.get_shape())).astype(np.float32))
            else:
                sample.append(np.array(number % (2 if kind.kind == "b" else 3), kind))
        found.append(tuple(sample))
    return found
