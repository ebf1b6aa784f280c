from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from calib.errors import DataError, UsageError
from calib.samples.preprocess import FILTERS, Preprocess
from calib.samples.sample import InputSpec


def spec(*shape, dtype="float32", layout=""):
    return InputSpec("x", ("x",), shape, np.dtype(dtype), layout)


def noise(height=12, width=10):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("shape", "layout", "color"),
    [
        ((1, 3, 8, 6), "NCHW", "rgb"),
        ((None, 8, 6, 3), "NHWC", "rgb"),
        ((1, 1, 8, 6), "NCHW", "gray"),
        ((1, 8, 6, 1), "NHWC", "gray"),
    ],
)
def test_everything_follows_from_the_models_input(shape, layout, color):
    made = Preprocess().resolve(spec(*shape))
    assert (made.layout, made.color, made.resize, made.dtype) == (layout, color, (8, 6), "float32")
    assert made.apply(noise()).shape == tuple(size for size in shape[1:])


def test_a_declared_layout_wins():
    assert Preprocess().resolve(spec(1, 3, 8, 3, layout="NHWC")).layout == "NHWC"


def test_dynamic_sizes_leave_the_image_its_own():
    made = Preprocess().resolve(spec(1, 3, None, None))
    assert made.apply(noise()).shape == (3, 12, 10)


def test_resize_is_pillows_own():
    for name in FILTERS:
        made = Preprocess(filter=name).resolve(spec(1, 8, 6, 3, dtype="uint8"))
        wanted = np.asarray(noise().resize((6, 8), Image.Resampling[name.upper()]))
        np.testing.assert_array_equal(made.apply(noise()), wanted)


def test_short_side_and_center_crop_cut_the_middle():
    made = Preprocess(resize_short=5).resolve(spec(1, 3, 3, 3))
    assert (made.resize, made.crop) == (None, (3, 3))
    resized = np.asarray(noise().resize((5, 6), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(made.apply(noise()), resized[2:5, 1:4].transpose(2, 0, 1))


def test_mean_and_scale_are_on_values_up_to_255_and_in_the_order_of_colors():
    made = Preprocess(color="bgr", mean=(1, 2, 3), scale=(2, 4, 8)).resolve(spec(1, 3, 12, 10))
    pixels = np.asarray(noise(), np.float32)[:, :, ::-1]
    np.testing.assert_allclose(made.apply(noise()), ((pixels - [1, 2, 3]) / [2, 4, 8]).transpose(2, 0, 1), rtol=1e-6)


def test_without_arithmetic_only_geometry_is_left():
    made = Preprocess(mean=(1,), scale=(2,)).resolve(spec(1, 12, 10, 3)).without_arithmetic()
    assert made.apply(noise()).dtype == np.uint8
    np.testing.assert_array_equal(made.apply(noise()), np.asarray(noise()))


@pytest.mark.parametrize(
    "fields",
    [{"layout": "NCWH"}, {"color": "yuv"}, {"filter": "box"}, {"resize": (0, 3)}, {"resize_short": 0}, {"scale": (0,)}],
)
def test_settings_out_of_range_are_refused(fields):
    with pytest.raises(UsageError, match=rf"preprocess\.{next(iter(fields))}"):
        Preprocess(**fields)


@pytest.mark.parametrize(
    ("fields", "shape", "error"),
    [
        ({}, (1, 10), DataError),
        ({}, (1, 4, 8, 8), DataError),
        ({"color": "gray"}, (1, 3, 8, 8), DataError),
        ({"resize": (4, 4)}, (1, 3, 8, 8), DataError),
        ({"mean": (1, 2)}, (1, 3, 8, 8), UsageError),
    ],
)
def test_what_does_not_fit_the_input_is_refused(fields, shape, error):
    with pytest.raises(error):
        Preprocess(**fields).resolve(spec(*shape))


def test_mean_for_an_integer_input_is_refused():
    with pytest.raises(UsageError, match="embed"):
        Preprocess(mean=(1,)).resolve(spec(1, 3, 8, 8, dtype="uint8"))


def test_images_smaller_than_the_crop_are_refused():
    with pytest.raises(DataError, match="smaller than the crop"):
        Preprocess(crop=(20, 20)).resolve(spec(1, 3, 20, 20)).apply(noise())


def test_letterbox_keeps_the_ratio_and_pads_around_or_at_one_corner():
    made = Preprocess(letterbox=(8, 8), pad_value=(7, 8, 9)).resolve(spec(1, 8, 8, 3, dtype="uint8"))
    image = noise(12, 6)  # becomes 8x4
    pixels, resized = made.apply(image), np.asarray(image.resize((4, 8), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(pixels[:, 2:6], resized)
    assert (pixels[:, :2] == (7, 8, 9)).all() and (pixels[:, 6:] == (7, 8, 9)).all()
    geometry = made.geometry(12, 6)
    assert (geometry.original, geometry.network) == ((12, 6), (8, 8))
    np.testing.assert_allclose(geometry.to_network(np.array([[0, 0, 6, 12]])), [[2, 0, 6, 8]])
    corner = Preprocess(letterbox=(8, 8), pad_position="corner").resolve(spec(1, 8, 8, 3, dtype="uint8"))
    np.testing.assert_array_equal(corner.apply(image)[:, :4], resized)
    assert corner.geometry(12, 6).offset == (0, 0)


def test_padding_is_in_the_order_of_the_colors():
    made = Preprocess(pad=(14, 10), pad_value=(1, 2, 3), color="bgr").resolve(spec(1, 14, 10, 3, dtype="uint8"))
    pixels = made.apply(noise())
    assert (pixels[0] == (1, 2, 3)).all() and (pixels[-1] == (1, 2, 3)).all()
    np.testing.assert_array_equal(pixels[1:-1], np.asarray(noise())[:, :, ::-1])


def test_the_long_side_is_padded_to_the_input():
    made = Preprocess(resize_long=6).resolve(spec(1, 3, 6, 6))
    assert made.pad == (6, 6) and made.apply(noise()).shape == (3, 6, 6)
    assert made.geometry(12, 10).offset == (0, 0)  # an odd rest: 6x5 has one column, on the right


@pytest.mark.parametrize(
    ("fields", "scale", "offset"),
    [
        ({}, (0.5, 0.6), (0, 0)),
        ({"resize": (6, 6)}, (0.5, 0.6), (0, 0)),
        ({"resize_short": 6}, (7 / 12, 0.6), (0, 0)),  # 7x6, and round(0.5) is 0
        ({"resize": (8, 10), "crop": (6, 6)}, (8 / 12, 1), (-1, -2)),
    ],
)
def test_geometry_follows_every_step(fields, scale, offset):
    geometry = Preprocess(**fields).resolve(spec(1, 3, 6, 6)).geometry(12, 10)
    assert geometry.network == (6, 6)
    np.testing.assert_allclose((*geometry.scale, *geometry.offset), (*scale, *offset))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"resize": (4, 4), "letterbox": (4, 4)}, "are alternatives"),
        ({"resize_short": 4, "resize_long": 4}, "are alternatives"),
        ({"letterbox": (4, 100_000)}, "both from 1 to 16384"),
        ({"resize_long": 0}, "from 1 to 16384"),
        ({"pad_value": (256,)}, "from 0 to 255"),
        ({"pad_position": "left"}, "one of center, corner"),
    ],
)
def test_sizes_and_padding_have_bounds(fields, words):
    with pytest.raises(UsageError, match=words):
        Preprocess(**fields)


def test_an_image_larger_than_its_padding_is_told():
    with pytest.raises(DataError, match=r"12x10 is larger than the 11x11 it is padded to"):
        Preprocess(pad=(11, 11)).resolve(spec(1, 3, 11, 11)).apply(noise())
