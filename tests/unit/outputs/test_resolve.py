"""Which decoder is chosen, and what is said where it can't be told."""

from __future__ import annotations

import numpy as np
import pytest

from calib.errors import MetricError, UsageError
from calib.outputs.decoder import ModelFacts, OutputFact
from calib.outputs.resolve import options_of, resolve_decoder
from calib.values.detections import Detections

F32, I64 = np.dtype(np.float32), np.dtype(np.int64)


def facts(*shapes, size=(640, 640), made_by="", bound="", attributes=None, **info) -> ModelFacts:
    """Return facts on a model with these outputs; a shape that ends in "int" is of integers."""
    outputs = [
        OutputFact((f"o{i}",), tuple(s for s in shape if s != "int"), I64 if "int" in shape else F32, made_by)
        for i, shape in enumerate(shapes)
    ]
    if bound or attributes:
        outputs = [
            OutputFact(one.names, one.shape, one.dtype, made_by, attributes[i] if attributes else {}, bound)
            for i, one in enumerate(outputs)
        ]
    return ModelFacts(tuple(outputs), size, info, (0, True))


def chosen(*shapes, takes="boxes", **more) -> str:
    found = resolve_decoder(None, takes, facts(*shapes, **more))
    return "" if found is None else found.name


@pytest.mark.parametrize(
    ("shapes", "name"),
    [
        ([(1, 1, 200, 7)], "ssd"),
        ([(1, 1, None, 7)], "ssd"),
        ([(100, 5), (100, "int")], "boxes"),
        ([(1, 300, 4), (1, 300), (1, 300, "int")], "boxes"),
        ([(None, 4), (None,), (None, "int")], "boxes"),
        ([(None, 5)], "boxes"),
        ([(1, 25200, 85)], "yolo-v5"),
        ([(1, 25200, 85), (1, 3, 80, 80, 85), (1, 3, 40, 40, 85), (1, 3, 20, 20, 85)], "yolo-v5"),
        ([(1, 25200, 6)], "yolo-v5"),  # one class
        ([(1, 84, 8400)], "yolo-v8"),
        ([(1, 5, 8400)], "yolo-v8"),
        ([(1, 300, 6)], "yolo-end-to-end"),
        ([(1, 8400, 85)], "yolox"),
        ([(1, 8400, 6)], "yolox"),
        ([(1, 255, 20, 20), (1, 255, 40, 40), (1, 255, 80, 80)], "yolo-v3"),
        ([(1, 20, 20, 255), (1, 40, 40, 255)], "yolo-v3"),
        ([(1, 425, 20, 20)], "yolo-v2"),
        ([(1, 20, 20, 125)], "yolo-v2"),
        ([(1, 4420, 2), (1, 4420, 4)], "boxes-scores"),
        ([(1, 7668), (1, 3834), (1, 2, 7668)], "ssd-raw"),
    ],
)
def test_families_are_told_apart_by_their_shapes(shapes, name):
    assert chosen(*shapes) == name


def test_what_shapes_leave_open_is_an_error_that_names_the_candidates_and_the_way_out():
    with pytest.raises(MetricError, match=r"coco-map: .*yolo-v5 \(.*; yolo-end-to-end \(.*--decode NAME"):
        resolve_decoder(None, "boxes", facts((1, 600, 6), size=(None, None)), "coco-map")


def test_model_info_decides_what_shapes_leave_open():
    made = resolve_decoder(None, "boxes", facts((1, 600, 6), size=(None, None), model_type="YOLOv10"))
    assert made.name == "yolo-end-to-end" and "model_info says yolov10" in made.sentence
    assert chosen((1, 25, 100), labels=" ".join("abcdefghijklmnopqrstu")) == "yolo-v8"
    with pytest.raises(MetricError, match="of no family"):
        chosen((1, 25, 100), labels=" ".join(map(str, range(30))))  # fewer columns than classes are named


def test_operations_tell_more_than_shapes():
    region = [{"do_softmax": False, "anchors": [1, 2, 3, 4, 5, 6, 7, 8], "mask": [m]} for m in (2, 1)]
    made = resolve_decoder(
        None, "boxes", facts((1, 7, 26, 26), (1, 7, 13, 13), made_by="RegionYolo", attributes=region)
    )
    assert made.name == "yolo-v3" and made.decoder.raw is False
    assert made.decoder.anchors == "1,2,3,4,5,6,7,8" and made.decoder.masks == (1, 2)  # the coarsest grid first
    softmax = [{"do_softmax": True, "anchors": [1, 2]}]
    made = resolve_decoder(None, "boxes", facts((1, 1183), made_by="RegionYolo", attributes=softmax))
    assert (made.name, made.decoder.raw, made.decoder.anchors) == ("yolo-v2", False, "1,2")


def test_raw_heads_of_later_networks_have_their_own_form_of_sides():
    later = resolve_decoder(None, "boxes", facts((1, 3, 80, 80, 85), (1, 3, 40, 40, 85), (1, 3, 20, 20, 85)))
    assert (later.name, later.decoder.sides) == ("yolo-v3", "square") and "sides=square" in later.sentence
    grids = (1, 255, 20, 20), (1, 255, 40, 40), (1, 255, 80, 80)
    assert resolve_decoder(None, "boxes", facts(*grids)).decoder.sides == "exp"


def test_a_sigmoid_or_softmax_at_the_end_is_not_applied_again():
    grids = (1, 255, 20, 20), (1, 255, 40, 40), (1, 255, 80, 80)
    assert resolve_decoder(None, "boxes", facts(*grids)).decoder.raw is True
    assert resolve_decoder(None, "boxes", facts(*grids, bound="Sigmoid")).decoder.raw is False
    raw, done = (resolve_decoder(None, "boxes", facts((1, 9, 2), (1, 9, 4), bound=b)).decoder for b in ("", "Softmax"))
    assert (raw.activation, done.activation) == ("softmax", "none") and raw.background == done.background == "0"


def test_outputs_of_no_family_are_named_and_so_are_the_families():
    with pytest.raises(MetricError, match=r"'o0' \[1,10\].*no family.*--decode NAME.*yolo-v8.*python:module"):
        resolve_decoder(None, "boxes", facts((1, 10)), "coco-map")


def test_metrics_that_read_outputs_as_they_are_get_them_so():
    assert chosen((1, 10), takes="scores") == ""
    assert chosen((1, 10), takes="") == ""
    assert chosen((1, 3, 4, 4), (1, 10), takes="scores") == "classification"
    assert chosen((1, 10), takes="class map") == ""


def test_what_is_asked_for_keeps_what_was_found_and_options_come_over_both():
    known = facts((1, 7668), (1, 3834), (1, 2, 7668))
    made = resolve_decoder("ssd-raw?activation=none&nms=.6&only=1,2&nms_all=yes", "boxes", known)
    assert (made.decoder.priors, made.decoder.activation) == ("o2", "none")
    assert (made.steps.nms, made.steps.only, made.steps.nms_all, made.steps.most) == (0.6, (1, 2), True, 200)
    assert made.sentence.startswith("The outputs are decoded as ssd-raw?activation=none&nms=.6")


def test_none_switches_a_number_off():
    assert options_of("yolo-v8", "nms=none&most=none") == {"nms": 0.0, "most": 0}


def test_a_plus_sign_is_one():
    given = resolve_decoder("ctc?alphabet=digits+lower&blank=last", "text", facts((9, 1, 37)))
    steps = np.eye(37)[[12, 36, 10, 21, 18, 36, 8]][:, None]
    assert given.decode([steps], (1, 1)) == "cali8"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("yolo-v9", r"no decoder 'yolo-v9' \(did you mean yolo-v"),
        ("yolo-v8?anchor=1", "no option 'anchor'"),
        ("yolo-v8?relative=maybe", "relative is true or false, got 'maybe'"),
        ("yolo-v2?anchors=1,2,3", "pairs of width and height, got 3"),
        ("yolo-v2?anchors=some", "numbers with commas or one of yolo-v2"),
        ("yolo-v3?sides=round", "sides is one of exp, square"),
        ("boxes-scores?form=left", "form is one of corners, centre"),
        ("ctc?blank=none", "blank is first, last or the number"),
        ("ctc?vocabulary=/nowhere/v.txt", "vocabulary /nowhere/v.txt can't be read"),
        ("ssd-raw?variances=.1,.2", "four variances, got 2"),
        ("ssd-raw?variances=.1,.1,.2,inf", "variances is finite numbers, got"),
        ("yolo-v8?score=nan", "score is a finite number, got 'nan'"),
        ("yolo-v8?classes=-1", "classes is 0 or more, got -1"),
        ("yolo-v8?nms=.5&nms=.6", "option 'nms' is given twice"),
    ],
)
def test_what_can_not_be_is_refused_with_what_can(given, message):
    known = facts((1, 10, 10, 10))
    with pytest.raises(UsageError, match=message):
        resolve_decoder(given, None, known).decode([np.zeros((1, 10, 10, 10))], (64, 64))


def test_an_object_of_the_users_decodes():
    class Mine:
        def decode(self, outputs, facts, size):
            return Detections(outputs[0], [0.5], [3])

    made = resolve_decoder(Mine(), "boxes", facts((1, 4)))
    arrays = made.outputs([np.array([[1, 2, 3, 4]])], (64, 64), None)
    assert arrays[0].tolist() == [[1, 2, 3, 4]] and arrays[2].tolist() == [3]


def test_what_an_object_of_the_users_raises_is_an_error_of_the_decoder():
    class Broken:
        def decode(self, outputs, facts, size):
            raise KeyError("boxes")

    with pytest.raises(MetricError, match="decode Broken: KeyError: 'boxes'"):
        resolve_decoder(Broken(), "boxes", facts((1, 4))).decode([np.zeros(4)], (64, 64))
