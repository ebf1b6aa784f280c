from __future__ import annotations

import numpy as np
import pytest

from calib.values.compared import Bound, ComparedOutputs, ComparedPart, Window, logits


def test_a_part_is_a_view_of_its_positions():
    y = np.arange(24.0).reshape(1, 4, 6)
    part = ComparedPart("y[:, 1:3, 4:]", 1, (Window(1, 1, 3), Window(2, 4, None)))
    found = part.of([np.zeros(1), y])
    np.testing.assert_array_equal(found, y[:, 1:3, 4:])
    assert found.base is not None


def test_an_output_of_too_few_dimensions_is_returned_whole():
    y = np.arange(4.0)
    np.testing.assert_array_equal(ComparedPart("y", 0, (Window(1, 1, 3),)).of([y]), y)


def test_each_part_is_compared_by_its_own_function():
    y = np.array([[100.0, 0.5, 0.5]])
    parts = (
        ComparedPart("y[:, :1]", 0, (Window(1, 0, 1),)),
        ComparedPart("y[:, 1:]", 0, (Window(1, 1, None),), Bound("Sigmoid")),
    )
    compared = ComparedOutputs(parts)
    assert compared.names == ["y[:, :1]", "y[:, 1:]"]
    assert [part.tolist() for part in compared.values([y])] == [[[100.0]], [[0.5, 0.5]]]
    assert [part.tolist() for part in compared.logits([y])] == [[[100.0]], [[0.0, 0.0]]]


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax"])
def test_logits_of_a_softmax_are_its_scores_without_their_mean(kind):
    scores = np.array([[1.0, 3.0, -4.0]], np.float32)
    p = np.exp(scores) / np.exp(scores).sum()
    y = p if kind == "Softmax" else np.log(p)
    np.testing.assert_allclose(logits(y, Bound(kind, 1)), scores, atol=1e-6)
    np.testing.assert_allclose(logits(y, Bound(kind)), np.log(p), atol=1e-6)


def test_probabilities_of_zero_and_one_have_finite_logits():
    y = np.array([[0.0, 1.0, 0.5]], np.float32)
    for bound in (Bound("Sigmoid"), Bound("Softmax", 1)):
        assert np.isfinite(logits(y, bound)).all()
    assert logits(y, None) is y


def test_a_run_that_comes_again_is_taken_each_time():
    values = np.arange(14.0).reshape(1, 14)
    first, rest = (ComparedPart("x", 0, (Window(1, *run, 7),)) for run in ((0, 4), (4, None)))
    assert first.of([values]).tolist() == [[0, 1, 2, 3, 7, 8, 9, 10]]
    assert rest.of([values]).tolist() == [[4, 5, 6, 11, 12, 13]]
    assert Window(1, 0, None).whole and not Window(1, 0, None, 7).whole
