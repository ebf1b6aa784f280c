"""Raw heads of detectors are measured by the metric of boxes: found by itself, said, and overridden."""

from __future__ import annotations

import numpy as np
import pytest

import calib
from calib.errors import MetricError, UsageError
from calib.runtime.session import ov

op = ov.opset13
BOX = [16, 8, 48, 40]


def detector(score: float = 0.9, *, extra: bool = False) -> ov.Model:
    """Return a network of 64x64 pixels whose head [1, 6, 84] holds one box of class 1, brighter images none.

    The score falls with the image's brightness, behind a convolution.
    """
    x = op.parameter([1, 3, 64, 64], np.float32, name="image")
    features = op.convolution(x, np.ones((1, 3, 1, 1), np.float32) / 3, [1, 1], [0, 0], [0, 0], [1, 1])
    bright = op.reduce_mean(features, np.array([2, 3]), True)  # [1, 1, 1, 1]
    head = np.zeros((1, 6, 84), np.float32)
    head[0, :, 7] = [32, 24, 32, 32, 0, score]
    cut = np.zeros((1, 6, 84), np.float32)
    cut[0, 5, 7] = 1
    out = op.subtract(op.constant(head), op.multiply(op.reshape(bright, [1, 1, 1], False), op.constant(cut)))
    out.output(0).set_names({"head"})
    return ov.Model([out, x] if extra else [out], [x], "detector")


def labelled(brightness=(0.0, 0.1, 0.2)):
    target = {"boxes": [BOX], "labels": [1]}
    return [(np.full((1, 3, 64, 64), value, np.float32), target) for value in brightness]


def test_a_raw_head_is_decoded_and_the_report_says_how():
    found = calib.evaluate(detector(), labelled(), "coco-map", sets=["normalize=false"])
    assert found.value == pytest.approx(1)
    assert any("decoded as yolo-v8: 'head' [1,6,84]" in note and "--decode" in note for note in found.notes)


def test_options_are_obeyed_and_said():
    found = calib.evaluate(detector(), labelled(), "coco-map", decode="yolo-v8?label_shift=1")
    assert found.value == 0
    assert any("decoded as yolo-v8?label_shift=1, as asked" in note for note in found.notes)
    assert calib.evaluate(detector(), labelled(), "coco-map", decode="yolo-v8?score=.85").value < 0.5


def test_an_object_that_decodes_is_taken():
    class Mine:
        def decode(self, outputs, facts, size):
            assert size == (64, 64) and facts.outputs[0].name == "head"
            return calib.Detections([[16, 8, 48, 40]], [0.5], [1])

    assert calib.evaluate(detector(), labelled(), "coco-map", decode=Mine()).value == pytest.approx(1)


def test_quantizing_within_a_budget_judges_what_is_decoded(caplog):
    data = labelled(np.linspace(0, 0.4, 12))
    result = calib.quantize(
        detector(), [feed for feed, _ in data], validation=data, metric="coco-map", max_drop=0.05, effort="fast"
    )
    assert result.report.accuracy.metric == "coco-map" and result.report.accuracy.baseline == pytest.approx(1)
    assert sum("decoded as yolo-v8" in warning for warning in result.report.warnings) == 1
    settings = {fact.key: fact for fact in result.report.settings}
    assert settings["decode"].value is None


def test_a_decoder_that_the_metric_does_not_take_is_refused_before_anything_runs():
    with pytest.raises(UsageError, match="decode ctc: gives text, and coco-map takes boxes"):
        calib.evaluate(detector(), labelled(), "coco-map", decode="ctc")
    with pytest.raises(UsageError, match="relative-l2 compares outputs whatever they mean"):
        calib.quantize(detector(), [feed for feed, _ in labelled()], metric="relative-l2", max_drop=1, decode="yolo-v8")
    with pytest.raises(UsageError, match=r"decode.*must be one of classification"):
        calib.evaluate(detector(), labelled(), "coco-map", decode="nothing")
    with pytest.raises(UsageError, match="runs the model itself"):
        calib.evaluate(detector(), labelled(), lambda predict: 1.0, decode="yolo-v8")


def test_outputs_that_can_not_be_told_name_the_way_out():
    with pytest.raises(MetricError, match=r"no family.*--decode NAME"):
        x = op.parameter([1, 3, 64, 64], np.float32, name="image")
        pooled = op.reduce_mean(x, np.array([2, 3]))
        calib.evaluate(ov.Model([pooled], [x], "classifier"), labelled(), "coco-map")
