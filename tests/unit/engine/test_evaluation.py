"""A model is measured sample by sample, or by one call of the user's function, and both answer the same questions.

covers: calib.engine.evaluators
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from trust_fixtures.tiny import convnet, images

import calib
from calib.engine.evaluation import evaluated, open_evaluator
from calib.engine.evaluators import SampleEvaluator, WholeSetEvaluator
from calib.engine.job import Job
from calib.engine.prepare import prepare
from calib.errors import UsageError
from calib.loading import normalize
from calib.runtime.session import F32, Session, ov
from calib.samples.feed import arrays_of


def job(**settings: Any) -> Job:
    return prepare(convnet(), list(images(4)), flags={"effort": "fast", **settings})


def labelled(shift: int = 0) -> list[tuple[Any, int]]:
    """Return samples whose label, for a shift of 0, is the class that FP32 finds."""
    model = Session(convnet())
    return [(image, (int(model([image[None]])[0].argmax()) + shift) % 5) for image in images(6)]


def by_sample(validation: Any, **settings: Any) -> SampleEvaluator:
    found = open_evaluator(job(**settings), validation)
    assert isinstance(found, SampleEvaluator)
    return found


def by_function(function: Any) -> WholeSetEvaluator:
    found = open_evaluator(job(metric=function, higher_is_better=True), None)
    assert isinstance(found, WholeSetEvaluator)
    return found


def first_scores(predict: Any) -> tuple[float, list[float]]:
    values = [float(predict(image)[0].max()) for image in images(3)]
    return float(np.mean(values)), values


def test_each_sample_has_its_part_in_the_order_asked_for():
    evaluator = by_sample(labelled(), metric="top-1")
    compiled = evaluator.compiled(evaluator.job.loaded.model, F32)
    assert evaluator.run(compiled, range(6)) == [1.0] * 6
    mixed = by_sample([*labelled()[:3], *labelled(1)[3:]], metric="top-1")
    parts = mixed.run(compiled, range(6))
    assert sum(parts) == 3 and mixed.run(compiled, [4, 1]) == [parts[4], parts[1]]


def test_points_are_refused_for_a_metric_that_is_no_fraction():
    assert by_sample(labelled(), metric="top-1", max_drop="1pt").metric.unit == "fraction"
    with pytest.raises(UsageError, match=r"max_drop 1pt is in percentage points.*relative-l2.*'1 − relative error'"):
        by_sample(None, metric="relative-l2", max_drop="1pt")


def test_between_two_samples_the_run_can_end():
    seen: list[None] = []

    def check() -> None:
        seen.append(None)
        if len(seen) == 3:
            raise KeyboardInterrupt

    evaluator = replace(by_sample(labelled(), metric="top-1"), check=check)
    with pytest.raises(KeyboardInterrupt):
        evaluator.run(evaluator.compiled(evaluator.job.loaded.model, F32), range(6))
    assert len(seen) == 3


def test_margins_are_kept_beside_the_parts_of_a_metric_that_has_them():
    evaluator = by_sample(labelled(), metric="top-1").with_margins()
    compiled = evaluator.compiled(evaluator.job.loaded.model, F32)
    parts = evaluator.run(compiled, range(6))
    assert all(part == 1.0 and margin > 0 for part, margin in parts)
    assert evaluator.metric.aggregate(parts) == 1.0


def test_a_changed_label_changes_the_mark_of_its_sample_alone():
    samples = labelled()
    plain = by_sample(samples, metric="top-1")
    image, label = samples[2]
    changed = by_sample([*samples[:2], (image, (label + 1) % 5), *samples[3:]], metric="top-1")
    before = dict(zip(plain.ids, plain.marks(), strict=True))
    after = dict(zip(changed.ids, changed.marks(), strict=True))
    assert len(set(before.values()) - set(after.values())) == 1
    assert plain.baseline()[1] == plain.marks()


def test_chance_is_known_where_the_metric_and_the_classes_are():
    assert by_sample(labelled(), metric="top-1").chance == pytest.approx(1 / 5)
    assert by_sample([image for image, _ in labelled()], metric="relative-l2").chance is None


def test_a_function_over_the_whole_set_is_asked_once_and_keeps_its_scores():
    evaluator = by_function(first_scores)
    parts = evaluator.run(evaluator.compiled(evaluator.job.loaded.model, F32), [0])
    model = Session(convnet())
    value, scores = first_scores(lambda image: model([image[None]]))
    assert evaluator.metric.aggregate(parts) == pytest.approx(value)
    np.testing.assert_allclose(evaluator.metric.per_sample(parts), scores, rtol=1e-6)
    assert evaluator.ids == ("",) and evaluator.marks() == [] and evaluator.with_margins() is evaluator
    assert evaluator.baseline() == ([[parts[0], None, None]], [])


def test_what_the_parts_depend_on_is_in_the_identity():
    def other(predict: Any) -> float:
        return 0.5

    assert by_function(first_scores).identity() != by_function(other).identity()
    top1, top5 = (by_sample(labelled(), metric=name) for name in ("top-1", "top-5"))
    assert top1.identity() != top5.identity() and top1.identity() == by_sample(labelled(), metric="top-1").identity()


def test_no_accuracy_is_measured_that_nobody_asked_for():
    assert open_evaluator(job(), None) is None
    with pytest.raises(UsageError, match="needs a validation dataset or a metric"):
        evaluated(job(), None, "f32")
    with pytest.raises(UsageError, match="top-1 needs labelled samples: give --validation"):
        open_evaluator(job(metric="top-1"), None)
    assert any("targets of the validation samples have no say" in note for note in by_sample(labelled()).notes)
    with pytest.raises(UsageError, match="no metric was given: give one with --metric"):
        open_evaluator(job(), labelled(), against_itself=False)


def test_one_model_is_evaluated_with_its_interval():
    evaluator = by_sample([*labelled()[:3], *labelled(1)[3:]], metric="top-1")
    found = evaluated(evaluator.job, evaluator, "f32")
    assert found.value == 0.5 and found.samples == 6 and found.precision == "f32"
    assert found.interval == pytest.approx((0.188, 0.812), abs=1e-3) and "Wilson" in found.interval_method


def test_fp32_is_measured_on_the_file_and_not_on_what_was_made_of_it(monkeypatch):
    def negate(model: ov.Model) -> None:
        """Transform a model into another function, as a fault of OpenVINO's would."""
        for result in model.get_results():
            tensor = result.input_value(0)
            names, result_tensor = tensor.get_names(), ov.opset13.negative(tensor).output(0)
            tensor.get_tensor().set_names(set())
            result_tensor.get_tensor().set_names(names)
            result.input(0).replace_source_output(result_tensor)

    exact = Session(convnet())
    monkeypatch.setattr(normalize, "apply_common_transformations", negate)
    evaluator = by_sample(list(images(6)), metric="relative-l2")
    assert evaluator.job.reference is not evaluator.job.loaded.model
    for sample in evaluator.dataset.load(evaluator.ids):
        np.testing.assert_array_equal(evaluator.references[sample.id][0], exact(arrays_of(sample))[0])
    assert [row[0] for row in by_sample(labelled(), metric="top-1").baseline()[0]] == [1.0] * 6
    run = job(metric="top-1")
    assert evaluated(run, open_evaluator(run, labelled()), "f32").value == 1.0


@pytest.mark.parametrize("metric", ["agreement", "relative-l2", None])
def test_a_metric_that_compares_with_another_model_is_refused_without_one(metric: str | None):
    with pytest.raises(UsageError, match=r"against its own, every model is perfect.*--reference-model FILE"):
        calib.evaluate(convnet(), list(images(4)), metric)


def test_a_model_is_compared_with_the_outputs_of_the_reference_model():
    samples = list(images(6))
    run = calib.quantize(convnet(), samples, effort="fast", speed=False)
    before, after = (Session(model) for model in (convnet(), run.model))
    pairs = [(before([image[None]])[0], after([image[None]])[0]) for image in samples]
    errors = [np.linalg.norm(b - a) / np.linalg.norm(a) for a, b in pairs]
    found = calib.evaluate(run.model, samples, "relative-l2", reference_model=convnet())
    assert found.value == pytest.approx(1 - np.mean(errors), abs=1e-6)
    assert 0.5 < found.value < 1
    assert found.reference_model == convnet().get_friendly_name()
    assert calib.evaluate(convnet(), samples, "relative-l2", reference_model=convnet()).value == 1.0
    found = calib.evaluate(run.model, samples, reference_model=convnet())
    assert found.metric == "agreement"
    assert found.value == np.mean([a.argmax() == b.argmax() for a, b in pairs])


def test_a_reference_model_that_nothing_is_compared_with_is_refused():
    with pytest.raises(UsageError, match="top-1 compares with no other model: leave out --reference-model"):
        calib.evaluate(convnet(), labelled(), "top-1", reference_model=convnet())


def test_a_reference_model_with_other_inputs_or_outputs_is_refused():
    x = ov.opset13.parameter([1, 3], np.float32)
    other = ov.Model([ov.opset13.result(ov.opset13.relu(x))], [x], "other")
    with pytest.raises(UsageError, match="take different inputs"):
        calib.evaluate(convnet(), list(images(4)), "agreement", reference_model=other)
    more = convnet()
    more = ov.Model([*more.get_results(), ov.opset13.result(more.inputs[0].get_node())], more.get_parameters(), "more")
    with pytest.raises(
        UsageError, match=r"more has 2 outputs .* has 1 output .*Compare a model with what was made from it"
    ):
        calib.evaluate(convnet(), list(images(4)), "agreement", reference_model=more)


def test_one_hot_targets_are_read_as_classes_and_the_report_says_so():
    classes = labelled()
    hot = [(image, np.eye(5, dtype=np.float32)[label]) for image, label in classes]
    found = calib.evaluate(convnet(), hot, "top-1")
    assert found.value == 1.0
    said = "the targets are vectors of 5 numbers and are read as one-hot: the class is the position of the 1"
    assert said in found.notes
    assert said not in calib.evaluate(convnet(), classes, "top-1").notes
    settings = {"effort": "fast", "speed": False, "metric": "top-1"}
    report = calib.quantize(convnet(), list(images(4)), validation=hot, **settings).report
    assert said in report.warnings
    assert report.accuracy is not None
    assert report.accuracy.baseline == 1.0
