"""Boxes and scores of raw heads are compared apart where boxes are decoded from them."""

from __future__ import annotations

import numpy as np
import pytest

import calib
from calib.engine.prepare import prepare
from calib.runtime.session import ov
from tests.building import Net


def detector(*, seed: int = 0, apart: bool = False) -> ov.Model:
    """Return a network of two grids with three anchors and two classes, one convolution each.

    The offsets of boxes are a hundredth of the scores: one figure over both would be that of the scores alone.
    """
    net = Net(seed)
    x = net.input(1, 3, 64, 64)
    features = ov.opset13.relu(net.conv(x, 8, stride=2))
    for _ in range(3):
        features = ov.opset13.relu(net.conv(features, 8, stride=2))
    coarse = ov.opset13.relu(net.conv(features, 8, stride=2))
    small = np.where(np.arange(21) % 7 < 4, 0.01, 1).astype(np.float32).reshape(1, 21, 1, 1)
    heads = [ov.opset13.multiply(net.conv(y, 21, kernel=1), small) for y in (features, coarse)]
    for name, head in zip(("fine", "coarse"), heads, strict=True):
        head.output(0).set_names({name})
    if apart:
        heads = [ov.opset13.concat([ov.opset13.sigmoid(heads[0]), heads[0]], 1)]
    return ov.Model(heads, net.inputs, "detector")


def compared(**flags):
    return prepare(detector(), None, flags=flags).compared[0]


def test_heads_are_one_part_each_unless_boxes_are_decoded_from_them():
    assert compared().names == compared(metric="top-1").names == ["fine", "coarse"]
    parts = ["[:, :4 of every 7]", "[:, 4: of every 7]"]
    expected = [name + part for name in ("fine", "coarse") for part in parts]
    for flags in ({"metric": "coco-map"}, {"metric": "mse,voc-map?overlap=.6"}, {"decode": "yolo-v3"}):
        assert compared(**flags).names == expected


def test_the_parts_hold_boxes_and_scores_and_together_everything():
    found = compared(decode="yolo-v3")
    outputs = [np.arange(21 * n * n, dtype=np.float32).reshape(1, 21, n, n) for n in (4, 2)]
    boxes, scores, *_ = found.values(outputs)
    assert boxes.shape == (1, 12, 4, 4) and scores.shape == (1, 9, 4, 4)
    channels = outputs[0][0, :, 0, 0]
    assert boxes[0, :, 0, 0].tolist() == [channels[a * 7 + i] for a in range(3) for i in range(4)]
    assert scores[0, :, 0, 0].tolist() == [channels[a * 7 + i] for a in range(3) for i in range(4, 7)]


def test_what_the_graph_shows_is_kept():
    model = detector(apart=True)
    assert len(prepare(model, None, flags={"decode": "yolo-v3"}).compared[0].parts) == 2
    assert prepare(model, None, flags={"decode": "yolo-v3"}).compared == prepare(model, None, flags={}).compared


@pytest.mark.parametrize("decode", ["yolo-v3", None])
def test_a_comparison_shows_the_error_of_boxes_that_scores_would_hide(decode):
    model, samples = detector(), list(np.random.default_rng(0).normal(size=(4, 3, 64, 64)).astype(np.float32))
    result = calib.quantize(model, samples, effort="fast")
    found = calib.compare(model, result.model, samples, decode=decode)
    if decode is None:
        assert set(found.output_sqnr_db) == {"fine", "coarse"}
    else:
        assert len(found.output_sqnr_db) == 4 and "fine[:, :4 of every 7]" in found.output_sqnr_db
        assert any("decode yolo-v3: boxes and scores of its heads are compared apart" in note for note in found.notes)


def test_a_run_without_a_metric_says_what_is_compared_apart():
    samples = list(np.random.default_rng(0).normal(size=(4, 3, 64, 64)).astype(np.float32))
    report = calib.quantize(detector(), samples, effort="fast", decode="yolo-v3").report
    assert any("decode yolo-v3: boxes and scores of its heads are compared apart" in note for note in report.warnings)


def test_a_decoder_without_boxes_has_nothing_to_tell_apart():
    job = prepare(detector(), None, flags={"decode": "segmentation"})
    assert job.heads[0] == () and "nothing to tell apart" in job.heads[1]
    assert job.compared[0].names == ["fine", "coarse"]
