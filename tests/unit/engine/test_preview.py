"""Samples as the network sees them: values, pictures and answers, and what looks wrong with them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from openvino import opset13 as op
from PIL import Image
from trust_fixtures.tiny import convnet, images

from calib.engine.preview import preview
from calib.runtime.session import ov

CLASSES = 5


def scores_of_input(scale: float = 1.0, classes: int = CLASSES) -> ov.Model:
    """A classifier whose scores are its input."""
    given = op.parameter([1, classes], np.float32, name="signal")
    weights = op.constant(np.eye(classes, dtype=np.float32) * np.float32(scale))
    result = op.matmul(given, weights, False, False)
    result.output(0).set_names({"scores"})
    return ov.Model([op.result(result)], [given], "eye")


def labelled(shift: int, count: int = 40) -> list[tuple[np.ndarray, int]]:
    classes = [index % (CLASSES - 1) for index in range(count)]
    return [(np.eye(CLASSES, dtype=np.float32)[k][None] + 0.001 * i, k + shift) for i, k in enumerate(classes)]


def test_arrays_are_shown_with_their_range_a_histogram_and_the_best_classes():
    found = preview(scores_of_input(), labelled(0), count=3)
    assert (len(found.samples), found.looked_at, found.of_samples) == (3, 32, 40)
    (one,) = found.samples[0].inputs
    assert (one.name, one.shape, one.type, one.picture) == ("signal", (1, CLASSES), "float32", b"")
    assert one.low is not None and one.high == pytest.approx(one.low + 1) and sum(one.counts) == CLASSES
    target = found.samples[0].target
    assert found.samples[0].answers[0].startswith(f"{target}: ")
    assert found.agreement == "The best class is the label of 32 of 32 samples." and found.doubts == ()
    assert found.ranges[0].low == pytest.approx(0, abs=0.05) and found.preprocessing == ()


@pytest.mark.parametrize(
    ("samples", "doubt"),
    [
        (labelled(1), "With -1 added to each label, the best class would be the label of 32 samples"),
        (labelled(7), "is none of the 5 classes of the output"),
        ([(x, (k * 2 + 3) % CLASSES) for x, k in labelled(0, 200)], ""),
        (labelled(0, 20), "The number of calibration samples is 20"),
        ([np.zeros((1, CLASSES), np.float32)] * 40, "is all zero"),
    ],
)  # fmt: skip
def test_what_looks_wrong_is_said(samples: list, doubt: str):
    found = preview(scores_of_input(), samples)
    assert any(doubt in sentence for sentence in found.doubts) or not doubt


def test_labels_in_another_order_are_no_better_than_guessing():
    generator = np.random.default_rng(0)
    order = [(generator.random((1, 20), np.float32), int(generator.integers(20))) for _ in range(64)]
    found = preview(scores_of_input(classes=20), order)
    assert any("no better than guessing among 20 classes" in sentence for sentence in found.doubts)


def test_outputs_that_are_not_finite_are_said():
    found = preview(scores_of_input(3e38), [(2 * x, k) for x, k in labelled(0)])
    assert any("The outputs hold NaN or infinity for 32 of 32 samples" in sentence for sentence in found.doubts)
    assert found.samples[0].answers == ("scores that are not finite",)


def test_images_are_encoded_again_as_the_network_gets_them(tmp_path: Path):
    for name, colour in (("cat", (250, 10, 20)), ("dog", (10, 20, 250))):
        (tmp_path / name).mkdir()
        for index in range(6):
            Image.new("RGB", (40 + index, 30), colour).save(tmp_path / name / f"{index}.png")
    found = preview(
        convnet(),
        str(tmp_path),
        count=4,
        sets=["preprocessing.mean=100", "preprocessing.scale=50", "preprocessing.color=bgr"],
    )
    assert {sample.name.partition("/")[0] for sample in found.samples} == {"cat", "dog"}  # spread, not the first ones
    height, width = found.samples[0].inputs[0].shape[2:]
    picture = np.asarray(Image.open(io.BytesIO(found.samples[0].inputs[0].picture)))
    assert picture.shape[0] % height == 0 and picture.shape[1] % width == 0
    assert np.abs(picture.reshape(-1, 3).astype(int) - (250, 10, 20)).max() <= 1  # mean, scale and order are undone
    assert found.samples[0].inputs[0].low == pytest.approx((10 - 100) / 50)
    text = ", ".join(found.preprocessing)
    assert f"resize to {height}×{width}" in text and "mean 100" in text and "colours as bgr" in text
    assert found.samples[0].target in ("cat", "0")


def test_the_choice_is_the_same_in_every_order_and_small_data_are_shown_whole():
    data = list(images(5))
    first, second = preview(convnet(), data), preview(convnet(), data[::-1])
    assert [one.inputs for one in first.samples] == [one.inputs for one in second.samples] and len(first.samples) == 5


def test_a_detector_is_previewed_with_its_boxes_and_with_numbers_of_classes_that_differ():
    image = op.parameter([1, 3, 8, 8], np.float32, name="image")
    nothing = op.multiply(op.reduce_mean(image, np.array([1, 2, 3])), np.float32(0))
    boxes = np.array([[[0, 0, 2, 2], [3, 3, 5, 5], [5, 0, 8, 3]]], np.float32)
    outputs = [op.add(nothing, boxes), op.add(nothing, np.eye(4, dtype=np.float32)[None, 1:] * 0.9)]
    target = {"boxes": boxes[0], "labels": [0, 1, 2]}
    data = [(np.full((3, 8, 8), value, np.float32), target) for value in range(8)]
    model = ov.Model(outputs, [image])
    found = preview(model, data, decode="boxes-scores?relative=no", sets=["preprocessing.mean=0"])
    assert any("label_shift=-1" in doubt for doubt in found.doubts) and found.samples[0].answers[0].startswith("1: 0.9")
    other = preview(ov.Model([op.multiply(image, np.float32(2))], [image]), data, sets=["preprocessing.mean=0"])
    assert any(doubt.startswith("The outputs are shown as they are:") for doubt in other.doubts)
