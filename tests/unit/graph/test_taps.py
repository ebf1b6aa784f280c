"""What is put behind the tensors of a model so that it leaves the model, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from building import Net, op

from calib.graph.taps import channel_moments, expose, tap, tapped_model
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


def test_a_model_of_which_nothing_is_asked_gives_nothing_out():
    _, taps = tap(model(), {}, {})
    assert taps.segments == ()
