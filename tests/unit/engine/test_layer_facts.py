"""What the report says of a quantizer is what the numbers give."""

from __future__ import annotations

import numpy as np
import pytest
from building import Net

from calib.engine.layer_facts import (
    ONE_THREAD,
    int8_share,
    layer_facts,
    quantizer_facts,
    recurrent_notes,
    thread_notes,
)
from calib.graph.placement import planned
from calib.graph.view import GraphView, sized
from calib.ranges import ESTIMATORS
from calib.report import digest
from calib.report.numbers import significant
from calib.runtime.executed import Executed, Ran
from calib.values.facts import LayerFacts
from calib.values.plan import ActivationQuantizer, Port, QuantizationPlan, Range, Route, Scheme, TensorId
from calib.values.summary import Histogram, TensorSummary

X = TensorId("x")
VALUES = np.random.default_rng(0).standard_t(3, 20_000).astype(np.float32)


def summary_of(values: np.ndarray) -> TensorSummary:
    low, high = float(values.min()), float(values.max())
    return TensorSummary(X, 1, low, high, low, high, Histogram.of(values), histogram_samples=1)


def facts_of(chosen: Range, values: np.ndarray = VALUES):
    route = Route(Port("conv", 0), Port("conv", 0))
    quantizer = ActivationQuantizer(X, frozenset({route}), Scheme.ASYMMETRIC, range=chosen)
    return quantizer_facts(QuantizationPlan((), (quantizer,), ()), {X: summary_of(values)})[0]


def test_auto_is_shown_as_the_estimator_that_it_took():
    chosen = ESTIMATORS["auto"](summary_of(VALUES), Scheme.ASYMMETRIC, 256)
    found = facts_of(chosen)
    assert chosen.estimator == "auto" and found.estimator != "auto"
    assert found.candidates[found.estimator] == (found.low, found.high) == (chosen.low, chosen.high)
    assert chosen.reason.startswith(f"{found.estimator} has the smallest")


def test_an_estimator_of_the_users_own_keeps_its_name():
    assert facts_of(Range(-1.0, 1.0, "mine")).estimator == "mine"


@pytest.mark.parametrize("values", [VALUES, np.abs(VALUES), np.array([-1.0, 0.3, 254.9], np.float32)])
def test_a_range_of_the_exact_extremes_clips_nothing(values: np.ndarray):
    low, high = min(float(values.min()), 0.0), float(values.max())
    assert facts_of(Range(low, high, "minmax"), values).clipped == 0


def test_clipped_share_is_that_of_the_values_outside():
    outside = np.abs(VALUES) > 2.5
    assert facts_of(Range(-2.5, 2.5, "kl")).clipped == pytest.approx(outside.mean(), rel=0.02)


@pytest.mark.parametrize(
    ("value", "text"), [(0.9997, "1.00"), (9.996, "10.0"), (99.96, "100"), (0.99949, "0.999"), (-0.09999, "−0.100")]
)
def test_rounding_up_adds_no_digit(value: float, text: str):
    assert significant(value) == text


def test_what_differs_between_threads_is_said_and_counts_as_int8():
    two = LayerFacts(name="a", type="MatMul", macs=3, planned="int8", executed="i8", executed_one_thread="f32")
    one = LayerFacts(name="b", type="MatMul", macs=1, planned="int8", executed="f32", executed_one_thread="i8")
    none = LayerFacts(name="c", type="MatMul", macs=4, planned="int8", executed="f32")
    assert int8_share([two, one, none]) == 0.5
    assert [digest.ran_otherwise(layer) for layer in (two, one, none)] == [False, False, True]
    assert digest.executed_in(two) == "i8, f32 with one thread" and digest.executed_in(none) == "f32 !"
    node = Executed("a", "FullyConnected", "brgemm_avx512_I8", "i8", ("a",))
    first, second = thread_notes([two, one, none], {"a": Ran(node, node)})
    assert "1 layer executed in i8 with two threads for an inference and in f32 with one" in first
    assert "THROUGHPUT gives each: a." in first and second.endswith("b.")
    assert thread_notes([two], {"a": Ran(node)}) == [ONE_THREAD] and thread_notes([none], {}) == []


@pytest.mark.parametrize("steps", [5, 9])
def test_work_is_counted_by_the_shapes_of_a_sample_where_those_of_the_model_are_dynamic(steps: int):
    net = Net()
    model = net.model(net.dense(net.input(1, -1, 8), 16))
    view = GraphView(model)
    plan = planned(view)
    of_sample = sized(model, view, [np.zeros((1, steps, 8), np.float32)])
    (unknown,), (known,) = layer_facts(view, plan, {}), layer_facts(view, plan, {}, of_sample=of_sample)
    assert (unknown.macs, known.macs) == (0, steps * 8 * 16)
    assert known.output_shape == unknown.output_shape == "[1,?,16]"
    assert sized(model, view, [np.zeros((1, 2, 3, 4), np.float32)]) is view  # it does not take such a sample


def test_recurrent_layers_are_named_with_their_share_of_work_and_time():
    def fact(kind: str, executed: str, macs: int, ms: float | None) -> LayerFacts:
        return LayerFacts(name=kind, type=kind, planned="float", executed=executed, macs=macs, time_int8_ms=ms)

    dense, lstm, gru = (
        fact("MatMul", "i8", 50, 1.0),
        fact("LSTMSequence", "i8", 30, 2.0),
        fact("GRUCell", "f32", 20, 1.0),
    )
    (said,) = recurrent_notes([dense, lstm, gru])
    assert said == (
        "The network has 2 recurrent layers, LSTMSequence in INT8 and GRUCell in floating point: 50 % of the "
        "multiply-adds and 75 % of the time of its layers in the INT8 model."
    )
    (untimed,) = recurrent_notes([dense, fact("GRUCell", "f32", 0, None)])
    assert untimed == "The network has 1 recurrent layer, GRUCell in floating point."
    assert recurrent_notes([dense]) == []
