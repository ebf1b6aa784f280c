from __future__ import annotations

import numpy as np
import pytest

from calib.corrections.scoring import Bound, Scorer, logits, mean_db, normalized_errors, typical_db
from calib.graph.insert import clone_model
from calib.runtime.session import make_model, ov

op = ov.opset13
rng = np.random.default_rng(5)


def ending_in(*last):
    """Return a network of one MatMul, its scores through what ``last`` makes of them."""
    x = op.parameter([1, 6], np.float32)
    y = op.matmul(x, op.constant(rng.normal(size=(6, 4)).astype(np.float32)), False, False)
    for make in last:
        y = make(y)
    return make_model([op.result(y)], [x], name="scores")


def off(model, factor):
    """Return the network with its weights scaled."""
    other = clone_model(model)
    node = next(n for n in other.get_ordered_ops() if n.get_type_name() == "MatMul")
    scaled = op.constant(np.asarray(node.input_value(1).get_node().data) * np.float32(factor))
    node.input(1).replace_source_output(scaled.output(0))
    return other


def samples(count, scale=1.0):
    return [[(scale * rng.normal(size=(1, 6))).astype(np.float32)] for _ in range(count)]


def test_samples_that_are_equally_wrong_score_their_sqnr():
    reference = [[sign * np.full((1, 5), 2.0, np.float32)] for sign in (1, -1, 1)]
    outputs = [[y + np.float32(0.1)] for (y,) in reference]
    pooled = mean_db(normalized_errors(["y"], reference, outputs))
    assert typical_db(reference, outputs) == pytest.approx(pooled) == pytest.approx(20 * np.log10(20), abs=1e-4)


def test_one_sample_that_is_wrong_by_chance_does_not_decide_alone():
    reference = [[np.ones((1, 10))] for _ in range(20)]
    good, bad = ([[y * (1 + error)] for (y,) in reference] for error in (0.01, 0.02))
    good[3] = [np.full((1, 10), 1.15)]  # more than all of bad's errors together, squared
    pooled = [mean_db(normalized_errors(["y"], reference, outputs)) for outputs in (good, bad)]
    assert pooled[0] < pooled[1]
    assert typical_db(reference, good) > typical_db(reference, bad)


def test_an_output_of_another_shape_is_all_wrong_and_integers_do_not_count():
    reference = [[np.ones((1, 3)), np.ones(2, np.int64)]]
    assert typical_db(reference, [[np.ones((1, 4)), np.zeros(2, np.int64)]]) == 0
    assert typical_db(reference, [[np.ones((1, 3)), np.zeros(2, np.int64)]]) == np.inf
    assert typical_db(reference, [[np.full((1, 3), np.nan), np.ones(2, np.int64)]]) == -np.inf


@pytest.mark.parametrize(
    "last",
    [
        (lambda y: op.softmax(y, -1),),
        (op.sigmoid,),
        (op.sigmoid, lambda y: op.reshape(y, np.array([2, 2]), special_zero=False)),
    ],
)
def test_probabilities_are_compared_by_their_logits_which_show_what_saturation_hides(last):
    model = ending_in(*last)
    held = samples(8)
    scorer = Scorer(model, held)
    powers = np.array([(sample[0] ** 2).sum() for sample in scorer.logits])
    expected = 20 - 20 * np.log10(np.sqrt(powers / powers.mean()).mean())  # a tenth of each logit
    assert scorer.score(off(model, 1.1)).score == pytest.approx(expected, abs=1e-3)


def test_probabilities_of_zero_and_one_have_finite_logits():
    y = np.array([[0.0, 1.0, 0.5]], np.float32)
    for bound in (Bound("Sigmoid"), Bound("Softmax", 1)):
        assert np.isfinite(logits(y, bound)).all()
    assert logits(y, None) is y
