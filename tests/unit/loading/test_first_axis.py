"""A dynamic first axis is a batch only where rows give the same outputs together and one by one."""

from __future__ import annotations

import numpy as np
import pytest

from calib.errors import DataError
from calib.loading.first_axis import FirstAxis
from calib.loading.inputs import has_dynamic_first_axis
from calib.runtime.session import ov
from calib.samples.feed import normalize_feed
from calib.samples.sample import InputSpec

op = ov.opset13
RNG = np.random.default_rng(0)
SPEC = InputSpec("x", ("x",), (None, 8), np.dtype(np.float32))


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


def model_of(function, *shape: int) -> ov.Model:
    x = op.parameter(list(shape), np.float32, name="x")
    x.output(0).set_names({"x"})
    return ov.Model([op.result(function(x))], [x], "rows")


def classifier(x: ov.Node) -> ov.Node:
    return op.softmax(op.matmul(op.relu(op.matmul(x, normal(8, 6), False, False)), normal(6, 4), False, False), 1)


def attention(x: ov.Node) -> ov.Node:
    """Each row attends to all rows; the output has as many rows as the input."""
    return op.matmul(
        op.softmax(op.matmul(x, x, False, True), 1), op.matmul(x, normal(8, 8), False, False), False, False
    )


def faint_attention(x: ov.Node) -> ov.Node:
    return op.add(x, op.multiply(attention(x), np.float32(0.02)))


def pooled(x: ov.Node) -> ov.Node:
    """A set of points: one output for all rows."""
    return op.reduce_max(op.matmul(x, normal(8, 8), False, False), np.array([0]), keep_dims=True)


def several_rows_each(x: ov.Node) -> ov.Node:
    """Boxes of each image, one below the other: four rows of output for a row of input."""
    return op.reshape(op.matmul(x, normal(8, 8), False, False), np.array([-1, 2]), False)


def time_first(x: ov.Node) -> ov.Node:
    """Outputs (T, N, C) of a recurrent network, with the batch in the middle."""
    steps = op.reshape(op.matmul(x, normal(8, 12), False, False), np.array([-1, 4, 3]), False)
    return op.transpose(steps, np.array([1, 0, 2]))


def labels(x: ov.Node) -> ov.Node:
    return op.convert(op.topk(op.matmul(x, normal(8, 6), False, False), np.int64(1), 1, "max", "none").output(1), "i64")


def one_row_only(x: ov.Node) -> ov.Node:
    """A batch of 1 is written into a Reshape."""
    return op.matmul(op.reshape(x, np.array([1, 2, 4]), False), normal(4, 3), False, False)


@pytest.mark.parametrize(
    ("function", "splits"),
    [
        (classifier, True),
        (several_rows_each, True),
        (labels, True),
        (time_first, True),
        (one_row_only, True),
        (attention, False),
        (faint_attention, False),
        (pooled, False),
    ],
)
def test_rows_are_samples_if_their_outputs_are_their_own(function, splits: bool):
    axis = FirstAxis(model_of(function, -1, 8))
    found = normalize_feed(normal(40, 8), [SPEC], "here", axis)
    assert [len(arrays[0]) for arrays in found] == ([1] * 40 if splits else [40])
    assert ("taken for a batch of samples" if splits else "taken for part of a sample") in axis.sentence
    assert ("set first_axis=whole" if splits else "set first_axis=batch") in axis.sentence


def test_time_first_is_kept_whole():
    """A sequence [time, 1, channels]: a convolution over time sees its neighbours."""

    def over_time(x: ov.Node) -> ov.Node:
        turned = op.transpose(x, np.array([1, 2, 0]))
        return op.transpose(op.convolution(turned, normal(5, 8, 3), [1], [1], [1], [1]), np.array([2, 0, 1]))

    spec = InputSpec("x", ("x",), (None, 1, 8), np.dtype(np.float32))
    found = normalize_feed(normal(30, 1, 8), [spec], "here", FirstAxis(model_of(over_time, -1, 1, 8)))
    assert [arrays[0].shape for arrays in found] == [(30, 1, 8)]


def test_inputs_of_different_numbers_of_rows_are_one_sample():
    """A graph: features of 5 nodes, and 12 edges."""
    nodes, edges = op.parameter([-1, 4], np.float32, name="nodes"), op.parameter([-1, 2], np.int64, name="edges")
    ends = op.gather(nodes, op.reshape(edges, np.array([-1]), False), op.constant(np.int64(0)))
    graph = ov.Model([op.result(op.reduce_sum(ends, np.array([0]), keep_dims=True))], [nodes, edges], "graph")
    specs = [
        InputSpec("nodes", (), (None, 4), np.dtype(np.float32)),
        InputSpec("edges", (), (None, 2), np.dtype(np.int64)),
    ]
    axis = FirstAxis(graph)
    found = normalize_feed((normal(5, 4), RNG.integers(0, 5, (12, 2))), specs, "here", axis)
    assert [[array.shape for array in arrays] for arrays in found] == [[(5, 4), (12, 2)]]
    assert "the inputs of the first sample have different numbers of rows" in axis.sentence


def test_inputs_stacked_differently_by_mistake_are_refused_as_before():
    x, y = (op.parameter([-1, 4], np.float32, name=name) for name in "xy")
    added = ov.Model([op.result(op.add(x, y))], [x, y], "added")
    specs = [InputSpec(name, (), (None, 4), np.dtype(np.float32)) for name in "xy"]
    with pytest.raises(DataError, match="the inputs are stacked differently: input 'y'"):
        normalize_feed((normal(6, 4), normal(5, 4)), specs, "here", FirstAxis(added))


def test_an_output_that_is_constant_tells_nothing():
    x = op.parameter([-1, 8], np.float32, name="x")
    anchors = op.multiply(
        op.reduce_sum(x, np.array([0, 1]), keep_dims=False), op.constant(np.zeros((5, 4), np.float32))
    )
    axis = FirstAxis(ov.Model([op.result(anchors), op.result(classifier(x))], [x], "anchors"))
    assert len(normalize_feed(normal(6, 8), [SPEC], "here", axis)) == 6


def test_what_the_user_says_is_not_questioned():
    for given, count in (("batch", 6), ("whole", 1)):
        for function in (classifier, attention):
            axis = FirstAxis(model_of(function, -1, 8), given)
            assert len(normalize_feed(normal(6, 8), [SPEC], "here", axis)) == count
            assert axis.sentence == ""


def test_the_first_feed_of_several_rows_decides_for_all():
    axis = FirstAxis(model_of(attention, -1, 8))
    assert len(normalize_feed(normal(1, 8), [SPEC], "here", axis)) == 1
    assert axis.sentence == ""
    assert len(normalize_feed(normal(7, 8), [SPEC], "here", axis)) == 1
    # A new axis in front of the model's own is always one of samples.
    assert [arrays[0].shape for arrays in normalize_feed(normal(3, 7, 8), [SPEC], "here", axis)] == [(7, 8)] * 3


def test_only_the_first_axis_of_several_counts():
    shapes = {(-1, 8): True, (1, 8): False, (-1,): False, (4, -1): False}
    for shape, dynamic in shapes.items():
        assert has_dynamic_first_axis(model_of(op.relu, *shape).inputs[0]) is dynamic


def graph(convolve) -> tuple[ov.Model, list[InputSpec]]:
    nodes, links = op.parameter([-1, 8], np.float32, name="nodes"), op.parameter([-1, -1], np.float32, name="links")
    made = ov.Model([op.result(convolve(nodes, links))], [nodes, links], "graph")
    return made, [
        InputSpec(name, (), (None, last), np.dtype(np.float32)) for name, last in (("nodes", 8), ("links", None))
    ]


def test_a_graph_with_a_matrix_of_its_links_is_one_sample():
    """Of 20 nodes the first 16 can't be run, since the matrix has 20 columns: that says nothing of a batch of 1."""
    made, specs = graph(
        lambda nodes, links: op.matmul(links, op.matmul(nodes, normal(8, 4), False, False), False, False)
    )
    axis = FirstAxis(made)
    found = normalize_feed((normal(20, 8), normal(20, 20)), specs, "here", axis)
    assert [[array.shape for array in arrays] for arrays in found] == [[(20, 8), (20, 20)]]
    assert "the model can't run on a single row" in axis.sentence


def picked(edges: ov.Node, nodes: ov.Node) -> ov.Node:
    return op.gather(nodes, op.gather(edges, np.int64(0), np.int64(0)), np.int64(0))


def added(edges: ov.Node, nodes: ov.Node) -> ov.Node:
    ends = op.broadcast(op.reshape(edges, np.array([-1, 1]), False), op.shape_of(nodes))
    return op.scatter_elements_update(nodes, ends, nodes, op.constant(np.int64(0)), "sum", True)


@pytest.mark.parametrize(("reading", "shape"), [(picked, (2, -1)), (added, (-1, 1))])
def test_rows_that_an_input_numbers_are_never_run_alone(reading, shape: tuple[int, int]):
    """Edges that lie beyond the one row that is there would make the plug-in read memory that is not its own."""
    nodes, edges = op.parameter([-1, 8], np.float32, name="nodes"), op.parameter(list(shape), np.int64, name="edges")
    made = ov.Model([op.result(reading(edges, nodes))], [nodes, edges], "graph")
    given = tuple(None if size < 0 else size for size in shape)
    specs = [InputSpec("nodes", (), (None, 8), np.dtype("f4")), InputSpec("edges", (), given, np.dtype("i8"))]
    feed = (normal(20, 8), RNG.integers(0, 20, (2, 20) if shape[0] == 2 else (20, 1)))
    axis = FirstAxis(made)
    found = normalize_feed(feed, specs, "here", axis)
    assert len(found) == 1 and "input 'edges' holds numbers of rows" in axis.sentence


def test_numbers_of_words_do_not_number_rows():
    words = op.parameter([-1, 6], np.int64, name="words")
    table = op.constant(normal(30, 8))
    made = ov.Model([op.result(op.gather(table, words, np.int64(0)))], [words], "text")
    spec = InputSpec("words", (), (None, 6), np.dtype("i8"))
    assert len(normalize_feed(RNG.integers(0, 30, (5, 6)), [spec], "here", FirstAxis(made))) == 5
