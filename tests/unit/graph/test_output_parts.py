"""What is joined in an output: boxes and scores, levels, steps."""

from __future__ import annotations

import numpy as np
import pytest

from calib.graph.comparable import compared_outputs
from calib.runtime.session import make_model, ov
from calib.values.compared import Bound

op = ov.opset13
rng = np.random.default_rng(2)


def ints(*values: int) -> ov.Node:
    return op.constant(np.array(values, np.int64))


def image(size: int = 8) -> ov.Node:
    return op.parameter([1, 3, size, size], np.float32, name="x")


def conv(x: ov.Node, channels: int, stride: int = 1) -> ov.Node:
    given = x.get_output_partial_shape(0)[1].get_length()
    weights = op.constant(rng.normal(size=(channels, given, 3, 3)).astype(np.float32))
    return op.convolution(x, weights, [stride, stride], [1, 1], [1, 1], [1, 1])


def flat(x: ov.Node, channels: int) -> ov.Node:
    return op.reshape(x, ints(1, channels, -1), False)


def boxes_of(x: ov.Node) -> ov.Node:
    """Return boxes in pixels, [1, 4, positions]."""
    return op.add(flat(conv(x, 4), 4), np.float32(100))


def scores_of(x: ov.Node, classes: int = 5) -> ov.Node:
    return op.sigmoid(flat(conv(x, classes), classes))


def parts(output: ov.Node, x: ov.Node) -> list[tuple[str, Bound | None]]:
    output.output(0).get_tensor().set_names({"y"})
    return [(part.name, part.bound) for part in compared_outputs(make_model([op.result(output)], [x])).parts]


SIGMOID = Bound("Sigmoid")


def test_boxes_and_scores_are_parts_in_every_layout():
    x = image()
    joined = op.concat([boxes_of(x), scores_of(x)], 1)
    assert parts(joined, x) == [("y[:, :4]", None), ("y[:, 4:]", SIGMOID)]
    turned = op.transpose(joined, ints(0, 2, 1))
    assert parts(turned, x) == [("y[:, :, :4]", None), ("y[:, :, 4:]", SIGMOID)]
    bare = op.squeeze(op.concat([boxes_of(x), scores_of(x)], 1), ints(0))
    assert parts(bare, x) == [("y[:4]", None), ("y[4:]", SIGMOID)]
    grid = op.reshape(op.concat([boxes_of(x), scores_of(x)], 1), ints(1, 9, 8, 8), False)
    assert parts(grid, x) == [("y[:, :4]", None), ("y[:, 4:]", SIGMOID)]
    line = op.reshape(op.concat([boxes_of(x), scores_of(x)], 1), ints(1, -1), False)
    assert parts(line, x) == [("y[:, :256]", None), ("y[:, 256:]", SIGMOID)]


def test_heads_without_a_last_function_are_told_apart_by_the_channels_they_join():
    x = image()
    assert parts(op.concat([conv(x, 4), conv(x, 7)], 1), x) == [("y[:, :4]", None), ("y[:, 4:]", None)]


def test_a_softmax_keeps_its_axis_within_its_part():
    x = image()
    classes = op.softmax(op.transpose(flat(conv(x, 3), 3), ints(0, 2, 1)), 2)
    joined = op.concat([op.transpose(boxes_of(x), ints(0, 2, 1)), classes], 2)
    assert parts(joined, x) == [("y[:, :, :4]", None), ("y[:, :, 4:]", Bound("Softmax", 2))]
    moved = op.transpose(op.concat([op.transpose(boxes_of(x), ints(0, 2, 1)), classes], 2), ints(0, 2, 1))
    assert parts(moved, x) == [("y[:, :4]", None), ("y[:, 4:]", Bound("Softmax", 1))]


def test_levels_of_a_pyramid_stay_together():
    x = image()
    levels = [conv(x, 8), conv(x, 8, stride=2)]
    joined = op.concat([op.concat([boxes_of(level), scores_of(level)], 1) for level in levels], 2)
    assert parts(joined, x) == [("y[:, :4]", None), ("y[:, 4:]", SIGMOID)]
    turned = [op.reshape(op.transpose(conv(level, 8), ints(0, 2, 3, 1)), ints(1, -1, 4), False) for level in levels]
    assert parts(op.concat(turned, 1), x) == [("y", None)]


def test_steps_of_a_sequence_stay_together():
    x = op.parameter([1, 6], np.float32, name="x")
    state, steps = x, []
    for _ in range(4):
        weights = op.constant(rng.normal(size=(6, 6)).astype(np.float32))
        state = op.tanh(op.matmul(state, weights, False, False))
        steps.append(op.unsqueeze(state, ints(1)))
    first, *rest = parts(op.concat(steps[1:], 1), x)
    assert (first, rest) == (("y", None), [])


def test_a_split_and_its_arithmetic_are_seen_through():
    x = image()
    raw = op.sigmoid(op.transpose(flat(conv(x, 9), 9), ints(0, 2, 1)))
    centre, size, scores = op.variadic_split(raw, ints(2), ints(2, 2, 5)).outputs()
    shifted = op.multiply(op.add(centre, np.float32(3)), np.float32(8))
    scaled = op.multiply(op.power(size, np.float32(2)), np.float32(40))
    joined = op.concat([shifted, scaled, scores], 2)
    assert [name for name, _ in parts(joined, x)] == ["y[:, :, :2]", "y[:, :, 2:4]", "y[:, :, 4:]"]


def test_a_split_behind_the_joint_returns_its_own_parts():
    x = image()
    joined = op.concat([boxes_of(x), scores_of(x)], 1)
    first, second = op.variadic_split(joined, ints(1), ints(6, 3)).outputs()
    first.get_tensor().set_names({"a"})
    second.get_tensor().set_names({"b"})
    model = make_model([op.result(first), op.result(second)], [x])
    found = [(part.name, part.bound) for part in compared_outputs(model).parts]
    assert found == [("a[:, :4]", None), ("a[:, 4:]", SIGMOID), ("b", SIGMOID)]


def test_a_factor_for_each_channel_behind_the_joint_moves_no_part():
    x = image()
    factors = op.constant(np.array([8] * 4 + [1] * 5, np.float32).reshape(1, 9, 1))
    scaled = op.multiply(op.concat([boxes_of(x), scores_of(x)], 1), factors)
    assert parts(scaled, x) == [("y[:, :4]", None), ("y[:, 4:]", None)]


def test_constants_that_are_joined_do_not_count():
    x = image()
    anchors = op.constant(rng.normal(size=(1, 4, 64)).astype(np.float32))
    assert parts(op.concat([anchors, scores_of(x)], 1), x) == [("y[:, 4:]", SIGMOID)]


@pytest.mark.parametrize("shape", [[1, 3, -1, -1], [-1, 3, 8, 8]])
def test_parts_along_a_fixed_axis_are_found_where_others_are_dynamic(shape):
    x = op.parameter(shape, np.float32, name="x")
    joined = op.concat([op.exp(conv(x, 4)), op.sigmoid(conv(x, 5))], 1)
    assert parts(joined, x) == [("y[:, :4]", None), ("y[:, 4:]", SIGMOID)]


def test_parts_whose_positions_depend_on_the_sample_are_compared_together():
    x = op.parameter([1, 3, -1, 8], np.float32, name="x")
    joined = op.concat([op.exp(conv(x, 4)), op.sigmoid(conv(x, 4))], 2)
    assert parts(joined, x) == [("y", None)]


def test_a_feature_map_of_many_branches_is_one_thing():
    x = image()
    assert parts(op.concat([conv(x, 2) for _ in range(20)], 1), x) == [("y", None)]
    assert parts(op.relu(op.concat([conv(x, 2), conv(x, 3)], 1)), x) == [("y", None)]
