"""Sequences of both directions, and cells in bodies, become sequences of one direction that compute the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from building import Net, ints, op
from recurrent_layers import recurrent

from calib.graph.finder import find
from calib.graph.ignored import Ignored
from calib.graph.operations import MEASURED
from calib.graph.recurrent import IN_FLOAT, LATE_RESET
from calib.graph.view import GraphView
from calib.loading.load import load_model
from calib.runtime.executed import executed_layers
from calib.runtime.session import Session, ov

STEPS, SIZE = 6, 8


def in_both(kind: str, *, late: bool = False) -> ov.Model:
    net = Net()
    return net.model(recurrent(net, net.input(2, STEPS, SIZE), kind, "bidirectional", late=late))


def cell(
    kind: str,
    *,
    axis: int = 1,
    reverse: bool = False,
    last: bool = False,
    more: bool = False,
    trips: int | None = None,
    goes_on: bool = True,
) -> ov.Model:
    """Return a network with a cell over 6 steps of 8 values: TensorIterator or Loop "iterator" around "cell".

    Args:
        kind: lstm or gru.
        axis: Axis of the steps.
        reverse: Whether the last step comes first.
        last: Whether the last state is read, rather than all outputs.
        more: Whether the body does more than run the cell.
        trips: Largest number of steps of a Loop; None for a TensorIterator.
        goes_on: Whether the Loop goes on behind its first step.
    """
    net, batch = Net(), 2
    x = net.input(*((STEPS, batch, SIZE) if axis == 0 else (batch, STEPS, SIZE)))
    part = [batch, SIZE]
    part.insert(axis, 1)
    step, states = op.parameter(part, np.float32), [op.parameter([batch, SIZE], np.float32) for _ in range(2)]
    states = states if kind == "lstm" else states[:1]
    gates = {"lstm": 4, "gru": 3}[kind] * SIZE
    weights = [net.weights(gates, SIZE, fan_in=4 * SIZE) for _ in range(2)] + [net.weights(gates, fan_in=20)]
    make = op.lstm_cell if kind == "lstm" else op.gru_cell
    node = make(op.squeeze(step, ints(axis)), *states, *weights, SIZE)
    node.set_friendly_name("cell")
    output = op.tanh(node.output(0)) if more else node.output(0)
    ends, each = [op.result(node.output(i)) for i in range(len(states))], op.result(op.unsqueeze(output, ints(axis)))
    owner: Any = op.tensor_iterator()
    if trips is None:
        owner.set_body(ov.Model([*ends, each], [step, *states], "body"))
    else:
        owner = op.loop(op.constant(np.int64(trips)), op.constant(np.array(True)))
        condition = op.result(op.constant(np.array(goes_on)))
        owner.set_function(ov.Model([*ends, each, condition], [step, *states], "body"))
        owner.set_special_body_ports([-1, len(ends) + 1])
    owner.set_friendly_name("iterator")
    owner.set_sliced_input(step, x.output(0), *((-1, -1, 1, 0, axis) if reverse else (0, 1, 1, -1, axis)))
    for state, end in zip(states, ends, strict=True):
        start = op.constant(net.rng.standard_normal((batch, SIZE)).astype(np.float32))
        owner.set_merged_input(state, start.output(0), end.output(0))
    if last:
        return net.model(*(owner.get_iter_value(end.output(0), -1) for end in ends))
    around = (-1, -1, 1, 0, axis) if reverse else (0, 1, 1, -1, axis)
    return net.model(owner.get_concatenated_slices(each.output(0), *around))


CASES: dict[str, tuple[Callable[[], ov.Model], list[str]]] = {
    "lstm in both directions": (lambda: in_both("lstm"), ["lstm/forward", "lstm/reverse"]),
    "gru in both directions": (lambda: in_both("gru"), ["gru/forward", "gru/reverse"]),
    "an lstm cell": (lambda: cell("lstm"), ["iterator/body/cell"]),
    "a gru cell": (lambda: cell("gru"), ["iterator/body/cell"]),
    "a cell with time first": (lambda: cell("lstm", axis=0), ["iterator/body/cell"]),
    "a cell from the end": (lambda: cell("gru", reverse=True), ["iterator/body/cell"]),
    "the last states of a cell": (lambda: cell("lstm", last=True), ["iterator/body/cell"]),
    "an lstm cell in a loop": (lambda: cell("lstm", trips=STEPS), ["iterator/body/cell"]),
    "a gru cell in a loop": (lambda: cell("gru", trips=STEPS), ["iterator/body/cell"]),
    "a cell in a loop with time first": (lambda: cell("gru", axis=0, trips=STEPS), ["iterator/body/cell"]),
    "the last states of a cell in a loop": (lambda: cell("lstm", last=True, trips=STEPS), ["iterator/body/cell"]),
}


@pytest.mark.parametrize("make", CASES)
def test_it_becomes_sequences_of_one_direction_that_compute_the_same(make: str):
    build, names = CASES[make]
    model = build()
    loaded = load_model(model)
    found = {one.name: one.reason for one in find(GraphView(loaded.model)).skipped}
    assert found == dict.fromkeys(names, MEASURED)
    x = np.random.default_rng(1).standard_normal(tuple(model.input(0).shape)).astype(np.float32)
    for one, other in zip(Session(loaded.model)([x]), Session(model)([x]), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_an_rnn_in_both_directions_is_found_by_its_parts_among_what_executed():
    model = in_both("rnn")
    loaded = load_model(model)
    view = GraphView(loaded.model)
    found = {one.name: one.reason for one in find(view).skipped}
    assert found == dict.fromkeys(["rnn/forward", "rnn/reverse"], IN_FLOAT)
    x = np.random.default_rng(1).standard_normal((2, STEPS, SIZE)).astype(np.float32)
    run = Session(loaded.model)
    np.testing.assert_allclose(run([x])[0], Session(model)([x])[0], atol=1e-6)
    executed = executed_layers(run.compiled)
    assert [executed[name].precision for name in found] == ["f32", "f32"]


def test_the_parts_are_ignored_by_the_name_of_the_whole():
    for build, whole in ((CASES["lstm in both directions"][0], "lstm"), (CASES["a gru cell"][0], "iterator")):
        view = GraphView(load_model(build()).model)
        reasons = [one.reason for one in find(view, Ignored(view, (whole,))).skipped]
        assert reasons and set(reasons) == {f"ignored by {whole!r}"}


def test_a_body_that_does_more_stays_as_it_is():
    model = load_model(cell("lstm", more=True)).model
    assert "TensorIterator" in GraphView(model).types.values()


@pytest.mark.parametrize(("trips", "goes_on"), [(STEPS, False), (STEPS - 2, True)])
def test_a_loop_that_may_stop_before_the_last_step_stays_as_it_is(trips: int, goes_on: bool):
    model = load_model(cell("lstm", last=True, trips=trips, goes_on=goes_on)).model
    assert not {"LSTMSequence"} & set(GraphView(model).types.values())


def test_the_gru_of_pytorch_is_split_and_says_why_its_parts_stay_in_floating_point():
    found = find(GraphView(load_model(in_both("gru", late=True)).model)).skipped
    assert {one.name: one.reason for one in found} == {"gru/forward": LATE_RESET, "gru/reverse": LATE_RESET}
