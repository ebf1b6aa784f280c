"""Outputs that are tables already: boxes and scores in each form, class maps and texts.

covers: calib.outputs.boxes, calib.outputs.boxes_scores, calib.outputs.ssd, calib.outputs.yolo_v5
covers: calib.outputs.yolo_v8, calib.outputs.yolo_end, calib.outputs.classification, calib.outputs.segmentation
covers: calib.outputs.ctc, calib.outputs.decoding
"""

from __future__ import annotations

import numpy as np
import pytest

from calib.errors import MetricError, UsageError
from calib.outputs.boxes import Boxes
from calib.outputs.boxes_scores import BoxesScores
from calib.outputs.classification import Classification
from calib.outputs.ctc import Ctc
from calib.outputs.decoder import ModelFacts, OutputFact
from calib.outputs.segmentation import Segmentation
from calib.outputs.ssd import DetectionRows
from calib.outputs.yolo_end import YoloEndToEnd
from calib.outputs.yolo_v5 import YoloV5
from calib.outputs.yolo_v8 import YoloV8

SIZE = (100, 200)
NOTHING = ModelFacts(())
BOXES, SCORES, LABELS = np.array([[1.0, 2, 3, 4], [5, 6, 7, 8]]), np.array([0.5, 0.25]), np.array([3, 4])


def named(*names: str) -> ModelFacts:
    return ModelFacts(tuple(OutputFact((name,), (), np.dtype(np.float32)) for name in names))


def listed(found) -> list[list[float]]:
    return [[*box, score, label] for box, score, label in zip(*map(np.ndarray.tolist, parts(found)), strict=True)]


def parts(found):
    return found.boxes, found.scores, found.labels


ROWS = [[1, 2, 3, 4, 0.5, 3], [5, 6, 7, 8, 0.25, 4]]


@pytest.mark.parametrize(
    "outputs",
    [
        [BOXES, SCORES, LABELS],
        [LABELS[None], SCORES[None], BOXES[None]],
        [np.column_stack([BOXES, SCORES])[None], LABELS[None]],
        [np.column_stack([BOXES, SCORES]), LABELS],
        [np.column_stack([BOXES, SCORES, LABELS])],
        [np.column_stack([BOXES, SCORES, LABELS])[None]],
    ],
)
def test_final_boxes_are_read_in_each_form(outputs):
    assert listed(Boxes().decode(outputs, NOTHING, SIZE)) == ROWS


def test_one_final_box_is_not_taken_for_a_batch():
    assert listed(Boxes().decode([BOXES[:1], SCORES[:1], LABELS[:1]], NOTHING, SIZE)) == ROWS[:1]
    assert listed(Boxes().decode([BOXES[None, :1], SCORES[None, :1], LABELS[None, :1]], NOTHING, SIZE)) == ROWS[:1]


@pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 7])
def test_scores_of_four_to_six_boxes_are_not_taken_for_a_table(count):
    boxes, scores = np.arange(count * 4.0).reshape(count, 4), np.arange(float(count))
    labels = np.arange(count)
    for outputs in ([boxes[None], scores[None], labels[None]], [scores[None], boxes, labels[None]]):
        found = Boxes().decode(outputs, NOTHING, SIZE)
        assert found.boxes.tolist() == boxes.tolist() and found.scores.tolist() == scores.tolist()


def test_no_final_box_is_fine():
    assert len(Boxes().decode([BOXES[:0], SCORES[:0], LABELS[:0]], NOTHING, SIZE)) == 0


def test_boxes_of_one_class_get_the_label_asked_for_and_shares_become_pixels():
    rows = np.array([[0.1, 0.2, 0.5, 1.0, 0.9]])
    assert listed(Boxes(label=7, relative=True).decode([rows], NOTHING, SIZE)) == [[20, 20, 100, 100, 0.9, 7]]


def test_final_boxes_by_name_where_shapes_leave_it_open():
    outputs, known = [BOXES * 0, BOXES, SCORES, LABELS], named("anchors", "b", "s", "l")
    assert listed(Boxes(boxes="b").decode(outputs, known, SIZE)) == ROWS
    with pytest.raises(MetricError, match="no output 'c'; the model's outputs: 'anchors'"):
        Boxes(boxes="c").decode(outputs, known, SIZE)


def test_boxes_and_scores_of_a_face_detector():
    boxes, scores = np.array([[[0.1, 0.1, 0.2, 0.3], [0, 0, 1, 1]]]), np.array([[[0.2, 0.8], [0.9, 0.1]]])
    found = BoxesScores(background="0").decode([scores, boxes], named("s", "b"), SIZE)
    np.testing.assert_allclose(listed(found), [[20, 10, 40, 30, 0.8, 1], [0, 0, 200, 100, 0.1, 1]])


def test_boxes_and_scores_of_a_transformer():
    boxes, logits = np.array([[[0.5, 0.5, 0.2, 0.4]]]), np.log([[[0.1, 0.6, 0.3]]])
    made = BoxesScores(form="centre", activation="softmax", background="-1")
    np.testing.assert_allclose(listed(made.decode([logits, boxes], NOTHING, SIZE)), [[80, 30, 120, 70, 0.6, 1]])


def test_detection_output_ends_at_the_first_row_of_no_image():
    rows = np.array([[0, 2, 0.9, 0.1, 0.2, 0.3, 0.4], [-1, 0, 0, 0, 0, 0, 0], [0, 1, 0.8, 0, 0, 1, 1]])
    found = DetectionRows().decode([rows[None, None]], NOTHING, SIZE)
    np.testing.assert_allclose(listed(found), [[20, 20, 60, 40, 0.9, 2]])
    assert len(DetectionRows().decode([np.zeros((1, 1, 0, 7))], NOTHING, SIZE)) == 0


def test_tables_of_yolo_by_hand():
    five = np.array([[[50, 40, 20, 10, 0.5, 0.2, 0.8]]])
    assert listed(YoloV5().decode([five], NOTHING, SIZE)) == [[40, 35, 60, 45, 0.4, 1]]
    several = YoloV5(several=True).decode([five], NOTHING, SIZE)
    np.testing.assert_allclose(several.scores, [0.1, 0.4])
    eight = np.array([[50.0, 40, 20, 10, 0.2, 0.8, 9]]).T[None]
    assert listed(YoloV8(classes=2).decode([eight], NOTHING, SIZE)) == [[40, 35, 60, 45, 0.8, 1]]
    end = np.array([[[1.0, 2, 3, 4, 0.5, 3]]])
    assert listed(YoloEndToEnd().decode([end], NOTHING, SIZE)) == ROWS[:1]
    shares = np.array([[[0.25, 0.5, 0.1, 0.1, 1, 0.5]]])
    np.testing.assert_allclose(YoloV5(relative=True).decode([shares], NOTHING, SIZE).boxes, [[40, 45, 60, 55]])


def test_class_scores_of_another_output_and_without_the_background():
    outputs = [np.zeros((1, 8, 3, 3)), np.array([[[[0.1]], [[0.7]], [[0.2]]]])]
    assert Classification(output="p", skip=1).decode(outputs, named("f", "p"), SIZE).tolist() == [[0.7, 0.2]]


@pytest.mark.parametrize("last", [False, True])
def test_a_class_map_is_the_best_class_of_each_pixel(last):
    scores = np.zeros((1, 3, 2, 2))
    scores[0, 1, 0, 0] = scores[0, 2, 1, 1] = 1
    scores[0, 0] = 0.5
    array = scores.transpose(0, 2, 3, 1) if last else scores
    assert Segmentation(last=last).decode([array], NOTHING, SIZE).tolist() == [[1, 0], [0, 2]]
    assert Segmentation(last=last, skip=1).decode([array], NOTHING, SIZE).tolist() == [[0, 0], [0, 1]]


def test_masks_of_one_channel_and_of_integers():
    assert Segmentation(threshold=0.3).decode([np.array([[[[0.2, 0.4]]]])], NOTHING, SIZE).tolist() == [[0, 1]]
    whole = np.array([[[1, 2], [3, 4]]])
    assert Segmentation(label_shift=-1).decode([whole], NOTHING, SIZE).tolist() == [[0, 1], [2, 3]]


def steps(*classes: int) -> np.ndarray:
    return np.eye(5)[None, list(classes)]


def test_ctc_merges_repetitions_and_drops_blanks():
    assert Ctc(alphabet="abcd").decode([steps(1, 1, 0, 1, 4, 4, 0)], NOTHING, SIZE) == "aad"
    assert Ctc(alphabet="abcd", blank="last").decode([steps(1, 1, 4, 1, 0, 0)], NOTHING, SIZE) == "bba"
    assert Ctc(alphabet="abcd", blank="2").decode([steps(3, 2, 1)], NOTHING, SIZE) == "cb"
    assert Ctc(alphabet="abcd").decode([steps(0, 0).transpose(1, 0, 2)], NOTHING, SIZE) == ""
    assert Ctc(merged=True, alphabet="abcd").decode([np.array([[1, 1, 0, 2]])], NOTHING, SIZE) == "aab"


def test_ctc_without_an_alphabet_gives_ids_and_with_one_too_short_says_so(tmp_path):
    assert Ctc().decode([steps(1, 0, 4)], NOTHING, SIZE).tolist() == [[1, 4]]
    with pytest.raises(MetricError, match="class 4 has no symbol: 2 symbols are given"):
        Ctc(alphabet="ab").decode([steps(4)], NOTHING, SIZE)
    with pytest.raises(MetricError, match="blank=9 is none of 5 classes"):
        Ctc(blank="9").decode([steps(4)], NOTHING, SIZE)
    with pytest.raises(UsageError, match="not both"):
        Ctc(alphabet="ab", vocabulary="v.txt")
    (tmp_path / "v.txt").write_text("x\nyy\nz\nw\n")
    assert Ctc(vocabulary=str(tmp_path / "v.txt")).decode([steps(2, 1)], NOTHING, SIZE) == "yyx"
