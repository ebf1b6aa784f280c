"""What holds for every decoder in the table.

covers: calib.outputs, calib.outputs.decoder
"""

from __future__ import annotations

import dataclasses
import time
import warnings

import numpy as np
import pytest

from calib.errors import CalibError, MetricError, UsageError
from calib.outputs import DECODERS
from calib.outputs.decoder import ModelFacts, OutputFact
from calib.outputs.postprocess import BoxSteps
from calib.outputs.resolve import decoder_class, known_options, resolve_decoder
from calib.values.detections import Detections, ImageGeometry

SIZE = (64, 96)
CELLS = (8 * 12) + (4 * 6) + (2 * 3)
BOX = (24.0, 8.0, 56.0, 40.0)  # what each case of boxes holds, with this class and score, best of all
CLASS, SCORE = 1, 0.9


def facts(*outputs: np.ndarray, info: dict | None = None, **more) -> ModelFacts:
    """Return facts on a model with outputs of these shapes, and with a field of outputs for each name in ``more``."""
    rows = [
        OutputFact((f"output{i}",), array.shape, array.dtype, **{key: values[i] for key, values in more.items()})
        for i, array in enumerate(outputs)
    ]
    return ModelFacts(tuple(rows), SIZE, info or {}, (0, True))


def centre(box=BOX) -> list[float]:
    x1, y1, x2, y2 = box
    return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]


def classification():
    return [np.zeros((1, 3, 2, 2)), np.eye(4)[None, 2]], {}


def boxes():
    return [np.array([BOX, (0, 0, 4, 4)]), np.array([SCORE, 0.1]), np.array([CLASS, 0])], {}


def boxes_scores():
    shares = np.array([BOX, (0, 0, 4, 4)]) / np.tile(SIZE[::-1], 2)
    return [shares[None], np.array([[[0.05, SCORE, 0.05], [0.1, 0, 0]]])], {"bound": ["", "Sigmoid"]}


def ssd():
    shares = np.array(BOX) / np.tile(SIZE[::-1], 2)
    rows = np.array([[0, CLASS, SCORE, *shares], [0, 0, 0.1, 0, 0, 0.1, 0.1], [-1] * 7, [0, 0, 1, 0, 0, 1, 1]])
    return [rows[None, None]], {}


def ssd_raw():
    prior = np.array(BOX) / np.tile(SIZE[::-1], 2)
    priors = np.stack([np.stack([prior, [0, 0, 0.1, 0.1]]).ravel(), [0.1, 0.1, 0.2, 0.2] * 2])
    logits = np.log([[(1 - SCORE) / 2, SCORE, (1 - SCORE) / 2], [0.985, 0.0075, 0.0075]])
    return [np.zeros((1, 8)), logits.reshape(1, -1), priors[None]], {}


def logit(share: float) -> float:
    return float(np.log(share / (1 - share)))


def yolo_v2():
    head = np.full((5, 7, 2, 3), -20.0)  # 32 pixels a cell: the box is that of row 0, column 1, 1.25 by .75 cells in
    head[2, :, 0, 1] = [logit(0.25), logit(0.75), *np.log([1 / 6.63, 1 / 11.38]), logit(SCORE), -20, 20]
    return [head.reshape(1, 35, 2, 3)], {"options": "anchors=tiny-yolo-v2"}


def yolo_v3():
    heads = [np.full((3, 7, 2 * n, 3 * n), -20.0) for n in (1, 2, 4)]
    heads[0][1, :, 0, 1] = [logit(0.25), logit(0.75), *np.log([32 / 156, 32 / 198]), logit(SCORE), -20, 20]
    return [head.reshape(1, 21, *head.shape[2:]) for head in (heads[2], heads[0], heads[1])], {}


def yolo_v5():
    rows = np.zeros((3 * CELLS, 7))
    rows[5] = [*centre(), 1, 0.3, SCORE]
    return [rows[None]], {}


def yolo_v8():
    rows = np.zeros((CELLS, 6))
    rows[5] = [*centre(), 0.3, SCORE]
    return [rows.T[None]], {}


def yolo_end_to_end():
    rows = np.zeros((30, 6))
    rows[0] = [*BOX, SCORE, CLASS]
    return [rows[None]], {}


def yolox():
    rows = np.zeros((CELLS, 7))
    rows[96 + 6 + 2] = [40 / 16 - 2, 24 / 16 - 1, np.log(2), np.log(2), 1, 0.3, SCORE]  # stride 16, row 1, column 2
    return [rows[None]], {}


def segmentation():
    scores = np.zeros((1, 3, 32, 48))
    scores[0, CLASS, 4:20, 12:28] = 1
    return [scores], {}


def ctc():
    return [np.eye(5)[None, [0, 2, 2, 0, 2, 4]]], {}


# name → (outputs, fields of their facts); where shapes alone do not tell the family, "options".
CASES = {
    "classification": classification,
    "boxes": boxes,
    "boxes-scores": boxes_scores,
    "ssd": ssd,
    "ssd-raw": ssd_raw,
    "yolo-v2": yolo_v2,
    "yolo-v3": yolo_v3,
    "yolo-v5": yolo_v5,
    "yolo-v8": yolo_v8,
    "yolo-end-to-end": yolo_end_to_end,
    "yolox": yolox,
    "segmentation": segmentation,
    "ctc": ctc,
}


@pytest.fixture(params=list(DECODERS))
def case(request):
    name = request.param
    assert name in CASES, f"give {name} a case here"
    outputs, more = CASES[name]()
    options = more.pop("options", "")
    return name, outputs, facts(*outputs, **more), options


def decoding_of(name, known, options="", **more):
    asked = "&".join([*filter(None, [options]), *(f"{key}={value}" for key, value in more.items())])
    return resolve_decoder(f"{name}?{asked}", DECODERS[name].gives, known)


def test_it_is_found_from_its_own_outputs_and_says_why(case):
    name, _, known, _ = case
    found = resolve_decoder(None, DECODERS[name].gives, known)
    assert found is not None and found.name == name
    assert f"decoded as {name}: 'output" in found.sentence and "--decode" in found.sentence


def test_it_finds_what_the_outputs_hold(case):
    name, outputs, known, options = case
    found = decoding_of(name, known, options).decode(outputs, SIZE)
    if DECODERS[name].gives == "boxes":
        assert isinstance(found, Detections) and (found.labels[0], found.scores[0]) == (CLASS, pytest.approx(SCORE))
        np.testing.assert_allclose(found.boxes[0], BOX, atol=1e-6)
        assert list(found.scores) == sorted(found.scores, reverse=True)
    elif DECODERS[name].gives == "class map":
        assert found.shape == (32, 48) and found.sum() == 16 * 16 and found[4, 12] == CLASS
    elif DECODERS[name].gives == "scores":
        assert found.tolist() == [[0, 0, 1, 0]]
    else:
        assert found.tolist() == [[2, 2, 4]]


def test_boxes_and_maps_are_those_of_the_original_image(case):
    name, outputs, known, options = case
    if DECODERS[name].gives not in ("boxes", "class map"):
        return
    geometry = ImageGeometry.of_size(40, 96).placed(8, 0, *SIZE)  # what lies above and below is padding
    found = decoding_of(name, known, options).decode(outputs, SIZE, geometry)
    if DECODERS[name].gives == "class map":
        assert found.shape == (40, 96) and found[0, 24] == CLASS and found[31, 55] == CLASS and found.sum() == 32 * 32
    else:
        np.testing.assert_allclose(found.boxes[0], [24, 0, 56, 32], atol=1e-6)
        assert found.boxes.min() >= 0 and found.boxes[:, 3].max() <= 40


def test_arrays_for_metrics_have_one_form_whatever_the_family(case):
    name, outputs, known, options = case
    arrays = decoding_of(name, known, options).outputs(outputs, SIZE, None)
    if DECODERS[name].gives == "boxes":
        count = len(arrays[1])
        assert [array.shape for array in arrays] == [(count, 4), (count,), (count,)]
        assert [array.dtype.kind for array in arrays] == ["f", "f", "i"]
    else:
        (array,) = arrays
        assert array.shape[0] == 1 and array.ndim == {"scores": 2, "class map": 3, "text": 2}[DECODERS[name].gives]


def test_single_precision_gives_the_same(case):
    name, outputs, known, options = case
    single = [array.astype(np.float32) if array.dtype.kind == "f" else array for array in outputs]
    found = decoding_of(name, known, options)
    for one, other in zip(found.outputs(single, SIZE, None), found.outputs(outputs, SIZE, None), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30])
def test_what_is_not_finite_is_no_detection_and_no_warning(case, value):
    name, outputs, known, options = case
    broken = [np.full_like(array, value) if array.dtype.kind == "f" else array for array in outputs]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        arrays = decoding_of(name, known, options).outputs(broken, SIZE, None)
    if DECODERS[name].gives == "boxes":
        assert np.isfinite(arrays[0]).all() and np.isfinite(arrays[1]).all()


def test_outputs_of_another_form_are_refused_with_what_is_read(case):
    name, outputs, known, options = case
    with pytest.raises(CalibError, match="decode"):
        decoding_of(name, known, options).decode([np.zeros((2, 3, 5, 1, 7, 2))] * len(outputs), SIZE)
    with pytest.raises(CalibError, match="decode"):
        decoding_of(name, known, options).decode([], SIZE)


def test_every_option_is_described_and_can_be_given_as_text(case):
    name, _, known, _ = case
    texts = f"{decoder_class(name).__doc__} {type(decoding_of(name, known).steps).__doc__}"
    for key, field in known_options(name).items():
        assert f"{key}:" in texts, f"describe {key} in the docstring"
        assert field.default is not dataclasses.MISSING
        value = {"bool": "true", "int": "1", "float": "0.25"}.get(str(field.type), "")
        if value:
            made = decoding_of(name, known, **{key: value})
            holder = made.decoder if hasattr(made.decoder, key) else made.steps
            assert getattr(holder, key) == {"true": True, "1": 1, "0.25": 0.25}[value]


def test_options_that_do_not_exist_or_are_of_another_type_are_refused_by_name(case):
    name, _, known, _ = case
    with pytest.raises(UsageError, match=f"decode {name}: there is no option 'nothing'"):
        decoding_of(name, known, nothing=1)
    number = next((key for key, field in known_options(name).items() if field.type in ("int", "float")), None)
    if number:
        with pytest.raises(UsageError, match=f"decode {name}: {number} is a .*number, got 'much'"):
            decoding_of(name, known, **{number: "much"})


def test_a_metric_that_takes_something_else_is_told_what_it_takes(case):
    name, _, known, _ = case
    takes = "text" if DECODERS[name].gives != "text" else "boxes"
    with pytest.raises(UsageError, match=f"decode {name}: gives {DECODERS[name].gives}, and cer takes {takes}"):
        resolve_decoder(name, takes, known, "cer")


def test_equal_decoders_have_one_identity_and_other_options_another(case):
    name, _, known, _ = case
    assert decoding_of(name, known).identity == decoding_of(name, known).identity
    if DECODERS[name].gives == "boxes":
        assert decoding_of(name, known, score=0.25).identity != decoding_of(name, known).identity


def test_a_hundred_thousand_boxes_take_bounded_time():
    random = np.random.default_rng(0)
    rows = np.concatenate([random.uniform(0, 600, (100_000, 4)), random.random((100_000, 2))], axis=1)
    found = resolve_decoder("yolo-v5", "boxes", facts(rows[None]))
    start = time.process_time()
    assert 0 < len(found.decode([rows[None]], (640, 640))) <= 300
    assert time.process_time() - start < 5
    with pytest.raises(MetricError, match="yolo-v8"):
        resolve_decoder("yolo-v8", "boxes", facts(rows[None])).decode(
            [rows[None, :, :4].transpose(0, 2, 1)], (640, 640)
        )


def test_no_option_of_a_decoder_hides_one_of_the_postprocessing():
    shared = {field.name for field in dataclasses.fields(BoxSteps)}
    for name, row in DECODERS.items():
        own = {field.name for field in dataclasses.fields(decoder_class(name))}
        assert row.gives != "boxes" or not own & shared, name
