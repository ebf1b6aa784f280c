"""Whatever a sample is becomes arrays in input order, or is refused by name.

covers: calib.samples.sample
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.errors import DataError
from calib.samples.feed import as_one, normalize_feed, split_item, split_target
from calib.samples.sample import InputSpec


def spec(*shape, dtype="float32", name="x"):
    return InputSpec(name, (name,), shape, np.dtype(dtype))


IMAGE = spec(1, 3, 4, 5)


@pytest.mark.parametrize(
    ("given_shape", "model_shape", "samples", "sample_shape"),
    [
        ((3, 4, 5), (1, 3, 4, 5), 1, (1, 3, 4, 5)),
        ((1, 3, 4, 5), (1, 3, 4, 5), 1, (1, 3, 4, 5)),
        ((8, 3, 4, 5), (1, 3, 4, 5), 8, (1, 3, 4, 5)),
        ((8, 1, 3, 4, 5), (1, 3, 4, 5), 8, (1, 3, 4, 5)),
        ((8, 3, 4, 5), (None, 3, None, None), 8, (1, 3, 4, 5)),
        ((3, 9, 7), (None, 3, None, None), 1, (1, 3, 9, 7)),
        ((8, 3, 4, 5), (8, 3, 4, 5), 1, (8, 3, 4, 5)),
        ((2, 8, 3, 4, 5), (8, 3, 4, 5), 2, (8, 3, 4, 5)),
        ((20,), (None,), 1, (20,)),
        ((20,), (None, None), 1, (1, 20)),
        ((), (), 1, ()),
        ((), (1,), 1, (1,)),
        ((6,), (1,), 6, (1,)),
    ],
)
def test_samples_come_out_in_the_models_shape(given_shape, model_shape, samples, sample_shape):
    feeds = normalize_feed(np.zeros(given_shape, np.float32), [spec(*model_shape)], "here")
    assert [feed[0].shape for feed in feeds] == [sample_shape] * samples


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(1, 5), st.lists(st.integers(1, 4), min_size=1, max_size=3), st.booleans())
def test_stacked_and_single_feeds_are_the_same_samples(count, inner, dynamic):
    data = np.random.default_rng(count).normal(size=(count, *inner)).astype(np.float32)
    inputs = [spec(None if dynamic else 1, *inner)]
    stacked = normalize_feed(data, inputs, "here")
    single = [normalize_feed(row, inputs, "here")[0] for row in data]
    assert [f[0].tobytes() for f in stacked] == [f[0].tobytes() for f in single]


@pytest.mark.parametrize("shape", [(3, 4, 6), (4, 5), (2, 2, 3, 4, 5), (3, 4, 5, 1)])
def test_a_wrong_shape_names_sample_input_wanted_and_got(shape):
    with pytest.raises(DataError) as caught:
        normalize_feed(np.zeros(shape, np.float32), [IMAGE], "row 7 of d.npz")
    for part in ("row 7 of d.npz", "'x'", "[1,3,4,5]", str(list(shape))):
        assert part in str(caught.value)


def test_the_other_axis_order_is_recognized():
    with pytest.raises(DataError, match="transpose"):
        normalize_feed(np.zeros((4, 5, 3), np.float32), [IMAGE], "here")


def test_a_fixed_batch_above_one_says_how_to_go_on():
    with pytest.raises(DataError, match="fixed at 8: reshape the model"):
        normalize_feed(np.zeros((3, 4, 5), np.float32), [spec(8, 3, 4, 5)], "here")


def test_arrays_without_rows_are_refused_and_a_way_out_is_named_where_there_is_one():
    with pytest.raises(DataError, match=r"without rows, which holds no sample\. Leave it out$"):
        normalize_feed(np.zeros((0, 3, 4, 5), np.float32), [IMAGE], "here")
    rows = spec(None, 4)
    with pytest.raises(DataError, match="first_axis=whole"):
        normalize_feed(np.zeros((0, 4), np.float32), [rows], "here")
    (feed,) = normalize_feed(np.zeros((0, 4), np.float32), [rows], "here", as_one)
    assert feed[0].shape == (0, 4)


def test_dynamic_axes_may_be_empty_and_fixed_ones_not():
    past = spec(1, None, 8)
    (feed,) = normalize_feed(np.zeros((1, 0, 8), np.float32), [past], "here")
    assert feed[0].shape == (1, 0, 8)
    several = normalize_feed(np.zeros((3, 0, 8), np.float32), [past], "here")
    assert [feed[0].shape for feed in several] == [(1, 0, 8)] * 3
    with pytest.raises(DataError, match=r"got an array of shape \[1, 0, 8\]. It is empty"):
        normalize_feed(np.zeros((1, 0, 8), np.float32), [spec(1, 4, 8)], "here")


def test_an_image_without_boxes_is_one_sample():
    image, boxes = np.zeros((1, 3, 4, 5), np.float32), np.zeros((0, 4), np.float32)
    asked = []

    def splits(whole, rows):
        asked.append(rows)
        return False

    (feed,) = normalize_feed((image, boxes), [IMAGE, spec(None, 4)], "here", splits)
    assert [array.shape for array in feed] == [(1, 3, 4, 5), (0, 4)] and asked == [None]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_name_their_place(value):
    data = np.zeros((1, 3, 4, 5), np.float32)
    data[0, 2, 1, 3] = value
    with pytest.raises(DataError, match=rf"row 3: input 'x' .* got {value} at index \(0, 2, 1, 3\)"):
        normalize_feed(data, [IMAGE], "row 3")


def test_values_too_large_for_the_input_are_refused():
    with pytest.raises(DataError, match="too large"):
        normalize_feed(np.full((1, 2), 1e300), [spec(1, 2)], "here")


def test_floats_for_an_integer_input_are_refused_even_if_whole():
    with pytest.raises(DataError, match=r"takes integers, got float64.*astype\(np.int64\)"):
        normalize_feed(np.ones((1, 4)), [spec(1, 4, dtype="int64")], "here")


@pytest.mark.parametrize(
    ("dtype", "model"),
    [
        ("uint8", "float32"),
        ("float64", "float32"),
        ("float16", "float32"),
        ("int32", "int64"),
        ("int64", "uint8"),
        ("bool", "int32"),
    ],
)
def test_casts_that_lose_nothing_are_made(dtype, model):
    feed = normalize_feed(np.ones((1, 4), dtype), [spec(1, 4, dtype=model)], "here")[0]
    assert feed[0].dtype == model and feed[0].tolist() == [[1, 1, 1, 1]]


def test_integers_out_of_range_are_refused_with_the_value():
    with pytest.raises(DataError, match="can't hold the value 300"):
        normalize_feed(np.array([[1, 300]]), [spec(1, 2, dtype="uint8")], "here")


@pytest.mark.parametrize("value", ["text", None, object(), [[1, 2], [3]], np.array([1j])])
def test_what_is_no_array_of_numbers_is_refused(value):
    with pytest.raises(DataError, match="here"):
        normalize_feed(value, [IMAGE], "here")


TWO = [spec(None, None, dtype="int64", name="ids"), spec(None, None, dtype="int64", name="mask")]


def test_names_and_numbers_of_inputs_are_checked():
    row = np.ones(3, np.int64)
    with pytest.raises(DataError, match="nothing for the input 'mask'"):
        normalize_feed({"ids": row}, TWO, "here")
    with pytest.raises(DataError, match="'extra' is not an input"):
        normalize_feed({"ids": row, "mask": row, "extra": row}, TWO, "here")
    with pytest.raises(DataError, match="2 inputs"):
        normalize_feed((row,), TWO, "here")
    with pytest.raises(DataError, match="one ndarray"):
        normalize_feed(row, TWO, "here")


def test_inputs_stacked_differently_are_refused():
    with pytest.raises(DataError, match="stacked differently"):
        normalize_feed((np.ones((4, 3), int), np.ones((2, 3), int)), TWO, "here")


def test_an_input_without_batch_axis_is_shared_by_stacked_samples():
    feeds = normalize_feed((np.ones((4, 3, 4, 5)), np.ones((100, 4))), [IMAGE, spec(100, 4, name="anchors")], "here")
    assert len(feeds) == 4 and feeds[3][1].shape == (100, 4)


def test_a_dynamic_vector_is_one_number_a_sample_when_the_rest_is_stacked():
    feeds = normalize_feed((np.ones((4, 3, 4, 5)), np.arange(4.0)), [IMAGE, spec(None, name="scale")], "here")
    assert [feed[1].tolist() for feed in feeds] == [[0.0], [1.0], [2.0], [3.0]]


X = np.ones((3, 4, 5))


@pytest.mark.parametrize(
    ("item", "inputs", "labelled"),
    [
        (X, [IMAGE], False),
        ((X, 1), [IMAGE], True),
        ([X, 1], [IMAGE], True),
        (({"x": X}, 1), [IMAGE], True),
        ((X,), [IMAGE], False),
        ([[1, 2], [3, 4]], [IMAGE], False),
        ((X, X), TWO, False),
        (((X, X), 1), TWO, True),
        (([X, X], 1), TWO, True),
        (({"ids": X, "mask": X}, 1), TWO, True),
    ],
)
def test_pairs_are_labelled_as_documented(item, inputs, labelled):
    assert (split_item(item, inputs)[1] is not None) == labelled


def test_targets_of_stacked_feeds_are_unstacked_or_refused():
    assert split_target(np.arange(3), 3, "here") == [0, 1, 2]
    assert split_target([{"a": 1}, {"a": 2}], 2, "here") == [{"a": 1}, {"a": 2}]
    assert split_target(7, 1, "here") == [7]
    for target in (7, "abc", np.arange(2), np.int64(3), {"a": 1, "b": 2, "c": 3}):
        with pytest.raises(DataError, match="holds 3 samples"):
            split_target(target, 3, "here")


@pytest.mark.parametrize("shape", [(3, 5, 5), (2, 3, 5, 6), (5, 6, 3)])
def test_a_picture_of_another_size_is_told_how_it_becomes_the_inputs(shape: tuple[int, ...]):
    layout = (1, 4, 4, 3) if shape[-1] == 3 else (1, 3, 4, 4)
    with pytest.raises(DataError, match=r"resize it to \[4, 4\] .* which preprocessing.resize=\[4, 4\] resizes"):
        normalize_feed(np.zeros(shape, np.float32), [spec(*layout)], "here")
