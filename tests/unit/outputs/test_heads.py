"""Raw heads of detectors against formulas written out number by number.

covers: calib.outputs.yolo_v2, calib.outputs.yolo_v3, calib.outputs.yolox, calib.outputs.ssd_raw
"""

from __future__ import annotations

from math import exp

import numpy as np
import pytest

from calib.errors import MetricError, UsageError
from calib.outputs.decoder import ModelFacts, OutputFact
from calib.outputs.grid import ANCHORS
from calib.outputs.ssd_raw import RawSsd
from calib.outputs.yolo_v2 import YoloV2
from calib.outputs.yolo_v3 import YoloV3
from calib.outputs.yolox import YoloX

SIZE = (64, 96)
NOTHING = ModelFacts(())


def sigma(x: float) -> float:
    return 1 / (1 + exp(-x))


def rows(found) -> np.ndarray:
    """Return boxes, scores and labels as one table in an order of its own."""
    table = np.column_stack([found.boxes, found.scores, found.labels])
    return table[np.lexsort(table.T)]


def same(found, expected) -> None:
    table = np.array(expected)
    np.testing.assert_allclose(rows(found), table[np.lexsort(table.T)], rtol=1e-9, atol=1e-9)


def box(x: float, y: float, w: float, h: float) -> list[float]:
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def head(seed: int, anchors: int, classes: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, anchors * (5 + classes), height, width))


@pytest.mark.parametrize("form", ["planes", "last", "flat"])
def test_yolo_v2_is_its_formula(form):
    anchors, classes, (height, width) = (1.5, 2.0, 3.0, 1.0), 3, (2, 3)
    given = head(0, 2, classes, height, width)
    expected = []
    for a in range(2):
        for i in range(height):
            for j in range(width):
                x, y, w, h, objectness, *scores = given[0, a * 8 : (a + 1) * 8, i, j]
                shares = [exp(s) / sum(map(exp, scores)) for s in scores]
                best = int(np.argmax(shares))
                corners = box((sigma(x) + j) * 32, (sigma(y) + i) * 32, exp(w) * anchors[2 * a] * 32,
                              exp(h) * anchors[2 * a + 1] * 32)  # fmt: skip
                expected.append([*corners, sigma(objectness) * shares[best], best])
    array = {"planes": given, "last": given.transpose(0, 2, 3, 1), "flat": given.reshape(1, -1)}[form]
    same(YoloV2(anchors="1.5,2,3,1").decode([array], NOTHING, SIZE), expected)


def test_yolo_v2_leaves_alone_what_region_yolo_has_done():
    given = np.zeros((1, 7, 2, 3))
    given[0, :, 1, 2] = [0.5, 0.25, 0, 0, 0.8, 0.1, 0.9]
    found = YoloV2(anchors="1,1", raw=False).decode([given], NOTHING, SIZE)
    best = found.take([int(found.scores.argmax())])
    assert best.boxes.tolist() == [box(2.5 * 32, 1.25 * 32, 32, 32)]
    assert (best.scores[0], best.labels[0]) == (pytest.approx(0.72), 1)


@pytest.mark.parametrize("scale", [1.0, 1.2])
@pytest.mark.parametrize("sides", ["exp", "square"])
def test_yolo_v3_is_its_formula(scale, sides):
    classes = 2
    heads = [head(seed, 3, classes, 2 * n, 3 * n) for seed, n in enumerate((4, 1, 2))]  # strides 8, 32, 16
    anchors = np.reshape(ANCHORS["yolo-v3"], (9, 2))
    expected = []
    for given, first in zip(heads, (0, 6, 3), strict=True):
        stride = 64 / given.shape[2]
        for a in range(3):
            for i in range(given.shape[2]):
                for j in range(given.shape[3]):
                    x, y, w, h, objectness, *scores = given[0, a * 7 : (a + 1) * 7, i, j]
                    s = 2.0 if sides == "square" else scale
                    centre = [(sigma(v) * s - (s - 1) / 2 + at) * stride for v, at in ((x, j), (y, i))]
                    grown = [exp(v) if sides == "exp" else (2 * sigma(v)) ** 2 for v in (w, h)]
                    best = int(np.argmax(scores))
                    corners = box(*centre, grown[0] * anchors[first + a][0], grown[1] * anchors[first + a][1])
                    expected.append([*corners, sigma(objectness) * sigma(scores[best]), best])
    same(YoloV3(scale=scale, sides=sides).decode(heads, NOTHING, SIZE), expected)


def test_yolo_v3_reads_heads_with_channels_last_and_with_anchors_apart():
    heads = [head(seed, 3, 2, 2 * n, 3 * n) for seed, n in enumerate((1, 2))]
    expected = rows(YoloV3().decode(heads, NOTHING, SIZE))
    last = [given.transpose(0, 2, 3, 1) for given in heads]
    apart = [given.reshape(1, 3, 7, *given.shape[2:]).transpose(0, 1, 3, 4, 2) for given in heads]
    np.testing.assert_allclose(rows(YoloV3().decode(last, NOTHING, SIZE)), expected)
    np.testing.assert_allclose(rows(YoloV3().decode(apart, NOTHING, SIZE)), expected)


def test_each_class_of_a_box_is_a_detection_if_asked():
    found = YoloV3(several=True, anchors="8,8", masks=(0,)).decode([head(0, 1, 4, 2, 3)], NOTHING, SIZE)
    assert len(found) == 2 * 3 * 4 and sorted(set(found.labels)) == [0, 1, 2, 3]


@pytest.mark.parametrize("masks", [(9,), (0, 1, 2)])
def test_masks_that_do_not_fit_are_refused(masks):
    with pytest.raises(MetricError, match="masks are numbers of 9 anchors, as many for each of 2 outputs"):
        YoloV3(masks=masks, anchors="yolo-v3").decode([head(0, 3, 2, 2, 3), head(0, 3, 2, 4, 6)], NOTHING, SIZE)


def test_yolox_is_its_formula():
    values = np.random.default_rng(0).uniform(0, 1, (1, 96 + 24 + 6, 7))
    expected, row = [], 0
    for stride in (8, 16, 32):
        for i in range(64 // stride):
            for j in range(96 // stride):
                x, y, w, h, objectness, *scores = values[0, row]
                corners = box((x + j) * stride, (y + i) * stride, exp(w) * stride, exp(h) * stride)
                expected.append([*corners, objectness * max(scores), int(np.argmax(scores))])
                row += 1
    same(YoloX().decode([values], NOTHING, SIZE), expected)


def test_yolox_says_which_strides_would_have_how_many_rows():
    with pytest.raises(MetricError, match="have 126 cells in an input of 64x96, and the output has 120 rows"):
        YoloX().decode([np.zeros((1, 120, 7))], NOTHING, SIZE)


def facts(*names: str) -> ModelFacts:
    return ModelFacts(tuple(OutputFact((name,), (), np.dtype(np.float32)) for name in names))


def priors_and_heads(classes: int = 3, count: int = 6):
    random = np.random.default_rng(1)
    corner = random.uniform(0, 0.6, (count, 2))
    priors = np.concatenate([corner, corner + random.uniform(0.1, 0.4, (count, 2))], axis=1)
    return priors, random.normal(size=(1, count * 4)), random.normal(size=(1, count, classes))


@pytest.mark.parametrize("variances", [(0.1, 0.1, 0.2, 0.2), (0.5, 0.4, 0.3, 0.2)])
@pytest.mark.parametrize("where", ["output", "file", "centre"])
def test_raw_ssd_is_its_formula(variances, where, tmp_path):
    priors, offsets, scores = priors_and_heads()
    expected = []
    for prior, d, logits in zip(priors, offsets.reshape(-1, 4), scores[0], strict=True):
        w, h = prior[2] - prior[0], prior[3] - prior[1]
        x, y = prior[0] + w / 2 + variances[0] * d[0] * w, prior[1] + h / 2 + variances[1] * d[1] * h
        sides = w * exp(variances[2] * d[2]), h * exp(variances[3] * d[3])
        corners = np.array(box(x, y, *sides)) * (96, 64, 96, 64)
        shares = [exp(s) / sum(map(exp, logits)) for s in logits]
        expected += [[*corners, share if label else -1, label] for label, share in enumerate(shares)]
    named = {"boxes": "b", "scores": "s", "priors": "p"}
    rowed = np.stack([priors.ravel(), np.tile(variances, len(priors))])[None]
    outputs, known = [scores, rowed, offsets], facts("s", "p", "b")
    if where == "file":
        np.save(tmp_path / "priors.npy", priors)
        outputs, known = [scores, offsets], facts("s", "b")
        named |= {"priors": str(tmp_path / "priors.npy")}
    if where == "centre":
        centred = np.concatenate([(priors[:, :2] + priors[:, 2:]) / 2, priors[:, 2:] - priors[:, :2]], axis=1)
        outputs[1] = centred[None]
    made = RawSsd(**named, variances=variances, form="centre" if where == "centre" else "corners")
    same(made.decode(outputs, known, SIZE), expected)


def test_raw_ssd_asks_for_what_it_needs():
    priors, offsets, scores = priors_and_heads()
    with pytest.raises(MetricError, match="say which outputs are which"):
        RawSsd().decode([offsets, scores, priors], facts("b", "s", "p"), SIZE)
    with pytest.raises(MetricError, match="background=3 is none of 3 classes"):
        made = RawSsd(boxes="b", scores="s", priors="p", background="3")
        made.decode([offsets, scores, priors[None]], facts("b", "s", "p"), SIZE)


def test_an_input_of_text_for_priors_is_no_pickle(tmp_path):
    np.save(tmp_path / "p.npy", np.array([{"a": 1}], object), allow_pickle=True)
    _, offsets, scores = priors_and_heads()
    with pytest.raises(UsageError, match=r"can't be read.*allow_pickle"):
        made = RawSsd(boxes="b", scores="s", priors=str(tmp_path / "p.npy"))
        made.decode([offsets, scores], facts("b", "s"), SIZE)
    with open(tmp_path / "p.npy", "wb") as archive:
        np.savez(archive, a=np.zeros(3))
    with pytest.raises(UsageError, match="holds several arrays; write the priors alone"):
        made = RawSsd(boxes="b", scores="s", priors=str(tmp_path / "p.npy"))
        made.decode([offsets, scores], facts("b", "s"), SIZE)
