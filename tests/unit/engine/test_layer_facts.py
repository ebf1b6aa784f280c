"""What the report says of a quantizer is what the numbers give."""

from __future__ import annotations

import numpy as np
import pytest

from calib.engine.layer_facts import ONE_THREAD, int8_share, quantizer_facts, thread_notes
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
