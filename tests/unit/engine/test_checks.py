"""Each check warns of what it is for, with the right value, and an ordinary run is warned of nothing.

covers: calib.engine.data_checks
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from building import Net, op
from trust_fixtures.tiny import convnet, images

import calib
from calib.engine.checks import CHECKS, FLOOR_DB
from calib.engine.data_checks import DATA_CHECKS, Data, class_folders
from calib.progress import silent
from calib.report.numbers import decibel
from calib.runtime.session import Session, ov

EFFORTS = ("fast", "balanced")


def warned(model: ov.Model, samples: Any, **settings: Any) -> list[str]:
    """Return the warnings of a run on levels that no CPU has to choose."""
    return list(
        calib.quantize(model, samples, **{"effort": "fast", "target": "cpu-no-vnni", **settings}).report.warnings
    )


@pytest.mark.parametrize("effort", EFFORTS)
def test_an_ordinary_run_is_warned_of_nothing(effort: str):
    assert warned(convnet(), list(images(40)), effort=effort, validation=list(images(10, seed=8))) == []


def test_every_check_has_a_name_that_says_what_it_is_of():
    checks = CHECKS | DATA_CHECKS
    assert len(checks) == len(CHECKS) + len(DATA_CHECKS) == len({check.__name__ for check in checks.values()})


def differences_of_a_large_number() -> ov.Model:
    """A convolution adds 1000 to signals of about 1, and the next takes differences: 256 levels can't hold that."""
    net = Net()
    stem = net.conv(net.input(1, 3, 8, 8), 8)
    stem = op.relu(op.add(stem, op.constant(np.full((1, 8, 1, 1), 1000, np.float32))))
    weights = net.rng.standard_normal((8, 8, 3, 3)).astype(np.float32)
    weights -= weights.mean((1, 2, 3), keepdims=True)
    y = op.convolution(stem, op.constant(weights), [1, 1], [0, 0], [0, 0], [1, 1])
    y.output(0).set_names({"y"})
    return net.model(y)


@pytest.mark.parametrize("effort", EFFORTS)
def test_an_output_of_noise_is_told_with_its_sqnr_whatever_the_effort(effort: str):
    model, samples = differences_of_a_large_number(), list(images(40))
    result = calib.quantize(model, samples, effort=effort)
    (sentence,) = [text for text in result.report.warnings if "SQNR" in text]
    outputs = [
        [y.astype(float) for [y] in Session(net).each((x[None],) for x in samples)] for net in (model, result.model)
    ]
    true = 10 * np.log10(np.sum(np.square(outputs[0])) / np.sum(np.square(np.subtract(outputs[0], outputs[1]))))
    (stated,) = result.report.output_sqnr_db.values()
    assert true < FLOOR_DB and abs(stated - true) < 1
    assert (
        f"Output 'y' of the INT8 model has an SQNR of {decibel(stated)} against" in sentence
        and "--max-drop" in sentence
    )


@pytest.mark.parametrize(("value", "what"), [(0.0, "all zero"), (2.5, "2.5 everywhere"), (1.0, "1 everywhere")])
def test_an_only_input_of_one_value_is_told(value: float, what: str):
    sentence, *others = warned(convnet(), [np.full((3, 8, 8), value, np.float32)] * 30)
    assert all("there is no SQNR" in other for other in others) and len(others) == (value == 0)  # FP32 gives zeros
    assert sentence.startswith(f"Input 'image' is {what} in all 30 calibration samples")


def three_inputs() -> ov.Model:
    """Token numbers, a mask and token types, as of a text network; an embedding, and a MatMul."""
    net = Net()
    names = ("ids", "mask", "types")
    ids, mask, types = (net.input(1, 6, dtype=kind) for kind in (np.int64, np.float32, np.int64))
    for name, node in zip(names, (ids, mask, types), strict=True):
        node.output(0).set_names({name})
    words = op.gather(net.weights(20, 8, fan_in=2), ids, op.constant(np.int64(0)))
    kinds = op.gather(net.weights(2, 8, fan_in=2), types, op.constant(np.int64(0)))
    seen = op.multiply(op.add(words, kinds), op.unsqueeze(mask, op.constant(np.int64(2))))
    return net.model(net.dense(seen, 8))


def test_a_mask_of_ones_and_token_types_of_zero_are_usual_and_a_mask_of_zeros_is_not():
    ids = np.random.default_rng(0).integers(0, 20, (40, 1, 6))
    ones, zeros, types = np.ones((1, 6), np.float32), np.zeros((1, 6), np.float32), np.zeros((1, 6), np.int64)
    assert warned(three_inputs(), [(x, ones, types) for x in ids]) == []
    (sentence,) = warned(three_inputs(), [(x, zeros, types) for x in ids])
    assert sentence.startswith("Input 'mask' is all zero")


def test_one_sample_again_and_again_is_told():
    (sentence,) = warned(convnet(), [images(1)[0]] * 40)
    assert sentence.startswith("In the 32 of 40 calibration samples looked at the inputs are the same")


def test_fewer_than_thirty_samples_are_told_with_their_number():
    (sentence,) = warned(convnet(), list(images(29)))
    assert sentence.startswith("The number of calibration samples is 29") and "at least 30" in sentence
    assert warned(convnet(), list(images(30))) == []


@pytest.mark.parametrize("effort", EFFORTS)
def test_one_sample_that_sets_most_extremes_is_named_with_what_the_others_reach(effort: str):
    samples = list(images(40))
    samples[7] = samples[7] * np.float32(50)
    (sentence,) = [text for text in warned(convnet(), samples, effort=effort) if "alone sets" in text]
    assert "item 7 of the list given alone sets the extremes of 4 of 4 quantized tensors" in sentence
    highest = max(float(x.max()) for number, x in enumerate(samples) if number != 7)
    assert samples[7].max() > 10 * highest and "in place of" in sentence


def test_a_sample_that_is_half_again_as_large_is_usual():
    samples = list(images(40))
    samples[7] = samples[7] * np.float32(1.5)
    assert warned(convnet(), samples) == []


def with_a_dead_layer(bias: float) -> ov.Model:
    net = Net()
    first = op.add(net.conv(net.input(1, 3, 8, 8), 8), op.constant(np.full((1, 8, 1, 1), bias, np.float32)))
    second = net.conv(op.relu(first), 8)
    second.set_friendly_name("second")
    return net.model(op.add(net.bias(net.conv(op.relu(net.bias(second)), 4)), net.bias(net.conv(net.inputs[0], 4))))


def test_a_layer_that_gets_only_zeros_is_named():
    (sentence,) = warned(with_a_dead_layer(-1000), list(images(40)))
    assert sentence.startswith("1 layer got nothing but zeros from the calibration samples, 'second' first")
    assert warned(with_a_dead_layer(0), list(images(40))) == []


def with_weights_of(size: float, channels: int) -> ov.Model:
    """Return a convolution of which some output channels have weights of this size; the others' are about 1."""
    net = Net()
    weights = net.rng.uniform(0.5, 1, (8, 3, 3, 3)).astype(np.float32)
    weights[:channels] *= np.float32(size)
    x = net.input(1, 3, 8, 8)
    small = op.convolution(x, op.constant(weights), [1, 1], [1, 1], [1, 1], [1, 1])
    small.set_friendly_name("small")
    return net.model(small, net.bias(net.conv(x, 4)))


def test_weights_below_the_smallest_scale_are_told_and_a_few_channels_of_them_are_usual():
    sentences = warned(with_weights_of(1e-13, 8), list(images(40)))
    (sentence,) = [text for text in sentences if "smallest scale" in text]
    assert sentence.startswith(
        "The weights of layer 'small' are at most 1e-13. The smallest scale there is reaches to "
    )
    assert "--ignore 'small'" in sentence
    assert not any("smallest scale" in text for text in warned(with_weights_of(1e-13, 4), list(images(40))))
    assert not any("smallest scale" in text for text in warned(with_weights_of(1e-6, 8), list(images(40))))


def test_values_below_the_smallest_scale_are_told_once_and_counted():
    sentences = warned(convnet(), [image * np.float32(1e-13) for image in images(40)])
    (sentence,) = [text for text in sentences if "smallest scale" in text]
    assert sentence.startswith("The values of tensor ") and "tensors are like this). The smallest scale" in sentence


@pytest.mark.parametrize(("shared", "which"), [(40, "All 10"), (37, "7 of 10"), (30, "")])
def test_validation_samples_that_calibration_used_are_counted_by_content(shared: int, which: str):
    """Of 40 samples ten are validated, and the first ``shared`` are calibrated on, in another order."""
    samples = list(images(40))
    sentences = warned(convnet(), samples[:shared][::-1], validation=samples[30:])
    assert [text.partition(" validation")[0] for text in sentences] == ([which] if which else [])


def test_that_accuracy_was_measured_on_calibration_for_want_of_others_is_said_once():
    (sentence,) = warned(convnet(), list(images(40)), metric="relative-l2")
    assert sentence.startswith("Accuracy was measured on the calibration samples, as no others were given")


def folders_told(*names: str, classes: int | None = None, **numbered: int) -> list[str]:
    numbered = numbered or {name: int(name) if name.isdecimal() else place for place, name in enumerate(sorted(names))}
    job: Any = SimpleNamespace()
    return list(class_folders(Data(job, class_folders=numbered, classes=classes)))


def test_class_folders_whose_numbers_do_not_count_from_zero_are_told():
    (sentence,) = folders_told("0", "180")
    assert "are numbers, 0, 180, and were taken for class numbers" in sentence and "?classes=FILE" in sentence
    (sentence,) = folders_told("0", "180", classes=2)
    assert folders_told("0", "180", classes=360) == folders_told("0", "1", "2") == folders_told("2", "0", "1") == []


def test_class_folders_that_letters_put_in_another_order_than_numbers_are_told():
    (sentence,) = folders_told("class1", "class2", "class10")
    assert "'class10' is class 1, and 'class2' class 2" in sentence and "?classes=FILE" in sentence
    assert folders_told("cat", "dog", "emu") == folders_told("n01440764", "n01443537", "n02979186") == []
    assert folders_told("class1", "class2") == folders_told("0_cat", "1_dog", "a-b", "a1b") == []


class Angle:
    """A metric of its own that takes the class folder for a number."""

    name, unit, higher_is_better, reads = "angle", "", False, "first output; target: a number"
    needs_target, needs_reference = True, False

    def measure(self, outputs: Any, target: Any, reference: Any = None) -> float:
        return abs(float(outputs[0].ravel()[0]) - target)

    def aggregate(self, parts: Any) -> float:
        return float(np.mean(parts))

    def per_sample(self, parts: Any) -> Any:
        return np.array(parts)


def test_folders_named_0_and_180_reach_the_report(tmp_path: Path):
    from PIL import Image

    for number in range(40):
        folder = tmp_path / ("0" if number % 2 else "180")
        folder.mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    settings = {"preprocessing": {"mean": 124, "scale": 58}, "metric": Angle()}
    sentences = warned(convnet(), str(tmp_path), validation=str(tmp_path), **settings)
    assert [text for text in sentences if "numbers, 0, 180" in text]
    assert not any("class folders" in text for text in warned(convnet(), str(tmp_path), preprocessing={"mean": 0}))
    (tmp_path / "names.txt").write_text("180\n0\n")
    listed = f"{tmp_path}?classes={tmp_path / 'names.txt'}"
    assert not any("class folders" in text for text in warned(convnet(), listed, validation=listed, **settings))


class Heard:
    """Progress that keeps the stages entered and what was said in each."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    @contextmanager
    def __call__(self, stage: str, total: int | None = None) -> Iterator[Any]:
        self.said.append((stage, ""))
        say = lambda line: self.said.append((stage, line))  # noqa: E731
        yield SimpleNamespace(update=lambda count=1, note="": None, say=say)


def test_what_is_known_of_the_samples_is_said_before_statistics_are_collected():
    heard, samples = Heard(), [np.zeros((3, 8, 8), np.float32)] * 10
    report = calib.quantize(
        convnet(), samples, validation=samples[:5], progress=heard, effort="fast", target="cpu-no-vnni"
    ).report
    stages = [stage for stage, line in heard.said if not line]
    told = [(stage, line) for stage, line in heard.said if line.startswith("warning: ")]
    assert [stage for stage, _ in told] == ["load", "load", "baseline"] and stages.index("statistics") == 3
    for part, (_, line) in zip(("is all zero in all 10", "samples is 10", "All 5 validation"), told, strict=True):
        assert part in line and line.removeprefix("warning: ") in report.warnings


def test_without_progress_warnings_of_the_samples_go_to_the_log_and_with_it_they_do_not(
    caplog: pytest.LogCaptureFixture,
):
    calib.quantize(convnet(), list(images(29)), effort="fast", target="cpu-no-vnni")
    assert [(record.name, record.levelname) for record in caplog.records] == [("calib", "WARNING")]
    assert "The number of calibration samples is 29" in caplog.text
    caplog.clear()
    calib.quantize(convnet(), list(images(29)), effort="fast", target="cpu-no-vnni", progress=silent)
    assert caplog.records == []


def test_evaluate_and_compare_look_at_their_samples_too(caplog: pytest.LogCaptureFixture):
    constant = [np.full((3, 8, 8), 0.5, np.float32)] * 4
    evaluated = calib.evaluate(convnet(), [(x, 0) for x in constant], "top-5")
    compared = calib.compare(convnet(), convnet(), constant)
    sentences = [f"Input 'image' is 0.5 everywhere in all 4 {what}samples" for what in ("validation ", "")]
    for found, sentence in zip((evaluated, compared), sentences, strict=True):
        assert [note for note in found.notes if note.startswith(sentence)], found.notes
        assert sentence in caplog.text
    good = calib.evaluate(convnet(), [(x, 0) for x in images(4)], "top-5")
    assert good.notes == calib.compare(convnet(), convnet(), list(images(4))).notes == []
