"""Timing runs every model on the same feeds, in any mode; no figure is asserted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from calib.errors import UsageError
from calib.runtime import timing
from calib.runtime.session import F32, default_precision, ov
from calib.runtime.timing import TimedModel, measure_speed, time_models
from calib.samples.sample import Frames

op = ov.opset13
WEIGHTS = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
FEEDS = [[np.full((1, 16), value, np.float32)] for value in (0.5, 1.0)]


def network(width: int = 16) -> ov.Model:
    x = op.parameter([1, width], ov.Type.f32, name="x")
    weights = np.resize(WEIGHTS, (width, width))
    return ov.Model([op.result(op.matmul(x, op.constant(weights), False, True))], [x], "network")


def counter() -> ov.Model:
    """Adds its input to a state that is the output: with the state reset, output = input."""
    x = op.parameter([1, 16], ov.Type.f32, name="x")
    state = op.read_value(op.constant(np.zeros((1, 16), np.float32)), "sum")
    total = op.add(x, state)
    return ov.Model([op.result(total)], [op.assign(total, "sum")], [x], "counter")


def brief(models, feeds=FEEDS, **options):
    return time_models(models, feeds, **{"rounds": 6, "seconds": 0.01, **options})


@pytest.mark.parametrize("options", [{}, {"batch": 3}, {"streams": 2, "threads": 2}, {"streams": 2, "batch": 2}])
def test_every_model_is_timed_equally_often(options):
    times = brief([TimedModel("a", network()), TimedModel("b", network(), {})], **options)
    assert [t.name for t in times.models] == ["a", "b"]
    assert times.rounds == 6
    assert all(t.wall_ms.value > 0 and t.cpu_ms.value > 0 for t in times.models)
    assert times["a"].speedup.value == 1


@pytest.mark.parametrize("streams", [1, 2])
def test_stateful_models_are_timed(streams):
    assert brief([TimedModel("a", counter())], streams=streams).rounds == 6


def test_a_model_is_not_changed_by_timing_it_in_batches():
    model = network()
    brief([TimedModel("a", model)], batch=4)
    assert list(model.inputs[0].get_partial_shape().to_shape()) == [1, 16]


def test_a_model_that_takes_no_batch_is_named():
    x = op.parameter([1, 16], ov.Type.f32, name="x")
    fixed = op.reshape(x, op.constant(np.array([4, 4], np.int64)), False)
    model = ov.Model([op.result(fixed)], [x], "fixed")
    with pytest.raises(UsageError, match="stubborn can't be reshaped for a batch of 2"):
        brief([TimedModel("stubborn", model)], batch=2)


@pytest.mark.parametrize(("names", "feeds"), [(["a", "a"], FEEDS), (["a"], []), ([], FEEDS)])
def test_what_can_not_be_timed_is_refused(names, feeds):
    with pytest.raises(UsageError, match="different names and at least one feed"):
        brief([TimedModel(name, network()) for name in names], feeds)


def test_speed_compares_with_f32_and_the_default_precision():
    facts = measure_speed(network(), network(), FEEDS, seconds=0.01).facts
    assert facts.default_precision == default_precision()
    assert min(facts.latency_f32_ms, facts.latency_default_ms, facts.latency_int8_ms) > 0
    assert facts.interval_f32 and facts.interval_f32[0] <= facts.speedup_f32 <= facts.interval_f32[1]
    if default_precision() != "f32":
        assert f"in {default_precision()}, this machine's default" in facts.note


def test_layers_are_timed_beside_the_models_where_they_are_asked_for():
    model, feeds = network(512), [[np.ones((1, 512), np.float32)]]  # smaller ones take 0 of the counters' microseconds
    layer = model.get_results()[0].input_value(0).get_node().get_friendly_name()
    speed = measure_speed(model, network(512), feeds, seconds=0.01, aliases={layer: (), "nowhere": ()})
    assert speed.f32_ms.keys() == speed.default_ms.keys() == {layer}
    assert all(time >= 0 for time in (*speed.f32_ms.values(), *speed.default_ms.values()))
    assert measure_speed(model, network(512), feeds, seconds=0.01).f32_ms == {}


def test_the_config_of_a_model_is_f32_unless_it_says_otherwise():
    assert TimedModel("a", network()).config == F32


class Request:
    """Notes what a request is asked to do."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.query_state = lambda: ["a state"]
        self.reset_state = lambda: self.calls.append("reset")

    def set_input_tensor(self, _: int, tensor: ov.Tensor) -> None:
        self.calls.append(f"{tensor.data[0, 0]:g}")

    def infer(self, *_: object, **__: object) -> None:
        self.calls.append("run")


def test_state_is_reset_for_each_sequence_that_is_timed_and_for_each_single_feed():
    def ran(feed: Any, count: int) -> list[str]:
        request = Request()
        run = timing._one_by_one(SimpleNamespace(create_infer_request=lambda: request))
        run(timing._stack(feed, 1), count)
        return request.calls

    one, two = ((np.full((1, 2), value, np.float32),) for value in (1, 2))
    assert ran(one, 2) == ["1", "reset", "run", "reset", "run"]
    assert ran(Frames([one, two]), 4) == ["1", "reset", "run", "2", "run"] * 2
    assert len(timing._stack(Frames([one] * 100), 1)) == timing.FRAMES
