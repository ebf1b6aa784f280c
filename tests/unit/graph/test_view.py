"""What the analysed graph says of a model, and the small edits that all rewrites are made of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from building import Net, op

from calib.errors import ModelError
from calib.graph.finder import find
from calib.graph.layers import multiply_accumulates
from calib.graph.view import Body, GraphView, all_bodies, bodies, body_labels, replace_readers
from calib.runtime.session import Session, ov
from calib.values.plan import Port, TensorId


def named(node: ov.Node, name: str) -> ov.Node:
    node.set_friendly_name(name)
    return node


def test_a_view_knows_who_reads_a_tensor_and_who_reads_its_values():
    net = Net()
    x = named(net.input(1, 4), "x")
    model = net.model(named(op.relu(x), "relu"), named(op.shape_of(x), "shape"))
    view, tensor = GraphView(model), TensorId("x")
    assert sorted(view.consumers[tensor]) == [Port("relu", 0), Port("shape", 0)]
    assert view.value_consumers(tensor) == [Port("relu", 0)]
    assert view.positive == {"relu"}


def test_two_nodes_of_one_name_are_refused():
    net = Net()
    model = net.model(named(op.relu(named(net.input(1, 4), "one")), "one"))
    with pytest.raises(ModelError, match="two nodes are named 'one'"):
        GraphView(model)


def test_all_who_read_an_output_read_what_is_made_of_it_even_where_that_reads_it_twice():
    net = Net()
    x = net.input(1, 4)
    y = op.relu(x)
    model = net.model(op.negative(y), op.abs(y))
    made = replace_readers(y.output(0), lambda y: op.add(y, op.multiply(y, np.float32(2))))
    assert made.get_type_name() == "Add"
    values = np.array([[-1, 0, 1, 2]], np.float32)
    negative, positive = Session(model)([values])
    np.testing.assert_array_equal(positive, 3 * np.maximum(values, 0))
    np.testing.assert_array_equal(negative, -positive)


def choice(x: ov.Node, name: str, branch: Callable[[ov.Node], ov.Node]) -> ov.Node:
    """Return an If that makes of ``x`` what ``branch`` makes of it, or its Relu."""
    inner = [op.parameter([1, 4, 6, 6], np.float32) for _ in range(2)]
    branches = [ov.Model([y], [p]) for y, p in zip((branch(inner[0]), op.relu(inner[1])), inner, strict=True)]
    node = named(op.if_op(op.constant(np.array(True))), name)
    node.set_then_body(branches[0])
    node.set_else_body(branches[1])
    node.set_input(x.output(0), *inner)
    node.set_output(branches[0].results[0], branches[1].results[0])
    return node


def test_a_view_holds_the_nodes_of_bodies_right_before_their_owner_and_says_where_they_are():
    net = Net()
    node = choice(net.input(1, 4, 6, 6), "choice", lambda x: named(net.conv(x, 4), "conv"))
    kinds = [{inner.get_type_name() for inner in body.get_ops()} for body in bodies(node)]
    assert ["Convolution" in kind for kind in kinds] == [True, False] and "Relu" in kinds[1]
    assert bodies(op.relu(net.inputs[0])) == [] and body_labels(op.relu(net.inputs[0])) == ()
    view = GraphView(net.model(node.output(0)))
    assert view.inside["conv"] == Body("choice", 0, "then")
    assert view.order["conv"] < view.order["choice"] and "choice" not in view.inside
    assert view.runs("conv") == view.runs("choice") == 1
    assert [layer.name for layer in find(view).layers] == ["conv"]


def test_a_layer_in_a_loop_runs_as_often_as_all_loops_around_it():
    net = Net()

    def loop(x: ov.Node, trips: int, step: Callable[[ov.Node], ov.Node]) -> ov.Node:
        inner = op.parameter([1, 8], np.float32)
        body = ov.Model([op.result(step(inner)), op.result(op.constant(np.array(True)))], [inner])
        node = op.loop(op.constant(np.int64(trips)), op.constant(np.array(True)))
        node.set_function(body)
        node.set_special_body_ports([-1, 1])
        node.set_merged_input(inner, x.output(0), body.get_results()[0].output(0))
        node.get_iter_value(body.get_results()[0].output(0), -1)
        return node

    twice = loop(net.input(1, 8), 2, lambda x: loop(x, 3, lambda y: named(net.dense(y, 8), "sum")))
    view = GraphView(net.model(twice.output(0)))
    assert view.runs("sum") == 6 and [body.label for body in all_bodies_of(view, "sum")] == ["body", "body"]
    (layer,) = find(view).layers
    assert multiply_accumulates(view, layer.name) == 6 * 64
    assert len(list(all_bodies(net.model(twice.output(0))))) == 2


def all_bodies_of(view: GraphView, name: str) -> list[Body]:
    """Return the body that a node is in and those around it, from the inside."""
    found, body = [], view.inside.get(name)
    while body is not None:
        found.append(body)
        body = body.outer
    return found


def test_layers_inside_a_body_inside_a_body_are_found_too():
    net = Net()

    def inner(x: ov.Node) -> ov.Node:
        return choice(x, "inner", lambda x: named(net.conv(x, 4), "conv"))

    outer = choice(net.input(1, 4, 6, 6), "outer", inner)
    view = GraphView(net.model(outer.output(0)))
    (layer,) = find(view).layers
    assert layer.name == "conv" and [body.owner for body in all_bodies_of(view, "conv")] == ["inner", "outer"]
