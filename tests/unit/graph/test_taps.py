"""What is put behind the tensors of a model so that it leaves the model, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from building import Net, op

from calib.graph.taps import Kind, Need, channel_moments, channel_rows, expose, tap, tapped_model
from calib.graph.view import GraphView
from calib.runtime.session import Session, ov
from calib.values.plan import TensorId

X = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)


def model() -> ov.Model:
    """Return x → "twice" → "relu", which is the only output."""
    net = Net()
    twice = op.multiply(net.input(2, 5, 4, 3), np.float32(2))
    twice.set_friendly_name("twice")
    relu = op.relu(twice)
    relu.set_friendly_name("relu")
    return net.model(relu)


def twice(view: GraphView) -> ov.Output:
    return view.output(TensorId("twice"))


def test_what_is_exposed_comes_first_and_the_model_stays_as_it_is():
    whole = model()
    first, second = Session(expose(whole, lambda view: [twice(view)]))([X])
    np.testing.assert_array_equal(first, 2 * X)
    np.testing.assert_array_equal(second, np.maximum(2 * X, 0))
    (alone,) = Session(expose(whole, lambda view: [twice(view)], own=False))([X])
    np.testing.assert_array_equal(alone, first)
    assert len(whole.outputs) == 1


def test_layers_are_put_out_behind_the_models_own_outputs():
    own, named = Session(tapped_model(model(), ["twice"]))([X])
    np.testing.assert_array_equal(own, np.maximum(2 * X, 0))
    np.testing.assert_array_equal(named, 2 * X)


@pytest.mark.parametrize("axis", [1, 3])
def test_moments_are_those_of_each_channel(axis: int):
    tapped = expose(model(), lambda view: [channel_moments(twice(view), axis)])
    others = tuple(other for other in range(4) if other != axis)
    x = 2 * X.astype(np.float64)
    expected = [x.min(others), x.max(others), (x**2).mean(others)]
    np.testing.assert_allclose(Session(tapped)([X])[0].reshape(3, -1), expected, rtol=1e-6)


@pytest.mark.parametrize("positions", [None, [0, 7, 11, 12, 23]])
def test_rows_of_channels_are_at_flat_positions_over_batch_and_space(positions):
    chosen = None if positions is None else np.array(positions, np.int64)
    tapped = expose(model(), lambda view: [channel_rows(twice(view), chosen)])
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


def test_a_model_of_which_nothing_is_asked_gives_nothing_out():
    _, taps = tap(model(), {}, {})
    assert taps.segments == ()
