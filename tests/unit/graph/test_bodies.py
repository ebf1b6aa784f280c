"""Tensors are carried out of bodies and into them, and statistics of bodies are those of all their runs.

covers: calib.graph.body_taps
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from building import op

from calib.graph.bodies import carry_in, carry_out
from calib.graph.taps import Need
from calib.graph.view import GraphView
from calib.runtime.session import Session, make_model, ov
from calib.statistics.collect import collect
from calib.values.plan import TensorId
from calib.values.summary import TensorSummary

X = np.array([[1, -2, 3, -4]], np.float32)
PLACEHOLDER = np.full((1, 4), 7, np.float32)


def named(node: ov.Node, name: str) -> ov.Node:
    node.set_friendly_name(name)
    return node


def choice(x: ov.Node, flag: ov.Node) -> ov.Output:
    """Return Relu "y" of x, or its sigmoid."""
    inner = [op.parameter([1, 4], np.float32) for _ in range(2)]
    then, other = ov.Model([named(op.relu(inner[0]), "y")], inner[:1]), ov.Model([op.sigmoid(inner[1])], inner[1:])
    node = named(op.if_op(flag), "owner")
    node.set_then_body(then)
    node.set_else_body(other)
    node.set_input(x.output(0), *inner)
    return node.set_output(then.get_results()[0], other.get_results()[0])


def loop(x: ov.Node, trips: ov.Node, name: str = "owner", last: Callable[[ov.Node], ov.Node] = lambda y: y):
    """Return what a Loop makes of x: each time it is doubled and made positive, node "NAME/y"."""
    inner = op.parameter([1, 4], np.float32)
    y = named(op.relu(op.multiply(inner, np.float32(2))), f"{name}/y")
    body = ov.Model([op.result(last(y)), op.result(op.constant(np.array(True)))], [inner])
    node = named(op.loop(trips, op.constant(np.array(True))), name)
    node.set_function(body)
    node.set_special_body_ports([-1, 1])
    node.set_merged_input(inner, x.output(0), body.get_results()[0].output(0))
    return node.get_iter_value(body.get_results()[0].output(0), -1)


def branches() -> ov.Model:
    x, flag = op.parameter([1, 4], np.float32), op.parameter([], np.bool_)
    return ov.Model([choice(x, flag)], [x, flag])


def counted(*, nested: bool = False) -> ov.Model:
    """Return a Loop of as many trips as the second input says, and in it one of two if ``nested``."""
    x, trips = op.parameter([1, 4], np.float32), op.parameter([], np.int64)
    last = (lambda y: loop(y, op.constant(np.int64(2)), "inner").get_node()) if nested else lambda y: y
    return ov.Model([loop(x, trips, last=last)], [x, trips])


def carried(model: ov.Model, name: str) -> Session:
    """Return the model with one more output: the rows of a tensor in a body, plus the first input carried in."""
    clone = model.clone()
    view = GraphView(clone)
    body = view.inside[name]
    owner = view.nodes[body.owner]
    given = carry_in(owner, body, clone.get_parameters()[0].output(0))
    rows = carry_out(owner, body, op.add(view.nodes[name], given).output(0), PLACEHOLDER)
    return Session(make_model([op.result(rows), *clone.get_results()], clone.get_parameters()))


def test_a_branch_that_is_taken_gives_its_row_and_one_that_is_not_the_placeholder():
    session = carried(branches(), "y")
    rows, y = session([X, np.array(True)])
    np.testing.assert_array_equal(rows, np.maximum(X, 0) + X)
    np.testing.assert_array_equal(y, np.maximum(X, 0))
    rows, y = session([X, np.array(False)])
    np.testing.assert_array_equal(rows, PLACEHOLDER)
    np.testing.assert_allclose(y, 1 / (1 + np.exp(-X)), rtol=1e-5)


def test_a_loop_gives_a_row_an_iteration_and_the_placeholder_after_an_inference_with_rows_too():
    session = carried(counted(), "owner/y")
    for trips in (2, 0, 3):  # without iterations OpenVINO leaves what was there before
        rows, y = session([X, np.array(trips, np.int64)])
        powers = 2.0 ** np.arange(1, trips + 1)[:, None]
        expected = np.maximum(X, 0) * powers + X if trips else np.repeat(PLACEHOLDER, len(rows), axis=0)
        np.testing.assert_array_equal(rows, expected)
        np.testing.assert_array_equal(y, np.maximum(X, 0) * 2**trips if trips else X)


def summaries(model: ov.Model, needs: dict[TensorId, Need], feeds: list[list[np.ndarray]]) -> dict[str, TensorSummary]:
    named_feeds = [(f"{i}", f"sample {i}", feed) for i, feed in enumerate(feeds)]
    return {tensor.node: summary for tensor, summary in collect(model, needs, named_feeds).whole.items()}


NEED = Need(histogram=True, channels=True, channel_axis=-1)


def test_statistics_of_a_branch_are_those_of_the_samples_that_take_it():
    x = np.random.default_rng(0).normal(size=(6, 1, 4)).astype(np.float32)
    feeds = [[one, np.array(i % 2 == 0)] for i, one in enumerate(x)]
    (summary,) = summaries(branches(), {TensorId("y"): NEED}, feeds).values()
    taken = np.maximum(x[::2], 0)
    assert (summary.samples, summary.low, summary.high) == (3, 0.0, taken.max())
    np.testing.assert_array_equal(summary.channel_high, taken.max(axis=(0, 1)))
    assert summary.mean_high == pytest.approx(taken.max(axis=(1, 2)).mean())
    assert summary.histogram is not None
    values, counts = summary.histogram.distribution()
    assert counts.sum() == taken.size and values.max() == pytest.approx(taken.max(), rel=1e-2)


def test_statistics_of_a_loop_are_those_of_all_iterations_and_a_sample_without_any_counts_for_nothing():
    x = np.random.default_rng(0).normal(size=(6, 1, 4)).astype(np.float32)
    trips = [2, 0, 1, 0, 3, 0]
    feeds = [[one, np.array(count, np.int64)] for one, count in zip(x, trips, strict=True)]
    (summary,) = summaries(counted(), {TensorId("owner/y"): NEED}, feeds).values()
    highest = [np.maximum(one, 0).max() * 2**count for one, count in zip(x, trips, strict=True) if count]
    assert (summary.samples, summary.high) == (3, max(highest))
    assert summary.mean_high == pytest.approx(np.mean(highest))
    assert summary.histogram is not None and summary.histogram.distribution()[1].sum() == sum(trips) * 4
    assert not summaries(counted(), {TensorId("owner/y"): NEED}, feeds[1::2])


def test_statistics_of_a_body_inside_a_body_are_those_of_all_its_runs():
    feeds = [[X, np.array(count, np.int64)] for count in (0, 1, 2)]
    needs = {TensorId("owner/y"): NEED, TensorId("inner/y"): NEED}
    found = summaries(counted(nested=True), needs, feeds)
    # each trip doubles three times: before the inner Loop, and twice in it
    assert found["owner/y"].high == 3 * 2 * 8 and found["inner/y"].high == 3 * 8 * 8
    assert found["owner/y"].samples == found["inner/y"].samples == 2


def test_tensors_of_dynamic_shape_in_a_body_give_as_many_values_to_each_run():
    x, trips = op.parameter([1, -1], np.float32), op.parameter([], np.int64)
    inner = op.parameter([1, -1], np.float32)
    body = ov.Model([op.result(named(op.tanh(inner), "y")), op.result(op.constant(np.array(True)))], [inner])
    node = op.loop(trips, op.constant(np.array(True)))
    node.set_function(body)
    node.set_special_body_ports([-1, 1])
    node.set_merged_input(inner, x.output(0), body.get_results()[0].output(0))
    model = ov.Model([node.get_iter_value(body.get_results()[0].output(0), -1)], [x, trips])
    feeds = [[np.full((1, size), size / 10, np.float32), np.array(1, np.int64)] for size in (3, 7)]
    (summary,) = summaries(model, {TensorId("y"): Need(histogram=True)}, feeds).values()
    assert summary.high == pytest.approx(np.tanh(0.7)) and summary.low == pytest.approx(np.tanh(0.3))
    values, counts = summary.histogram.distribution()
    assert np.allclose(counts / counts.sum(), [0.5, 0.5]) and np.allclose(values, np.tanh([0.3, 0.7]), rtol=1e-2)
