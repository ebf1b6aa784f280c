from __future__ import annotations

import math

import numpy as np
import pytest

from calib.accuracy.baseline import BaselineMetric, MarginMetric, check_baseline, labels_moved
from calib.errors import BaselineError
from calib.metrics.classification import F1, TopK
from calib.metrics.label_free import Agreement


def test_plausible_baselines_pass():
    check_baseline(0.76, "top1", "fraction", samples=500, chance=0.001, reference=0.7613)
    check_baseline(31.0, "psnr", "dB", samples=10, reference=31.5)
    check_baseline(0.2, "mae", "error", samples=10, higher_is_better=False)


def test_baseline_at_chance_names_the_likely_causes():
    with pytest.raises(BaselineError, match="no better than guessing") as caught:
        check_baseline(0.105, "top1", "fraction", samples=1000, chance=0.1)
    assert all(word in str(caught.value) for word in ("mean/scale", "channel order", "off by one"))


def test_baseline_far_from_the_reference_is_refused_in_both_directions():
    for value in (0.60, 0.95):
        with pytest.raises(BaselineError, match="reference"):
            check_baseline(value, "top1", "fraction", samples=5000, reference=0.7613)


def test_few_samples_widen_the_tolerance():
    check_baseline(0.62, "top1", "fraction", samples=50, reference=0.7613)
    with pytest.raises(BaselineError):
        check_baseline(0.62, "top1", "fraction", samples=5000, reference=0.7613)


def test_reference_in_percent_is_recognized():
    with pytest.raises(BaselineError, match=r"pass 0\.7613"):
        check_baseline(0.76, "top1", "fraction", samples=100, reference=76.13)


@pytest.mark.parametrize("shift", [-1, 1])
def test_labels_off_by_one_are_found_and_the_direction_named(shift):
    with pytest.raises(BaselineError, match=f"off by one. Move them by \\{shift:+d}"):
        check_baseline(
            0.02, "top1", "fraction", samples=100, with_labels_shifted=lambda by: 0.76 if by == shift else 0.01
        )


def test_right_labels_are_not_suspected():
    check_baseline(0.76, "top1", "fraction", samples=100, with_labels_shifted=lambda by: 0.01)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_baseline_without_a_number_is_refused(value):
    with pytest.raises(BaselineError, match="finite"):
        check_baseline(value, "top1", samples=100)


@pytest.mark.parametrize(("metric", "unit"), [("f1", "fraction"), ("coco-map", "average precision")])
def test_no_sample_right_is_implausible_because_any_budget_would_be_kept(metric, unit):
    with pytest.raises(BaselineError, match="no sample is right, or none has targets") as caught:
        check_baseline(0.0, metric, unit, samples=100)
    assert "--reference 0" in str(caught.value)
    check_baseline(0.0, metric, unit, samples=100, reference=0.0)
    check_baseline(0.0, "mae", "error", samples=100, higher_is_better=False)


@pytest.mark.parametrize("metric", [TopK(1), F1()])
@pytest.mark.parametrize("shift", [-1, 1])
def test_labels_moved_on_the_outputs_at_hand_give_the_metric_of_right_labels(metric, shift):
    scores = np.random.default_rng(0).normal(size=(50, 1, 4)).astype(np.float32)
    labels = [int(one.argmax() - shift) % 4 for one in scores]
    rows = [BaselineMetric(metric).measure([one], label) for one, label in zip(scores, labels, strict=True)]
    moved = labels_moved(metric, [row[1] for row in rows])
    assert moved(shift) == 1.0 and moved(-shift) < 1.0
    assert metric.aggregate([row[0] for row in rows]) == 0.0
    kept = BaselineMetric(metric).measure([scores[:1]], np.array([-1]))
    assert kept[1] == [kept[0], kept[0]]  # no target stays no target


def test_few_samples_do_not_accuse_the_labels_or_call_a_model_a_guesser():
    check_baseline(0.4, "top1", "fraction", samples=5, chance=0.25, with_labels_shifted=lambda by: 0.6)
    with pytest.raises(BaselineError, match="no better than guessing"):
        check_baseline(0.27, "top1", "fraction", samples=500, chance=0.25)


def test_what_is_right_with_every_answer_is_no_guess():
    check_baseline(1.0, "top-5", "fraction", samples=100, chance=1.0)


def test_a_baseline_that_agrees_with_the_reference_is_believed():
    check_baseline(0.1, "top1", "fraction", samples=1000, chance=0.1, reference=0.1, with_labels_shifted=lambda by: 0.9)
    with pytest.raises(BaselineError, match="off by one") as caught:
        check_baseline(0.1, "top1", "fraction", samples=1000, reference=0.9, with_labels_shifted=lambda by: 0.9)
    assert "--reference 0.1" in str(caught.value)


@pytest.mark.parametrize(("metric", "target"), [(TopK(1), 1), (Agreement(), None)])
def test_margin_metric_keeps_the_metric_and_says_how_near_int8_came_to_another_verdict(metric, target):
    metric = MarginMetric(metric)
    fp32, int8 = [np.array([[0.0, 3.0, 1.0]])], [np.array([[2.5, 2.0, 0.0]])]
    before, after = (metric.measure(outputs, target, fp32) for outputs in (fp32, int8))
    assert metric.aggregate([before, after]) == 0.5
    assert metric.per_sample([before, after]).tolist() == [1.0, 0.0]
    # The margin of the class that was to be found, not of the one that won.
    right, wrong = metric.margins([before, after])
    assert right > 0 > wrong
