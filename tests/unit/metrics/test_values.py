"""Values of the metrics that are not about classes, against scipy or by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.errors import MetricError, MissingExtraError, UsageError
from calib.metrics import ranking, regression
from calib.metrics.detection import CocoMap
from calib.metrics.segmentation import MeanIoU
from calib.metrics.text import ErrorRate

LAW = settings(derandomize=True, deadline=None, max_examples=40)
PAIRS = st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 1)), min_size=2, max_size=20)


def one(value):
    return [np.array([[value]], np.float32)]


@LAW
@given(PAIRS)
def test_spearman_is_scipys(pairs):
    metric = ranking.Spearman()
    value = metric.aggregate([metric.measure(one(s), t) for s, t in pairs])
    scores, targets = zip(*pairs, strict=True)
    if len(set(scores)) == 1 or len(set(targets)) == 1:
        assert value == 0
    else:
        assert value == pytest.approx(scipy.stats.spearmanr(scores, targets).statistic)


@LAW
@given(PAIRS)
def test_auc_is_the_share_of_pairs_in_order(pairs):
    metric = ranking.AreaUnderCurve()
    value = metric.aggregate([metric.measure(one(s), t) for s, t in pairs])
    wins = [(p > n) + (p == n) / 2 for p, t in pairs if t for n, u in pairs if not u]
    assert value == pytest.approx(np.mean(wins) if wins else 0.5)


def test_auc_of_two_class_scores_takes_their_difference():
    metric = ranking.AreaUnderCurve()
    assert metric.measure([np.array([[1.0, 3.0]])], 1) == [2.0, 1.0]
    with pytest.raises(MetricError, match="0 or 1"):
        metric.measure(one(1), 2)


def test_errors_of_numbers_are_means_over_elements_then_samples():
    output, target = [np.array([[1.0, 2.0]], np.float32)], [2.0, 4.0]
    assert regression.mae().measure(output, target) == 1.5
    assert regression.mse().measure(output, target) == 2.5
    assert regression.mae().aggregate([1.0, 3.0]) == 2.0


def test_psnr_takes_its_peak_from_the_targets_dtype():
    psnr = regression.psnr()
    assert psnr.measure([np.full((1, 4), 10.0)], np.zeros(4, np.uint8)) == pytest.approx(20 * np.log10(25.5))
    assert psnr.measure([np.full((1, 4), 0.1)], np.zeros(4)) == pytest.approx(20)
    assert psnr.measure([np.zeros((1, 4))], np.zeros(4)) == regression.HIGHEST_PSNR
    with pytest.raises(MetricError, match=r"0\.\.1"):
        psnr.measure([np.zeros((1, 4))], np.full(4, 200.0))


def test_cosine_of_silence_is_one_only_with_silence():
    cosine = regression.cosine()
    assert cosine.measure([np.array([[1.0, 0.0]])], [1.0, 1.0]) == pytest.approx(np.sqrt(0.5))
    assert cosine.measure([np.zeros((1, 2))], [0.0, 0.0]) == 1
    assert cosine.measure([np.zeros((1, 2))], [1.0, 0.0]) == 0


def test_numbers_of_another_shape_or_not_finite_are_refused():
    with pytest.raises(MetricError, match=r"shape \[1, 2\], the target \[3\]"):
        regression.mae().measure([np.zeros((1, 2))], np.zeros(3))
    with pytest.raises(MetricError, match="output holds values that are not finite"):
        regression.mae().measure([np.array([[np.nan]])], [0.0])
    with pytest.raises(MetricError, match="target holds"):
        regression.mae().measure([np.array([[0.0]])], [np.inf])


def test_mean_iou_by_hand_with_ignored_pixels():
    metric = MeanIoU()
    output = [np.array([[[0, 0, 1], [1, 1, 2]]], np.int64)]
    part = metric.measure(output, np.array([[0, 1, 1], [1, 255, -1]]))
    assert part == [[0, 1, 2], [1, 2, 3]]
    assert metric.aggregate([part]) == pytest.approx((1 / 2 + 2 / 3) / 2)


@pytest.mark.parametrize(
    ("output", "target"),
    [
        (np.zeros((1, 1, 2, 2), np.float32), np.zeros((2, 2), int)),
        (np.zeros((1, 3, 2, 2), np.float32), np.zeros((4, 4), int)),
        (np.zeros((1, 3, 2, 2), np.float32), np.zeros((2, 2), np.float32)),
        (np.zeros((1, 3, 2, 2), np.float32), np.full((2, 2), -7)),
    ],
)
def test_mean_iou_refuses_what_is_no_class_map(output, target):
    with pytest.raises(MetricError, match="mean-iou"):
        MeanIoU().measure([output], target)


def steps(*ids, classes=6):
    return [np.eye(classes, dtype=np.float32)[None, list(ids)]]


@pytest.fixture
def vocabulary(tmp_path):
    (tmp_path / "v.txt").write_text("a\nb\nc\nd\n \n")  # classes 1 to 5
    return {"vocabulary": str(tmp_path / "v.txt")}


def test_ctc_merges_repetitions_and_drops_blanks(vocabulary):
    cer = ErrorRate("cer", **vocabulary)
    assert cer.measure(steps(0, 1, 1, 0, 1, 2), "aab") == [0, 3]
    assert cer.measure(steps(1, 1, 2), "aab") == [1, 3]
    assert cer.measure([steps(1, 0, 2)[0].transpose(1, 0, 2)], "ab") == [0, 2]
    assert cer.measure([np.array([[1, 1, 0, 2]])], "aab") == [0, 3]


def test_error_rates_divide_all_edits_by_all_symbols(vocabulary):
    cer = ErrorRate("cer", **vocabulary)
    assert cer.aggregate([[1, 3], [0, 1]]) == 0.25
    assert cer.measure(steps(0, 0), "") == [0, 0]
    assert cer.measure(steps(1, 2), "") == [2, 0]
    assert cer.measure(steps(0), "ab") == [2, 2]


def test_a_text_of_digits_that_became_a_number_is_refused():
    with pytest.raises(MetricError, match=r"got the number 123.*JSON lines"):
        ErrorRate("cer").measure(steps(1, 2, 3), 123)


def test_words_are_counted_by_wer(vocabulary):
    wer = ErrorRate("wer", **vocabulary)
    assert wer.measure(steps(1, 5, 2), "a  b") == [0, 2]
    assert wer.measure(steps(1, 5, 3, 4), "a b c") == [2, 3]
    with pytest.raises(MetricError, match="a target is a text"):
        wer.measure(steps(1), [1])


def test_the_blank_may_be_another_class(vocabulary):
    assert ErrorRate("cer", **vocabulary, blank="5").measure(steps(0, 5, 0, 1), "aab") == [0, 3]
    assert ErrorRate("cer").measure(steps(1, 0, 5), [1, 5, -1]) == [0, 2]
    with pytest.raises(UsageError, match="blank"):
        ErrorRate("cer", blank="x")
    with pytest.raises(MetricError, match="blank=9 is none of 6"):
        ErrorRate("cer", blank="9").measure(steps(1), [1])


def test_a_missing_or_short_vocabulary_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"gone\.txt can't be read"):
        ErrorRate("cer", str(tmp_path / "gone.txt"))
    (tmp_path / "v.txt").write_text("a\n")
    with pytest.raises(MetricError, match="no line for class 3"):
        ErrorRate("cer", str(tmp_path / "v.txt")).measure(steps(3), "c")
    with pytest.raises(MetricError, match="vocabulary=FILE"):
        ErrorRate("cer").measure(steps(3), "c")


@pytest.mark.parametrize(("make", "package"), [(CocoMap, "faster-coco-eval"), (lambda: ErrorRate("wer"), "jiwer")])
def test_a_missing_extra_says_what_to_install(monkeypatch, make, package):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=rf"{package}.*pip install '{package}>=\d"):
        make()


BOXES = np.array([[0, 0, 10, 10], [20, 20, 40, 40]], np.float32)
SCORES, LABELS = np.array([0.9, 0.8], np.float32), np.array([1, 2])
TRUTH = {"boxes": BOXES, "labels": LABELS}


@pytest.mark.parametrize(
    "outputs",
    [
        [BOXES, SCORES, LABELS],
        [LABELS[None], SCORES[None], BOXES[None]],
        [np.column_stack([BOXES, SCORES])[None], LABELS[None]],
        [np.column_stack([BOXES, SCORES, LABELS])[None].astype(np.float32)],
    ],
)
def test_boxes_are_read_in_each_form(outputs):
    metric = CocoMap()
    assert metric.aggregate([metric.measure(outputs, TRUTH)]) == pytest.approx(1)


def test_one_detection_is_not_taken_for_a_batch_axis():
    part = CocoMap().measure([BOXES[:1], SCORES[:1], LABELS[:1]], TRUTH)
    assert len(part["found"]) == 1


def test_a_box_with_iou_of_two_thirds_counts_at_four_of_ten_thresholds():
    metric = CocoMap()
    moved = np.array([[0, 2, 10, 12]], np.float32)  # IoU 80 / 120: 0.50, 0.55, 0.60, 0.65
    part = metric.measure([moved, SCORES[:1], LABELS[:1]], {"boxes": BOXES[:1], "labels": [1]})
    assert metric.aggregate([part]) == pytest.approx(0.4)


def test_images_without_boxes_and_detections_are_fine():
    metric = CocoMap()
    nothing = [np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)]
    empty = metric.measure(nothing, {"boxes": [], "labels": []})
    missed = metric.measure(nothing, TRUTH)
    assert metric.aggregate([empty]) == 0 and metric.aggregate([empty, missed]) == 0
    assert metric.aggregate([empty, metric.measure([BOXES, SCORES, LABELS], TRUTH)]) == pytest.approx(1)


@pytest.mark.parametrize("outputs", [[BOXES], [BOXES, SCORES], [BOXES, SCORES, SCORES], [BOXES, SCORES[:1], LABELS]])
def test_boxes_of_another_form_are_refused(outputs):
    with pytest.raises(MetricError, match="coco-map"):
        CocoMap().measure(outputs, TRUTH)
