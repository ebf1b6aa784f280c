"""Where FP32 only guesses, the scale and the order of channels that it is right at are found on a few samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from building import Net, op

import calib
from calib.engine.evaluation import open_evaluator
from calib.engine.prepare import prepare
from calib.engine.scalings import SCALINGS, guessing, tried_scalings
from calib.errors import BaselineError
from calib.runtime.session import ov

Samples = list[tuple[Any, int]]


def of_blue_and_red() -> ov.Model:
    """Four classes: whether blue, and whether red, is over the middle of −1 to 1; the channels are blue, green, red."""
    net = Net()
    image = net.input(1, 3, 4, 4)
    weights = np.array([[-1, 1, -1, 1], [0, 0, 0, 0], [-1, -1, 1, 1]], np.float32).repeat(16, axis=0) / 16
    flat = op.reshape(image, op.constant(np.array([1, 48])), False)
    return net.model(op.matmul(flat, op.constant(weights), False, False))


def pixels(count: int) -> list[tuple[Any, int]]:
    """Return RGB pixels of 0 to 255, with blue and red a little under or over the middle, and the class."""
    rng = np.random.default_rng(0)
    found: Samples = []
    for number in range(count):
        blue, red = number % 2, number // 2 % 2
        colour = np.array([112 + 30 * red, 90, 112 + 30 * blue], np.float32).reshape(3, 1, 1)
        noise = rng.integers(-60, 61, (3, 4, 4))
        noise = noise - noise.mean((1, 2), keepdims=True).round()
        found.append((np.clip(colour + noise, 0, 255).astype(np.float32), blue + 2 * red))
    return found


def test_a_baseline_that_guesses_names_the_scale_and_order_at_which_it_does_not():
    samples = pixels(80)
    with pytest.raises(BaselineError, match="no better than guessing") as caught:
        calib.quantize(of_blue_and_red(), [x for x, _ in samples], validation=samples, metric="top-1")
    sentence = caught.value.lines[-1]
    assert sentence.startswith("On 64 samples top-1 is 0.2") and "values from 0 to 255, as they are" in sentence
    assert "and 1.00 with values from −1 to 1 and the channels in the other order" in sentence
    assert "preprocessing.color=bgr, preprocessing.mean=127.5, preprocessing.scale=127.5" in sentence


def test_evaluate_says_the_same_in_a_note_and_nothing_of_a_model_that_is_right():
    samples = pixels(80)
    (note,) = calib.evaluate(of_blue_and_red(), samples, "top-1").notes
    assert note.startswith("top-1 is 0.25, no better than guessing (0.25)") and "1.00 with values from −1 to 1" in note
    right: Samples = [(x[::-1] / 127.5 - 1, label) for x, label in samples]
    found = calib.evaluate(of_blue_and_red(), right, "top-1")
    assert found.value == 1 and found.notes == []


# Of the second ones none is the class that the network names whatever it sees at this scale: none is right there, and
# another scale at which it guesses is ahead.
@pytest.mark.parametrize("classes", [4, 3], ids=["of all classes", "never of the one that is named"])
def test_labels_that_no_scale_explains_are_not_put_down_to_the_scale(classes: int):
    labels = np.random.default_rng(3).integers(0, classes, 80).tolist()
    samples: Samples = [(x, label) for (x, _), label in zip(pixels(80), labels, strict=True)]
    evaluator = open_evaluator(prepare(of_blue_and_red(), None, flags={"metric": "top-1"}), samples)
    assert evaluator is not None
    parts = evaluator.run(evaluator.compiled(evaluator.job.reference, {}), range(80))
    assert guessing(evaluator, parts)
    tried = tried_scalings(evaluator, parts)
    assert "at 9 other scales and channel orders, so that these are hardly the reason" in tried


@pytest.mark.parametrize("scaling", [one for one in SCALINGS if one.low != -1], ids=lambda scaling: scaling.name)
def test_pixels_are_taken_for_what_they_are_at_every_scale(scaling: Any):
    mean, scale = (np.array(numbers, np.float32).reshape(-1, 1, 1) for numbers in (scaling.mean, scaling.scale))
    scaled = [((x - mean) / scale, label) for x, label in pixels(80)]
    (note,) = calib.evaluate(of_blue_and_red(), scaled, "top-1").notes
    assert f"values {scaling.name}, as they are" in note
    assert ", and 1.00 with values from −1 to 1 and the channels in the other order" in note
