"""How layers follow each other: the nearest ones, joins where several meet, and nothing of what carries shapes."""

from __future__ import annotations

import numpy as np
from openvino import opset13 as op

from calib.graph.flow import flow_of
from calib.graph.view import GraphView
from calib.runtime.session import ov


def matmul(value: ov.Output, name: str) -> ov.Node:
    made = op.matmul(value, op.constant(np.eye(4, dtype=np.float32)), False, False)
    made.set_friendly_name(name)
    return made


def test_a_residual_block_is_layers_and_one_join_and_a_shape_is_no_edge():
    given = op.parameter([-1, 4], np.float32, name="x")
    first = matmul(given, "first")
    second = matmul(op.relu(first), "second")
    gated = op.multiply(second, op.sigmoid(second))  # of one layer alone: no join
    added = op.add(gated, first)
    added.set_friendly_name("sum")
    shaped = op.reshape(added, op.shape_of(first), False)
    last = matmul(shaped, "last")
    view = GraphView(ov.Model([op.result(last)], [given], "residual"))
    flow = flow_of(view, ["first", "second", "last", "of no graph"])
    assert flow.joins == ("sum",)
    assert flow.follows == ((), (0,), (4,), (), (0, 1))


def test_a_long_residual_stream_has_about_as_many_edges_as_nodes():
    given = op.parameter([1, 4], np.float32, name="x")
    stream, names = matmul(given, "0"), ["0"]
    for index in range(1, 300):
        stream = op.add(stream, matmul(stream, str(index)))
        names.append(str(index))
    flow = flow_of(GraphView(ov.Model([op.result(stream)], [given], "deep")), names)
    assert len(flow.joins) == 299 and sum(map(len, flow.follows)) == 299 + 2 * 299
