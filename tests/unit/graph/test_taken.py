"""What is taken out of the tensors of a model, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from building import Net, ints, op

from calib.graph.taken import channel_rows
from calib.graph.taps import Kind, Need, expose, tap
from calib.runtime.session import Session, ov
from calib.values.plan import TensorId

X = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
TWICE = TensorId("twice")


def model() -> ov.Model:
    """Return x → "twice"."""
    net = Net()
    twice = op.multiply(net.input(2, 5, 4, 3), np.float32(2))
    twice.set_friendly_name("twice")
    return net.model(twice)


@pytest.mark.parametrize("positions", [None, [0, 7, 11, 12, 23]])
def test_rows_of_channels_are_at_flat_positions_over_batch_and_space(positions):
    chosen = None if positions is None else np.array(positions, np.int64)
    tapped = expose(model(), lambda view: [channel_rows(view.output(TWICE), chosen)])
    rows = np.moveaxis(2 * X, 1, -1).reshape(-1, 5)
    np.testing.assert_array_equal(Session(tapped)([X])[0], rows if chosen is None else rows[chosen])


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(
    ("shape", "axis"), [((1, 20, 9, 11), 1), ((1, 3, 16, 16), 1), ((1, 48, 30), -1), ((1, 400), 1)]
)
def test_values_for_a_histogram_are_about_as_many_as_asked_for_from_all_over_the_tensor(shape, axis, dynamic):
    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    x = op.parameter([-1 if dynamic and at >= 2 else size for at, size in enumerate(shape)], np.float32, name="x")
    plain, tensor = ov.Model([op.result(op.relu(x))], [x]), TensorId("x")
    for asked in (data.size // 4, data.size):
        pieces, taps = tap(plain, {tensor: Need(histogram=True, channel_axis=axis)}, {tensor: asked})
        flat = taps.completed(Session(pieces[0].model)([data])[0])
        position = [segment.kind for segment in taps.segments].index(Kind.VALUES)
        taken = flat[slice(*taps.starts(flat)[position : position + 2])]
        assert set(taken.tolist()) <= set(data.ravel().tolist()) and len(set(taken.tolist())) == len(taken)
        if asked == data.size:
            assert len(taken) == data.size
        else:
            assert asked // 5 <= len(taken) <= asked * (2 if dynamic else 1)
            assert taken.min() < data.size / 4 and taken.max() > data.size / 2


def tokens(kind: str) -> ov.Model:
    """Return a network in which a convolution and, as tokens, something else read "features"."""
    net = Net(1)
    features = op.relu(net.conv(net.input(1, 3, 16, 16), 16, stride=2))
    features.set_friendly_name("features")
    rows = op.transpose(op.reshape(features, ints(1, 16, -1), False), ints(0, 2, 1))
    read = net.dense(rows, 3) if kind == "MatMul" else op.gather(rows, ints(3, 1, 60), ints(1))
    return net.model(read, net.conv(features, 16))


@pytest.mark.parametrize("kind", ["MatMul", "Gather"])
def test_taking_features_that_are_read_as_tokens_changes_nothing_that_the_network_computes(kind):
    x = np.random.default_rng(2).normal(size=(1, 3, 16, 16)).astype(np.float32)
    whole, tensor = tokens(kind), TensorId("features")
    expected = Session(whole)([x])
    rows, *own = Session(expose(whole, lambda view: [channel_rows(view.output(tensor), None)]))([x])
    (piece,), taps = tap(whole, {tensor: Need(histogram=True)}, {tensor: 1 << 14})
    flat, *behind = Session(piece.model)([x])
    assert taps.segments[0].kind is Kind.VALUES
    np.testing.assert_array_equal(flat, rows.ravel())
    for one, other, by_taps in zip(expected, own, behind, strict=True):
        np.testing.assert_array_equal(other, one)
        np.testing.assert_array_equal(by_taps, one)
