"""Steps of preprocessing: sizes, values and what is noted for the way back."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from calib.accuracy_check.fields import built
from calib.accuracy_check.preprocess import READERS, STEPS, auto_resize
from calib.accuracy_check.values import Seen
from calib.errors import DataError


def step(kind, **values):
    problems = []
    made = built(STEPS, "preprocessing", {"type": kind, **values}, problems)
    assert not problems and made is not None, problems
    return made


def seen(height=6, width=8, dtype=np.uint8):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(dtype)
    return Seen(pixels, (height, width))


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ({"size": 4}, (4, 4)),
        ({"dst_width": 5, "dst_height": 3}, (3, 5)),
        ({"size": 4, "aspect_ratio_scale": "greater"}, (4, 5)),
        ({"size": 4, "aspect_ratio_scale": "fit_to_window"}, (3, 4)),
        ({"size": 4, "aspect_ratio_scale": "min_ratio"}, (4, 5)),
        ({"dst_width": 6, "dst_height": 4, "aspect_ratio_scale": "frcnn_keep_aspect_ratio"}, (4, 5)),
        ({"size": 4, "aspect_ratio_scale": "width"}, (4, 5)),
        ({"size": 4, "aspect_ratio_scale": "height"}, (3, 4)),
    ],
)
def test_resizing_keeps_the_ratio_as_asked_and_notes_the_scale(kind, size):
    image = seen()
    step("resize", **kind)(image)
    assert image.pixels.shape == (*size, 3) and image.pixels.dtype == np.float32
    facts = image.operations[0][1]
    assert image.info == (*size, 1) and (facts["scale_y"], facts["scale_x"]) == (size[0] / 6, size[1] / 8)


def test_pillow_resizes_in_8_bits():
    image, before = seen(), seen().pixels
    step("resize", size=4, use_pillow=True, interpolation="BICUBIC")(image)
    wanted = np.asarray(Image.fromarray(before).resize((4, 4), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(image.pixels, wanted)


def test_the_input_decides_about_auto_resize():
    image = seen()
    auto_resize(5, 7)(image)
    assert image.pixels.shape == (5, 7, 3) and image.operations[0][0] == "resize"


def test_crops_are_central_and_grow_what_is_too_small():
    image, before = seen(), seen().pixels
    step("crop", size=4)(image)
    np.testing.assert_array_equal(image.pixels, before[1:5, 2:6])
    image = seen()
    step("crop", central_fraction=0.5)(image)
    np.testing.assert_array_equal(image.pixels, before[1:4, 2:6])
    image = seen()
    step("crop", max_square=True)(image)
    np.testing.assert_array_equal(image.pixels, before[:, 1:7])
    image = seen()
    step("crop", size=12)(image)
    assert image.pixels.shape == (12, 12, 3)


def test_padding_fills_with_its_values_and_notes_the_edges():
    image = seen()
    step("padding", size=9, pad_value="1,2,3")(image)
    assert image.pixels.shape == (9, 9, 3) and image.operations[0][1]["pad"] == (1, 0, 2, 1)
    assert (image.pixels[0] == (1, 2, 3)).all() and (image.pixels[7:] == (1, 2, 3)).all()
    image = seen()
    step("padding", stride=4, pad_type="right_bottom")(image)
    assert image.pixels.shape == (8, 8, 3) and image.operations[0][1]["pad"] == (0, 0, 2, 0)
    image = seen()
    step("resize", size=10, aspect_ratio_scale="fit_to_window")(image)
    step("padding", pad_type="left_top")(image)  # to the size that the resize was asked for
    assert image.pixels.shape == (10, 10, 3) and image.operations[1][1]["pad"] == (3, 0, 0, 0)


def test_normalization_takes_lists_numbers_and_names():
    image, before = seen(), seen().pixels.astype(float)
    step("normalization", mean="1, 2, 3", std=2)(image)
    np.testing.assert_allclose(image.pixels, (before - (1, 2, 3)) / 2)
    image = seen()
    step("normalization", mean="imagenet")(image)
    np.testing.assert_allclose(image.pixels, before - (104.00698793, 116.66876762, 122.67891434))


def test_colors_change_places_or_become_gray():
    image, before = seen(), seen().pixels
    step("bgr_to_rgb")(image)
    np.testing.assert_array_equal(image.pixels, before[:, :, ::-1])
    image = seen()
    step("bgr_to_gray")(image)
    assert image.pixels.shape == (6, 8, 1) and image.pixels.dtype == np.float32
    np.testing.assert_allclose(image.pixels[..., 0], before @ [0.114, 0.587, 0.299], atol=0.51)


def test_readers_give_their_own_order_of_colors(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 3), (10, 20, 30)).save(path)
    read = {name: built(READERS, "reader", name, []) for name in READERS}
    assert read["opencv_imread"](path)[0, 0].tolist() == [30, 20, 10]
    assert read["pillow_imread"](path)[0, 0].tolist() == [10, 20, 30]


def test_damaged_and_enormous_images_are_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    read = built(READERS, "reader", "opencv_imread", [])
    with pytest.raises(DataError, match=r"a\.png can't be read"):
        read(path)
    Image.new("L", (20_000, 1)).save(path)
    with pytest.raises(DataError, match="at most 16384 along one side"):
        read(path)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"type": "resize", "size": 4, "use_tensorflow": True}, "TensorFlow is not supported"),
        ({"type": "resize", "size": 4, "aspect_ratio_scale": "x"}, "'x' is not supported; supported are width"),
        ({"type": "resize", "size": 4, "interpolation": "BITS"}, "interpolation 'BITS' of OpenCV"),
        ({"type": "resize", "size": 0}, "size must be a number from 1"),
        ({"type": "resize", "size": 1e9}, "size must be a number from 1 to 65536"),
        ({"type": "normalization"}, "mean or std is needed"),
        ({"type": "normalization", "std": [1, 0, 1]}, "std must not hold 0"),
        ({"type": "padding", "enable_resize": True}, "enable_resize is not supported"),
        ({"type": "crop"}, "are needed"),
    ],
)
def test_what_a_step_does_not_do_is_told(entry, words):
    problems = []
    built(STEPS, "preprocessing", entry, problems)
    assert any(words in one for one in problems), problems
