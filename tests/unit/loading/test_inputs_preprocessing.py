from __future__ import annotations

import numpy as np
import pytest
from openvino import opset13 as opset
from PIL import Image

from calib.errors import ModelError
from calib.loading.inputs import embed, found_preprocessing
from calib.loading.load import input_specs, load_model
from calib.runtime.session import Session, ov
from calib.samples.preprocess import Preprocess
from calib.samples.sample import InputSpec


def _network(shape=(1, 3, 6, 5), element=np.float32, channel_axis=1):
    x = opset.parameter(list(shape), element, name="image")
    axes = opset.constant([axis for axis in (1, 2, 3) if axis != channel_axis])
    y = opset.reduce_mean(x, axes, keep_dims=False) if element == np.float32 else x
    return ov.Model([opset.result(y, name="out")], [x], "net")


@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_the_model_with_bytes_in_gives_what_the_host_gave(color, layout):
    shape, axis = ((1, 3, 6, 5), 1) if layout == "NCHW" else ((1, 6, 5, 3), 3)
    model = _network(shape, channel_axis=axis)
    (spec,) = input_specs(model)
    wanted = Preprocess(color=color, layout=layout, mean=(10, 20, 30), scale=(2, 4, 8)).resolve(spec)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8))
    expected = Session(model)([wanted.apply(image)[None]])[0]
    made = embed(model, wanted, spec)
    (inside,) = input_specs(made.model)
    assert inside.dtype == np.uint8 and inside.shape == (1, 6, 5, 3) and inside.layout == "NHWC"
    assert made.model.input(0).get_names() == model.input(0).get_names()
    got = Session(made.model)([made.remaining.resolve(inside).apply(image)[None]])[0]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)  # some f32 roundings in another order
    assert "subtracts 10 20 30, divides by 2 4 8" in made.sentences[0]
    assert ("turns RGB into BGR" in made.sentences[0]) == (color == "bgr")
    assert model.input(0).get_element_type() == ov.Type.f32


def test_an_input_of_bytes_has_nothing_to_embed():
    model = _network(element=np.uint8)
    with pytest.raises(ModelError, match="does not take floating-point"):
        embed(model, Preprocess(), input_specs(model)[0])
    assert load_model(model).facts.preprocessing == [
        "input 'image' takes u8 images: the model does its preprocessing itself"
    ]


def test_model_info_is_read_as_model_api_writes_it():
    info = {
        "model_info/mean_values": "123.675 116.28 103.53",
        "model_info/scale_values": "[58.395, 57.12, 57.375]",
        "model_info/reverse_input_channels": "True",
        "model_info/layout": "image:NCHW",
        "model_info/resize_type": "fit_to_window_letterbox",
    }
    inputs = [InputSpec("image", ("image",), (1, 3, 64, 32), np.dtype(np.float32))]
    found, doubts = found_preprocessing(info, inputs)
    assert not doubts and found == {
        "mean": (123.675, 116.28, 103.53),
        "scale": (58.395, 57.12, 57.375),
        "color": "rgb",
        "layout": "NCHW",
        "letterbox": (64, 32),
        "pad_position": "center",
        "pad_value": (0.0,),
    }
    Preprocess(**found)
    info["model_info/resize_type"] = "fit_to_window"
    assert found_preprocessing({**info, "model_info/pad_value": "114"}, inputs)[0]["pad_value"] == (114.0,)
    assert found_preprocessing(info, inputs)[0]["pad_position"] == "corner"
    found, doubts = found_preprocessing(info)
    assert "letterbox" not in found and "no fixed size to fill" in doubts[0]
    assert found_preprocessing({**info, "model_info/embedded_processing": "True"}) == ({}, [])


@pytest.mark.parametrize("value", ["a b c", "1 2", "nan", "1 2 3 4 5", "__import__('os')"])
def test_values_that_are_no_numbers_are_ignored_and_said(value):
    found, doubts = found_preprocessing({"model_info/mean_values": value, "model_info/scale_values": "0"})
    assert found == {} and len(doubts) == 2
