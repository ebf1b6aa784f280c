"""The program beside a model prepares images as calib did, and runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from calib.engine.snippet import prepare_lines, run_snippet
from calib.samples.preprocess import Preprocess
from calib.samples.sample import InputSpec
from calib.values.facts import ModelFacts, Report, SettingFacts, TensorFacts

SETTINGS: list[dict[str, Any]] = [
    {},
    {"resize": (20, 30), "filter": "bicubic"},
    {"resize_short": 33, "crop": (24, 24), "mean": (123.7, 116.3, 103.5), "scale": (58.4, 57.1, 57.4)},
    {"resize_long": 24, "pad": (24, 24), "pad_value": (1, 2, 3), "pad_position": "corner", "color": "bgr"},
    {"letterbox": (24, 24), "color": "bgr", "mean": (10.0,)},
    {"letterbox": (24, 31), "pad_value": (9, 8, 7), "scale": (255.0,)},
]


# Inputs of three channels take all of them, one of one channel those without anything for three.
COLOURS = [
    (given or {"resize": (24, 24)}, shape) for given in SETTINGS for shape in ((1, 3, None, None), (1, None, None, 3))
]
GRAY = [({}, (1, 1, 24, 24)), ({"letterbox": (24, 24), "mean": (10.0,)}, (1, 1, 24, 24))]


@pytest.mark.parametrize(("given", "shape"), [*COLOURS, *GRAY])
@pytest.mark.parametrize("size", [(47, 35), (24, 24), (25, 90)])
def test_images_are_prepared_to_the_bit_as_calib_does(given: dict[str, Any], shape: Any, size: tuple[int, int]):
    made = Preprocess(**given).resolve(InputSpec("x", ("x",), shape, np.dtype(np.float32)))
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    space: dict[str, Any] = {"np": np, "Image": Image}
    exec("\n".join(prepare_lines(made)), space)  # it is ours
    found = space["prepare"](Image.fromarray(pixels), np.float32)
    np.testing.assert_array_equal(found, made.apply(Image.fromarray(pixels))[None])


def report(shape: str, calibration: str, *settings: SettingFacts, name: str = "net") -> Report:
    facts = ModelFacts(name=name, fingerprint="0", inputs=[TensorFacts(name="x", shape=shape, type="f32")])
    return Report(calib_version="0", status="quantized", model=facts, calibration=calibration, settings=list(settings))


def test_arrays_are_loaded_and_not_taken_for_images():
    assert "def prepare" not in run_snippet(report("[1,3,8,8]", "/data/samples.npz"))
    assert "def prepare" not in run_snippet(report("[1,40]", "/data/images"))
    made = run_snippet(
        report(
            "[?,3,8,8]", "/data/images", SettingFacts(key="preprocessing.mean", value=[1.0, 2.0, 3.0], origin="file")
        )
    )
    assert "np.float32([1.0, 2.0, 3.0])" in made and "resize((8, 8)" in made


def test_what_the_model_has_embedded_is_not_done_twice_and_precision_is_that_of_the_run():
    settings = [
        SettingFacts(key="preprocessing.scale", value=[255.0], origin="file"),
        SettingFacts(key="preprocessing.embed", value=True, origin="file"),
        SettingFacts(key="float_precision", value="f32", origin="flag"),
    ]
    made = run_snippet(report("[1,3,8,8]", "/data/images", *settings))
    assert "255.0" not in made and '{"INFERENCE_PRECISION_HINT": "f32"}' in made


def test_a_name_never_becomes_code():
    evil = 'x"""\nimport os\nos.abort()\n"""'
    compile(run_snippet(report("[1,3,8,8]", "/data/images", name=evil)), "run.py", "exec")
    assert "\nos.abort()" not in run_snippet(report("[1,3,8,8]", "/data/images", name=evil))
