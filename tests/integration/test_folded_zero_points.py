"""A zero point that is folded into a bias changes the kernel that runs and none of the numbers."""

from __future__ import annotations

import numpy as np
import pytest
from building import Net, ints, max_pool, nchw, op
from proof import error, prove

from calib.graph.insert import foldable, insert
from calib.graph.taps import tapped_model
from calib.runtime.session import Session


def signed(x):
    """Return data that is mostly positive with a short negative tail: a zero point near the lowest level."""
    return op.subtract(op.softplus(x), op.constant(np.float32(0.4)))


def pointwise():
    net = Net()
    return net.model(net.bias(net.conv(signed(net.input(1, 16, 8, 8)), 32, 1)))


def without_padding():
    net = Net()
    x = op.convolution(signed(net.input(1, 16, 8, 8)), net.weights(8, 16, 3, 3), [1, 1], [0, 0], [0, 0], [1, 1])
    return net.model(x)


def behind_a_pooling():
    net = Net()
    return net.model(net.conv(max_pool(net.conv(signed(net.input(1, 16, 8, 8)), 16, 1)), 8, 1))


def joined():
    net = Net()
    x = net.input(1, 16, 8, 8)
    return net.model(net.conv(op.concat([signed(net.conv(x, 8)), signed(net.conv(x, 16))], 1), 8, 1))


def shared_weights():
    net = Net()
    x, weights = net.input(1, 16, 8, 8), net.weights(16, 16, 1, 1)
    window = [[1, 1], [0, 0], [0, 0], [1, 1]]
    return net.model(op.convolution(signed(op.convolution(signed(x), weights, *window)), weights, *window))


def dense():
    net = Net()
    return net.model(net.dense(signed(net.input(1, 12, 16)), 32))


def matmul():
    net = Net()
    return net.model(op.matmul(signed(net.input(1, 12, 16)), net.weights(16, 32), False, False))


def residual():
    net = Net()
    x = signed(net.conv(net.input(1, 16, 8, 8), 16, 1))
    return net.model(net.conv(op.add(x, net.conv(x, 16, 1)), 8, 1))


def dynamic():
    net = Net()
    return net.model(net.conv(signed(net.input(-1, 16, -1, -1)), 32, 1))


def between_transposes():
    net = Net()
    x = op.transpose(net.conv(nchw(signed(net.input(1, 8, 8, 16))), 16, 1), ints(0, 2, 3, 1))
    return net.model(op.add(x, net.weights(1, 1, 1, 16, fan_in=10)))


FOLDED = {
    f.__name__: f
    for f in (
        pointwise,
        without_padding,
        behind_a_pooling,
        joined,
        shared_weights,
        dense,
        matmul,
        residual,
        dynamic,
        between_transposes,
    )
}


@pytest.mark.parametrize("name", FOLDED)
def test_the_folded_form_has_the_levels_of_the_other_and_runs_in_int8(name):
    proof = prove(FOLDED[name]())
    assert foldable(proof.view, proof.plan)
    assert not proof.broken
    assert proof.computes_what_it_says()
    plain = Session(insert(proof.original, proof.plan))
    levels = error(proof.int8_outputs, proof.float_outputs)
    assert error(proof.int8_outputs, [plain(feed) for feed in proof.feeds]) <= 1e-5 + 0.25 * levels


def padded():
    net = Net()
    return net.model(net.conv(signed(net.input(1, 16, 8, 8)), 16))


def padded_among_others():
    net = Net()
    x = signed(net.input(1, 16, 8, 8))
    return net.model(net.conv(x, 16), net.conv(x, 16, 1))


def padded_behind_a_shared_range():
    net = Net()
    x = net.input(1, 16, 8, 8)
    one, other = signed(net.conv(x, 8)), signed(net.conv(x, 16))
    return net.model(net.conv(op.concat([one, other], 1), 8, 1), net.conv(one, 8))


LEFT = {f.__name__: f for f in (padded, padded_among_others, padded_behind_a_shared_range)}


@pytest.mark.parametrize("name", LEFT)
def test_a_zero_point_stays_where_zeros_are_added(name):
    proof = prove(LEFT[name]())
    assert not foldable(proof.view, proof.plan)
    assert proof.computes_what_it_says()


def test_zeros_that_an_operation_pads_with_are_quantized_behind_it():
    net = Net()
    x = op.space_to_batch(signed(net.input(1, 16, 8, 8)), ints(1, 1, 2, 2), ints(0, 0, 1, 1), ints(0, 0, 1, 1))
    proof = prove(net.model(net.conv(x, 8, 1)))
    assert not proof.broken
    assert proof.computes_what_it_says()  # in front of it they would be the lowest level


def test_a_layer_is_compared_at_the_output_that_it_has_in_floating_point():
    proof = prove(pointwise())
    (layer,) = proof.planned
    ours, theirs = (Session(tapped_model(m, [layer]))(proof.feeds[0])[1] for m in (proof.model, proof.original))
    assert error([[ours]], [[theirs]]) < 0.05
