"""Images at another scale than the file speaks for are doubted, and those at the right one are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from building import Net, nchw, op, shape_of

import calib
from calib.engine.pixel_scale import sums_over_biases
from calib.engine.prepare import prepare
from calib.runtime.session import Session, ov

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 3, 12, 12)).astype(np.float32)
UNITS, NORMALIZED = PIXELS / 255, (PIXELS - 124) / 58


def network(before: str = "", weights: float = 1.0, behind: Any = None) -> ov.Model:
    """Return a network of two convolutions on images, with arithmetic before the first and another size of its weights.

    Args:
        before: "normalize", "center", "batch norm", "0..1" (arithmetic for pixels of 0 to 1), or none.
        weights: Factor of the weights of the first convolution.
        behind: Function of the first convolution's output.
    """
    net = Net()
    x = image = net.input(1, 3, 12, 12)
    image.output(0).set_names({"image"})
    mean, scale = (np.full((1, 3, 1, 1), value, np.float32) for value in (124, 58))
    if before == "normalize":
        x = op.divide(op.subtract(image, op.constant(mean)), op.constant(scale))
    elif before == "center":
        x = op.subtract(image, op.constant(mean))
    elif before == "0..1":
        x = op.divide(op.subtract(image, op.constant(mean / 255)), op.constant(scale / 255))
    elif before == "batch norm":
        ones = np.ones(3, np.float32)
        x = op.batch_norm_inference(image, ones, ones * 0, mean.ravel(), scale.ravel() ** 2, 1e-5)
    kernel = op.multiply(net.weights(8, 3, 3, 3), op.constant(np.float32(weights)))
    first = net.bias(op.convolution(x, kernel, [1, 1], [1, 1], [1, 1], [1, 1]))
    return net.model(net.bias(net.conv(op.relu(behind(net, first) if behind else first), 4)))


def doubted(model: ov.Model, samples: Any, **settings: Any) -> list[str]:
    given = {"effort": "fast", "estimator": "minmax", "target": "cpu-no-vnni", **settings}
    return list(calib.quantize(model, list(samples), **given).report.warnings)


def instance_norm(net: Net, x: Any) -> Any:
    return net.bias(op.mvn(x, np.array([2, 3]), True, 1e-5, "INSIDE_SQRT"))


@pytest.mark.parametrize(
    ("made", "samples"),
    [
        ({}, NORMALIZED),
        ({}, UNITS),
        ({"before": "normalize"}, PIXELS),
        ({"before": "center", "weights": 1 / 58}, PIXELS),
        ({"before": "center"}, PIXELS),
        ({"before": "batch norm"}, PIXELS),
        ({"before": "0..1"}, UNITS),
        ({"weights": 1 / 58}, PIXELS),
        ({"weights": 1 / 255}, PIXELS),
        ({"behind": instance_norm}, PIXELS),
    ],
    ids=[
        "normalized images",
        "units",
        "normalized inside",
        "centred inside, small weights",
        "centred inside",
        "batch norm in front",
        "units, normalized inside",
        "weights for pixels",
        "weights for units",
        "instance norm behind",
    ],
)
def test_images_at_the_right_scale_or_without_evidence_are_not_doubted(made: dict[str, Any], samples: Any):
    assert doubted(network(**made), samples) == []


@pytest.mark.parametrize("before", ["", "0..1"], ids=["nothing inside", "0..1"])
def test_pixels_for_a_network_of_normalized_images_are_doubted(before: str):
    (sentence,) = doubted(network(before), PIXELS)
    assert sentence.startswith("Input 'image' gets values from 0 to 255, and no mean or scale is set")
    assert "may have been trained on normalized images" in sentence and "preprocessing.mean" in sentence


@pytest.mark.parametrize(
    ("before", "weights"),
    [("normalize", 1), ("center", 1 / 58), ("batch norm", 1), ("", 1 / 255 / 58)],
    ids=["normalize", "center", "batch norm", "small weights"],
)
def test_units_for_a_network_of_pixels_are_doubted(before: str, weights: float):
    (sentence,) = doubted(network(before, weights), UNITS)
    assert sentence.startswith("Input 'image' gets values from 0 to 1, and the network may have been trained on 0 to")


def test_what_the_network_makes_of_both_scales_is_said():
    (sentence,) = doubted(network("0..1"), PIXELS)
    low, high = (round((value - 124 / 255) / (58 / 255), 2) for value in (0, 255))
    assert f"makes {low:.3g} to {high:.4g}"[:14] in sentence and "-2.14 to 2.26 of 0 to 1" in sentence


def test_who_gives_a_mean_or_a_scale_means_the_values_as_they_are():
    assert doubted(network(), PIXELS, preprocessing={"mean": 0}) == []
    assert doubted(network("normalize"), UNITS, preprocessing={"image": {"scale": 1}}) == []


def with_model_info(model: ov.Model, **values: str) -> ov.Model:
    for key, value in values.items():
        model.set_rt_info(value, ["model_info", key])
    return model


def test_arrays_that_model_infos_mean_and_scale_were_not_applied_to_are_told():
    info = {"mean_values": "124 124 124", "scale_values": "58 58 58"}
    (sentence,) = doubted(with_model_info(network(), **info), PIXELS)
    assert "Input 'image' gets values from 0 to 255, and the mean and scale in the file's model_info" in sentence
    assert "-2.14 to 2.26" in sentence
    assert doubted(with_model_info(network(), **info), NORMALIZED) == []
    (sentence,) = doubted(with_model_info(network(), **info), UNITS)
    assert "-2.14 to 2.26" in sentence
    assert doubted(with_model_info(network(), scale_values="255"), UNITS) == []


def test_bytes_of_zero_and_one_are_told():
    net = Net()
    image = net.input(1, 3, 12, 12, dtype=np.uint8)
    model = net.model(net.bias(net.conv(op.convert(image, np.float32), 4)))
    (sentence,) = doubted(model, np.round(UNITS).astype(np.uint8))
    assert "gets values from 0 to 1, and takes images as bytes of 0 to 255" in sentence


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_sums_of_the_first_convolution_are_those_that_it_computes(last: bool):
    net = Net()
    image = net.input(1, 9, 12, 3) if last else net.input(1, 3, 9, 12)
    x = nchw(image) if last else image
    conv = op.convolution(x, net.weights(8, 3, 2, 3), [1, 1], [0, 0], [0, 0], [1, 2])
    conv.set_friendly_name("first")
    biases = net.rng.uniform(1, 2, (1, 8, 1, 1)).astype(np.float32)
    model = net.model(op.add(conv, op.constant(biases)))
    array = np.random.default_rng(1).normal(size=shape_of(image)).astype(np.float32)
    (biased,) = Session(model)((array,))
    expected = np.sqrt(np.mean(np.square(biased - biases)) / np.mean(np.square(biases)))
    view = prepare(model, None, flags={}).view
    found = sums_over_biases(view, "first", [array.transpose(0, 3, 1, 2) if last else array])
    assert found == pytest.approx(expected, rel=1e-5)
