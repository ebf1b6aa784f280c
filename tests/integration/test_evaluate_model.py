"""A model built in code, run over samples and measured."""

from __future__ import annotations

import numpy as np
import pytest

from calib.loading.load import input_specs
from calib.metrics.resolve import resolve_metric
from calib.runtime.evaluate import accept_any_feed, evaluate_compiled
from calib.runtime.session import Session, compile_model, ov
from calib.samples.open import open_dataset

op = ov.opset13
WEIGHTS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
DATA = np.random.default_rng(1).normal(size=(24, 6)).astype(np.float32)


def classifier(batch: int) -> ov.Model:
    x = op.parameter([batch, 6], ov.Type.f32, name="x")
    x.output(0).set_names({"x"})
    return ov.Model([op.matmul(x, op.constant(WEIGHTS), False, False)], [x], "classifier")


@pytest.mark.parametrize("batch", [1, -1])
@pytest.mark.parametrize("data", ["npz", "rows", "stacked"])
def test_accuracy_is_that_of_numpy_however_the_samples_come(tmp_path, batch, data):
    model = classifier(batch)
    labels = (DATA @ WEIGHTS).argmax(1)
    labels[::3] = (labels[::3] + 1) % 4
    np.savez(tmp_path / "d.npz", x=DATA, labels=labels)
    given = {
        "npz": str(tmp_path / "d.npz"),
        "rows": list(zip(DATA, labels, strict=True)),
        "stacked": [(DATA[i : i + 8], labels[i : i + 8]) for i in (0, 8, 16)],
    }[data]
    dataset = open_dataset(given, inputs=input_specs(model))
    metric = resolve_metric("top-1")
    parts = evaluate_compiled(compile_model(model, streams=2), dataset.load(dataset.choose(None)), metric)
    assert len(parts) == 24
    assert metric.aggregate(parts) == pytest.approx(2 / 3)


def test_a_model_agrees_with_itself():
    model = classifier(1)
    session = Session(model)
    dataset = open_dataset(DATA, inputs=input_specs(model))
    samples = list(dataset)
    references = {sample.id: session(sample.feed) for sample in samples}
    for name in ("agreement", "relative-l2"):
        metric = resolve_metric(name)
        assert metric.aggregate(evaluate_compiled(compile_model(model), samples, metric, references)) == 1.0


def test_users_predict_gives_what_numpy_gives():
    model = classifier(1)
    predict = accept_any_feed(Session(model).each, input_specs(model))
    for feed in (DATA, (DATA,), {"x": DATA}):
        np.testing.assert_allclose(predict(feed)[0], DATA @ WEIGHTS, rtol=1e-5, atol=1e-5)
