from __future__ import annotations

import numpy as np
import pytest

from calib.errors import DataError, MetricError
from calib.metrics.resolve import resolve_metric
from calib.runtime.evaluate import accept_any_feed, evaluate_compiled
from calib.runtime.session import compile_model, ov
from calib.samples.sample import InputSpec, Sample

SAMPLES = [Sample((np.eye(4, dtype=np.float32)[None, i % 4],), i % 4, f"id{i}", f"row {i} of d.npz") for i in range(8)]


op = ov.opset13


def evaluate(samples, metric, references=None):
    """Run a model that gives back its input."""
    x = op.parameter([1, 4], np.float32)
    compiled = compile_model(ov.Model([op.result(x)], [x]), streams=2)
    return evaluate_compiled(compiled, samples, metric, references)


def test_each_sample_gives_a_part_in_order():
    metric = resolve_metric("top-1")
    assert evaluate(SAMPLES, metric) == [1.0] * 8
    shifted = [Sample(s.feed, (s.target + i % 2) % 4, s.id) for i, s in enumerate(SAMPLES)]
    assert evaluate(shifted, metric) == [1.0, 0.0] * 4


def test_a_metric_that_raises_names_the_sample():
    class Raising(type(resolve_metric("top-1"))):
        def measure(self, outputs, target, reference=None):
            if target == 3:
                raise ZeroDivisionError("by zero")
            return 1.0

    with pytest.raises(MetricError, match=r"top-1 raised at sample 3 \(row 3 of d\.npz\): ZeroDivisionError: by zero"):
        evaluate(SAMPLES, Raising(1))


def test_a_refusal_of_a_metric_names_the_sample_too():
    with pytest.raises(MetricError, match=r"sample 0 \(row 9\): top-1: target 7"):
        evaluate([Sample(SAMPLES[0].feed, 7, "id", "row 9")], resolve_metric("top-1"))


def test_missing_targets_and_references_say_the_way_out():
    with pytest.raises(MetricError, match=r"needs a target, and sample 0 .* has none.*\?labels=NAME.*label-free"):
        evaluate([Sample(SAMPLES[0].feed)], resolve_metric("top-1"))
    with pytest.raises(MetricError, match="compares with the FP32 outputs"):
        evaluate(SAMPLES, resolve_metric("agreement"))


def test_references_are_found_by_id():
    references = {s.id: [s.feed[0]] for s in reversed(SAMPLES)}
    assert evaluate(SAMPLES, resolve_metric("agreement"), references) == [1.0] * 8


def each(predict):
    """Return a function of several samples' arrays from one of a sample's."""
    return lambda samples: map(predict, samples)


X = InputSpec("x", ("x",), (1, 2), np.dtype(np.float32))


@pytest.mark.parametrize("feed", [np.ones(2), np.ones((1, 2)), (np.ones(2),), {"x": np.ones(2)}])
def test_predict_takes_whatever_a_sample_is(feed):
    seen = []
    (output,) = accept_any_feed(each(lambda arrays: [seen.append(arrays) or arrays[0] * 2]), [X])(feed)
    assert seen[0][0].dtype == np.float32 and output.tolist() == [[2, 2]]


def test_predict_unstacks_and_stacks_again():
    data = np.arange(6, dtype=np.float32).reshape(3, 2)
    outputs = accept_any_feed(each(lambda arrays: [arrays[0], arrays[0].sum()]), [X])(data)
    assert outputs[0].tolist() == data.tolist() and outputs[1].tolist() == [1, 5, 9]
    with pytest.raises(MetricError, match="one sample at a time"):
        accept_any_feed(each(lambda arrays: [np.ones((1, int(arrays[0][0, 0]) + 1))]), [X])(data)


def test_a_sample_that_the_model_can_not_run_is_refused():
    wide = Sample((np.zeros((1, 5), np.float32),), 0, "wide", "row 8")
    # With two streams sample 7 is still running when sample 8 is refused.
    with pytest.raises(DataError, match=r"can't run on one of the samples from number 7 on: .+"):
        evaluate([*SAMPLES, wide], resolve_metric("top-1"))
