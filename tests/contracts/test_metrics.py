"""What holds for every metric in the table.

covers: calib.metrics, calib.metrics.metric, calib.metrics.scores
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from calib.accuracy_check.judged import AccuracyCheck
from calib.accuracy_check.values import Judged, Labels, Scores, Seen
from calib.errors import CalibError, MetricError, UsageError
from calib.metrics import METRICS
from calib.metrics.resolve import resolve_metric

CLASSES = 7


def scores_for(label: int) -> np.ndarray:
    return np.eye(CLASSES, dtype=np.float32)[None, label] * 4


def classes(i: int):
    return (
        [scores_for(i % CLASSES)],
        i % CLASSES,
        [scores_for((i + 1 + i % 3) % CLASSES) - np.eye(CLASSES)[i % CLASSES]],
    )


def numbers(i: int):
    values = np.random.default_rng(i).uniform(0.2, 0.8, (1, 6)).astype(np.float32)
    return [values], values[0], [values + np.float32(0.1) * np.arange(6)]


def pixels(i: int):
    target = np.random.default_rng(i).integers(0, 3, (4, 5))
    scores = np.eye(3, dtype=np.float32)[target].transpose(2, 0, 1)[None]
    return [scores], target, [np.roll(scores, 1, axis=1)]


def ranks(i: int):
    return [np.array([[i / 10]], np.float32)], float(i), [np.array([[-i * i % 5]], np.float32)]


def binary(i: int):
    return [np.array([[0, i % 2]], np.float32)], i % 2, [np.array([[0, i % 3]], np.float32)]


def text(i: int):
    target = [1 + i % 3, 2, 5]
    steps = np.eye(CLASSES, dtype=np.float32)[[0, target[0], target[0], 0, 2, 5]]
    return [steps[None]], target, [steps[None, :3]]


def boxes(i: int):
    corners = np.array([[0, 0, 10 + i, 10], [20, 20, 40, 40]], np.float32)
    scores, labels = np.array([0.9, 0.8], np.float32), np.array([1, 2 + i % 2])
    return (
        [corners[None], scores, labels],
        {"boxes": corners.tolist(), "labels": labels},
        [corners[None] + 4, scores, labels],
    )


def pictures(i: int):
    image = np.random.default_rng(i).uniform(0.2, 0.8, (1, 3, 12, 12)).astype(np.float32)
    return [image], image[0], [image + np.float32(0.1) * (np.arange(12) % 2)]


def outputs_only(i: int):
    good, _, bad = classes(i)
    return good, None, bad


# name → case(i) → (perfect outputs, target, damaged outputs); best is what perfect outputs give.
CASES = {
    "top-1": (classes, 1.0),
    "top-5": (lambda i: (*classes(i)[:2], [-classes(i)[0][0] + np.arange(CLASSES) / 100]), 1.0),
    "class-accuracy": (classes, 1.0),
    "f1": (classes, 1.0),
    "mean-iou": (pixels, 1.0),
    "mae": (numbers, 0.0),
    "mse": (numbers, 0.0),
    "psnr": (numbers, 100.0),
    "ssim": (pictures, 1.0),
    "cosine": (numbers, 1.0),
    "spearman": (ranks, 1.0),
    "auc": (binary, 1.0),
    "cer": (text, 0.0),
    "wer": (None, 0.0),
    "character-accuracy": (text, 1.0),
    "word-accuracy": (text, 1.0),
    "coco-map": (boxes, 1.0),
    "voc-map": (boxes, 1.0),
    "accuracy-check": (None, 1.0),
    "agreement": (outputs_only, 1.0),
    "relative-l2": (outputs_only, 1.0),
    "noise": (outputs_only, 0.0),
}


def judged_classes(i: int):
    good, target, bad = classes(i)
    seen = Seen(np.zeros((0, 0, 3)), (4, 4))
    return good, Judged(Scores(np.array(target)), seen, (4, 4), Labels({})), bad


def words(i: int):
    steps = np.eye(5, dtype=np.float32)[[1, 4, 2 + i % 2]]  # a, space, b or c
    return [steps[None]], "a b" if i % 2 == 0 else "a c", [steps[None, :1]]


@pytest.fixture(params=list(METRICS))
def case(request, tmp_path):
    name = request.param
    assert name in CASES, f"give {name} a case here"
    make, best = CASES[name]
    if name == "wer":
        (tmp_path / "v.txt").write_text("a\nb\nc\n \n")
        return resolve_metric(f"wer?vocabulary={tmp_path}/v.txt"), words, best
    if name == "accuracy-check":
        dataset = {
            "name": "d",
            "annotation_conversion": {"converter": "imagenet", "annotation_file": "val.txt"},
            "metrics": [{"type": "accuracy"}],
        }
        launchers = [{"framework": "openvino", "adapter": "classification"}]
        content = {"models": [{"name": "m", "launchers": launchers, "datasets": [dataset]}]}
        (tmp_path / "accuracy-check.yml").write_text(json.dumps(content))
        return resolve_metric(f"accuracy-check?file={tmp_path}/accuracy-check.yml"), judged_classes, best
    return resolve_metric(name), make, best


def measured(metric, make, damaged=lambda i: False, count=12):
    parts = []
    for i in range(count):
        good, target, bad = make(i)
        parts.append(metric.measure(bad if damaged(i) else good, target, good if metric.needs_reference else None))
    return parts


def row_of(metric) -> str:
    """Return the name of a metric's row in the table; a configuration names its metrics itself."""
    return "accuracy-check" if isinstance(metric, AccuracyCheck) else metric.name.partition(" ")[0]


def test_a_metric_declares_itself(case):
    metric, _, _ = case
    assert isinstance(metric.higher_is_better, bool)
    assert row_of(metric) in METRICS and metric.unit and "output" in metric.reads
    assert not (metric.needs_target and metric.needs_reference)


def test_the_table_says_what_it_takes(case):
    metric, _, _ = case
    assert METRICS[row_of(metric)].takes == getattr(metric, "takes", "")


def test_perfect_outputs_give_the_best_value(case):
    metric, make, best = case
    assert metric.aggregate(measured(metric, make)) == pytest.approx(best, abs=1e-6)


def test_damage_is_worse_in_the_declared_direction(case):
    metric, make, best = case
    some = metric.aggregate(measured(metric, make, lambda i: i % 2 == 0))
    every = metric.aggregate(measured(metric, make, lambda i: True))
    if metric.higher_is_better:
        assert some < best and every < best
    else:
        assert some > best and every > best


def test_parts_survive_json(case):
    metric, make, _ = case
    parts = measured(metric, make, lambda i: i % 3 == 0)
    again = json.loads(json.dumps(parts))
    assert metric.aggregate(again) == metric.aggregate(parts)


def test_scores_of_samples_have_the_aggregate_as_mean(case):
    metric, make, _ = case
    parts = measured(metric, make, lambda i: i % 3 == 0)
    scores = metric.per_sample(parts)
    if scores is not None:
        assert scores.dtype == np.float64 and len(scores) == len(parts)
        assert scores.mean() == pytest.approx(metric.aggregate(parts), rel=1e-12)


def test_any_resample_has_a_value(case):
    metric, make, _ = case
    parts = measured(metric, make, lambda i: i % 3 == 0)
    rng = np.random.default_rng(0)
    for size in (1, 2, 12, 20):
        drawn = [parts[i] for i in rng.integers(0, len(parts), size)]
        assert np.isfinite(metric.aggregate(drawn))


def test_the_order_of_samples_changes_nothing_beyond_rounding(case):
    metric, make, _ = case
    parts = measured(metric, make, lambda i: i % 3 == 0)
    assert metric.aggregate(parts[::-1]) == pytest.approx(metric.aggregate(parts), rel=1e-12)


def test_no_samples_and_no_outputs_are_errors_of_the_metric(case):
    metric, make, _ = case
    with pytest.raises(MetricError, match=metric.name):
        metric.aggregate([])
    with pytest.raises(MetricError, match=metric.name):
        metric.measure([], make(0)[1], [] if metric.needs_reference else None)


def test_outputs_of_another_form_are_refused_by_name(case):
    metric, make, _ = case
    strange = [np.zeros((2, 3, 5, 1, 7), np.int64)]
    with pytest.raises(MetricError, match=metric.name):
        metric.measure(strange, make(0)[1], strange if metric.needs_reference else None)


def test_options_that_do_not_exist_are_refused(case):
    metric, _, _ = case
    with pytest.raises(UsageError, match="no option 'nothing'"):
        resolve_metric(f"{row_of(metric)}?nothing=1")


def test_a_target_of_another_form_is_refused_and_nothing_to_a_label_free_metric(case):
    metric, make, _ = case
    outputs, target = make(0)[0], {"strange": "target"}
    if metric.needs_target:
        with pytest.raises(CalibError, match=metric.name):
            metric.measure(outputs, target)
    else:
        parts = [metric.measure(outputs, given, outputs) for given in (target, None)]
        assert metric.aggregate(parts[:1]) == metric.aggregate(parts[1:])
