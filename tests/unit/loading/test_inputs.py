"""A feed that no layer can take is refused before it runs, wherever a model is run: kernels read beyond its end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import calib
from calib.errors import DataError, MetricError
from calib.loading.inputs import ShapeCheck, embed
from calib.loading.load import input_specs
from calib.runtime.session import ov
from calib.samples.preprocess import Preprocess

op = ov.opset13


def dynamic(inputs: int, name: str = "net") -> ov.Model:
    """A MatMul on a feed of any size: only its weights say how many inputs there have to be."""
    x = op.parameter(ov.PartialShape([-1, -1]), ov.Type.f32, name="x")
    weights = np.random.default_rng(0).normal(size=(inputs, 4)).astype(np.float32)
    return ov.Model([op.result(op.matmul(x, op.constant(weights), False, False))], [x], name)


def samples(inputs: int) -> list[np.ndarray]:
    return [np.ones((1, inputs), np.float32)] * 2


REFUSED = r"no layer can take a feed of shape \[1,6\]"


def test_shapes_that_fit_go_through_and_others_do_not():
    check = ShapeCheck(dynamic(5))
    check([np.ones((1, 5))], "one")
    check([np.ones((3, 5))], "three")
    with pytest.raises(DataError, match="six: " + REFUSED):
        check([np.ones((1, 6))], "six")


def test_models_of_fixed_sizes_need_no_check():
    x = op.parameter([1, 5], ov.Type.f32, name="x")
    assert not ShapeCheck(ov.Model([op.result(op.relu(x))], [x], "fixed")).needed


@pytest.mark.parametrize("models", [(dynamic(6), dynamic(5)), (dynamic(5), dynamic(6))])
def test_compare_checks_both_models(models: tuple[ov.Model, ov.Model]):
    with pytest.raises(DataError, match=REFUSED):
        calib.compare(*models, samples(6))


@pytest.mark.parametrize("models", [(dynamic(6, "a"), dynamic(5, "b")), (dynamic(5, "a"), dynamic(6, "b"))])
def test_bench_checks_every_model(models: tuple[ov.Model, ov.Model]):
    with pytest.raises(DataError, match=REFUSED):
        calib.bench(models, samples(6), streams=0, seconds=0.01)


def test_a_function_that_evaluates_is_told_that_its_feed_does_not_fit():
    def score(predict: Any) -> float:
        return float(predict(np.ones((1, 6), np.float32))[0].sum())

    with pytest.raises((DataError, MetricError), match=REFUSED):
        calib.evaluate(dynamic(5), None, score)
    assert calib.evaluate(dynamic(6), None, score).samples == 0


def test_what_embedding_adds_has_the_same_names_every_time():
    x = op.parameter([1, 3, 4, 4], np.float32, name="x")
    x.output(0).set_names({"x"})
    model = ov.Model([op.relu(x, name="r")], [x], "net")
    wanted = Preprocess(mean=(1.0,), scale=(2.0,), color="bgr")
    made = [embed(model, wanted, input_specs(model)[0]).model for _ in range(2)]
    names = [[node.get_friendly_name() for node in one.get_ordered_ops()] for one in made]
    assert names[0] == names[1] and len(set(names[0])) == len(names[0])
    assert {"x", "r"} < set(names[0]) and any(name.startswith("x/preprocessing/Subtract") for name in names[0])
