"""Adapters give what the outputs of a model mean.

covers: calib.accuracy_check.yolo
"""

from __future__ import annotations

import numpy as np
import pytest

from calib.accuracy_check.adapters import ADAPTERS, Outputs
from calib.accuracy_check.fields import Fields
from calib.errors import MetricError


def adapted(kind, given, network=(32, 32), **values):
    problems = []
    made = ADAPTERS[kind](Fields(kind, values, problems))
    assert not problems, problems
    arrays = [np.asarray(array, np.float32) for array in given.values()]
    return made(Outputs(arrays, [[name] for name in given]), network)


def test_outputs_are_found_with_and_without_their_port():
    outputs = Outputs([np.zeros(1), np.ones(1)], [["a:0"], ["b", "b/sink_port_0"]])
    assert outputs.find("a")[0] == 0 and outputs.find("b/sink_port_0")[0] == 1 and outputs.find()[0] == 0
    with pytest.raises(MetricError, match="reads the output 'c', and the model's are a:0, b"):
        outputs.find("c")


def test_scores_are_flat_and_become_chances_if_asked():
    scores = adapted("classification", {"out": [[[[0.0]], [[np.log(3)]]]]}, do_softmax=True)
    np.testing.assert_allclose(scores.values, [0.25, 0.75], rtol=1e-6)


def test_rows_of_detection_output_end_at_minus_one():
    rows = [[0, 2, 0.9, 0.1, 0.2, 0.3, 0.4], [-1, 0, 0, 0, 0, 0, 0], [0, 1, 1, 0, 0, 1, 1]]
    found = adapted("ssd", {"out": [[rows]]})
    assert found.labels.tolist() == [2]
    np.testing.assert_allclose(found.corners, [[0.1, 0.2, 0.3, 0.4]])


def test_rows_without_class_are_scaled_and_empty_ones_dropped():
    outputs = {"labels": [[1, 2]], "boxes": [[10, 20, 30, 40, 0.5], [0, 0, 0, 0, 0]]}
    found = adapted("class_agnostic_detection", outputs, scale=[0.1, 0.01])
    np.testing.assert_allclose(found.corners, [[1, 0.2, 3, 0.4]], rtol=1e-6)


def test_a_cell_of_yolo_v2_lies_in_its_grid():
    grid = np.zeros((1, 2 * 7, 2, 2))  # two anchors, two classes
    grid[0, 7:14, 1, 0] = [0.5, 0.25, np.log(2), 0, 0.8, 0.1, 0.9]
    found = adapted("yolo_v2", {"out": grid}, anchors="9,9,1,2", num=2, classes=2, cells=2)
    assert found.labels.tolist() == [1]
    np.testing.assert_allclose(found.scores, [0.72], rtol=1e-6)
    np.testing.assert_allclose(found.corners, [[0.25 - 0.5, 0.625 - 0.5, 0.25 + 0.5, 0.625 + 0.5]], rtol=1e-6)


def test_yolo_v3_takes_its_anchors_by_mask_and_the_size_of_the_input():
    grid = np.full((1, 6, 2, 2), -9.0)  # one anchor, one class, raw
    grid[0, :, 0, 1] = [0, 0, 0, 0, 9, 9]
    options = {"anchors": "1,1,16,8", "num": 2, "classes": 1, "anchor_masks": [[1]], "outputs": ["a"]}
    found = adapted("yolo_v3", {"a": grid}, raw_output=True, threshold=0.1, **options)
    assert len(found) == 1
    np.testing.assert_allclose(found.corners, [[0.75 - 0.25, 0.25 - 0.125, 0.75 + 0.25, 0.25 + 0.125]], rtol=1e-5)


def test_yolo_v3_that_selects_boxes_itself():
    outputs = {"b": [[[1, 2, 3, 4], [5, 6, 7, 8]]], "s": [[[0.1, 0.2], [0.3, 0.4]]], "i": [[[0, 1, 1], [-1, -1, -1]]]}
    found = adapted("yolo_v3_onnx", outputs, boxes_out="b", scores_out="s", indices_out="i")
    assert found.labels.tolist() == [1]
    np.testing.assert_allclose(found.scores, [0.4], rtol=1e-6)
    np.testing.assert_allclose(found.corners, [[6, 5, 8, 7]])


def test_rows_of_yolox_are_relative_to_their_cells():
    rows = np.zeros((1, 21, 7))
    rows[0, 5] = [0.5, 0.25, 0, np.log(2), 0.5, 0.2, 0.8]  # stride 8, row 1, column 1
    found = adapted("yolox", {"out": rows})
    assert found.labels.tolist() == [0, 1]
    np.testing.assert_allclose(found.scores, [0.1, 0.4], rtol=1e-6)
    np.testing.assert_allclose(found.corners[1], [12 - 4, 10 - 8, 12 + 4, 10 + 8], rtol=1e-6)


def test_class_maps_and_images():
    planes = np.arange(8.0).reshape(1, 2, 2, 2)
    assert adapted("segmentation", {"out": planes}, make_argmax=True).values.tolist() == [[1, 1], [1, 1]]
    image = np.full((1, 3, 5, 5), 0.5)
    image[0, 0] = 2.0
    found = adapted("image_processing", {"out": image}, reverse_channels=True).values
    assert found.dtype == np.uint8 and found[0, 0].tolist() == [127, 127, 255]


def test_faces_above_a_threshold():
    outputs = {"s": [[[0.2, 0.8], [0.6, 0.4]]], "b": [[[0, 0, 1, 1], [0, 0, 2, 2]]]}
    found = adapted("ultra_lightweight_face_detection", outputs, scores_out="s", boxes_out="b")
    assert found.corners.tolist() == [[0, 0, 1, 1]] and found.labels.tolist() == [1]
