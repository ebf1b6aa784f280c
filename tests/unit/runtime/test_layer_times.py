"""Running averages become times of single runs."""

from __future__ import annotations

import numpy as np
import pytest

from calib.runtime.executed import executed_nodes
from calib.runtime.layer_times import PROFILED, difference, layer_times, timed_layers
from calib.runtime.session import F32, compile_model, ov

op = ov.opset13


def test_running_averages_are_differenced():
    runs = [9.0, 1.0, 2.0, 2.0, 3.0, 3.0]  # the first one is a warm-up
    snapshots = [(n, {"conv": float(np.mean(runs[:n]))}) for n in (1, 2, 4, 6)]
    assert difference(snapshots)["conv"] == pytest.approx(2.0)


def test_rounding_of_the_counters_never_makes_a_time_negative():
    assert difference([(10, {"conv": 0.002}), (11, {"conv": 0.001})]) == {"conv": 0.0}


def test_a_node_that_ran_late_is_counted_from_nothing():
    assert difference([(2, {}), (4, {"branch": 1.0})]) == {"branch": 2.0}


def test_times_are_under_the_names_of_executed_nodes():
    x = op.parameter([1, 32, 40, 40], ov.Type.f32, name="x")
    weights = op.constant(np.ones((32, 32, 3, 3), np.float32))
    conv = op.convolution(x, weights, [1, 1], [1, 1], [1, 1], [1, 1])
    conv.set_friendly_name("conv")
    compiled = compile_model(ov.Model([op.result(op.relu(conv))], [x], "m"), {**F32, **PROFILED})
    times = layer_times(compiled, [[np.ones((1, 32, 40, 40), np.float32)]])
    assert times["conv"] > 0
    assert set(times) <= {node.name for node in executed_nodes(compiled)}


def test_layers_are_timed_under_their_own_names():
    x = op.parameter([1, 32, 20, 20], ov.Type.f32, name="x")
    conv = op.convolution(x, op.constant(np.ones((32, 32, 3, 3), np.float32)), [1, 1], [1, 1], [1, 1], [1, 1])
    conv.set_friendly_name("conv")
    model = ov.Model([op.result(op.relu(conv))], [x], "m")
    node, time = timed_layers(model, [[np.ones((1, 32, 20, 20), np.float32)]], {})["conv"]
    assert node.precision == "f32"
    assert time is not None and time > 0
