"""Carry tensors out of the bodies of If, Loop and TensorIterator, and into them.

A body can be looked at from outside only through an output of its owner. A tensor that is carried out is a row there,
one for each run of the body:

    Loop, TensorIterator    one row an iteration, joined in the order of the iterations
    If                      one row; the branch that is not taken gives a placeholder

Rows of statistics start with a flag, 1 in what a body computed and 0 in placeholders, and are made so that a
placeholder changes nothing: the lowest number where the highest is wanted, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.graph.view import Body, bodies, trips
from calib.runtime.session import ov

op = ov.opset13


def carry_out(owner: ov.Node, body: Body, row: ov.Output, placeholder: NDArray[np.float32]) -> ov.Output:
    """Add an output to the owner of a body, in place, and return it: the rows of all runs, ``(runs, width)``.

    Args:
        owner: If, Loop or TensorIterator.
        body: Which of its bodies the row is in.
        row: Tensor inside that body, ``(1, width)``.
        placeholder: Row that an If gives if it does not take this body, ``(1, width)``.
    """
    models, node = bodies(owner), _methods(owner)
    result = op.result(row)
    models[body.index].add_results([result])
    if owner.get_type_name() != "If":
        rows = node.get_concatenated_slices(result.output(0), 0, 1, 1, -1, 0)
        return rows if trips(owner) > 0 else _unless_stale(owner, models[0], rows, placeholder)
    other = op.result(op.constant(placeholder))
    models[1 - body.index].add_results([other])
    return node.set_output(*((result, other) if body.index == 0 else (other, result)))


def _unless_stale(owner: ov.Node, body: ov.Model, rows: ov.Output, placeholder: NDArray[np.float32]) -> ov.Output:
    """Return the rows, or placeholders if the body did not run.

    OpenVINO 2026.4 leaves joined outputs as they were in the inference before where a Loop makes no iteration. States
    are right then, so one tells whether there was any.
    """
    before = op.parameter([1], np.float32)
    after = op.result(op.add(before, op.constant(np.ones(1, np.float32))))  # unread, OpenVINO would remove the state
    body.add_parameters([before])
    body.add_results([after])
    _methods(owner).set_merged_input(before, op.constant(np.zeros(1, np.float32)).output(0), after.output(0))
    # Not a Convert: it would be moved into the body, to an output of the wrong number.
    ran = op.greater(_methods(owner).get_iter_value(after.output(0), -1), op.constant(np.float32(0)))
    return op.select(ran, rows, op.constant(placeholder)).output(0)


def carry_in(owner: ov.Node, body: Body, value: ov.Output) -> ov.Output:
    """Add an input to a body, in place, that is the same in each run, and return the tensor inside.

    Args:
        owner: If, Loop or TensorIterator.
        body: Which of its bodies is to read the value.
        value: Tensor of the graph that the owner is in.
    """
    inner = op.parameter(value.get_partial_shape(), value.get_element_type())
    bodies(owner)[body.index].add_parameters([inner])
    if owner.get_type_name() == "If":
        _methods(owner).set_input(value, *((inner, None) if body.index == 0 else (None, inner)))
    else:
        _methods(owner).set_invariant_input(inner, value)
    return inner.output(0)


def columns(rows: ov.Output, start: int, size: int) -> ov.Output:
    """Return some columns of rows, ``(runs, size)``."""
    ends = (np.array([value], np.int64) for value in (start, start + size, 1, 1))
    return op.slice(rows, *map(op.constant, ends)).output(0)


def first_run(rows: ov.Output, placeholder: NDArray[np.float32]) -> ov.Output:
    """Return the first row that a body computed, ``(1, width)``; the placeholder if none did."""
    with_one = op.concat([rows, op.constant(placeholder)], 0)
    flags = columns(with_one.output(0), 0, 1)
    order = op.topk(flags, op.constant(np.int64(1)), 0, "max", "index", "i64", stable=True)
    return op.gather(with_one, op.reshape(order.output(1), _int(1), False), op.constant(np.int64(0))).output(0)


def computed_values(rows: ov.Output, start: int, size: int) -> ov.Node:
    """Return some columns of the rows that a body computed, flat; placeholders are left out."""
    flags = op.reshape(columns(rows, 0, 1), _int(-1), False)
    places = op.reshape(op.non_zero(flags, "i64"), _int(-1), False)
    kept = op.gather(columns(rows, start, size), places, op.constant(np.int64(0)))
    return op.reshape(kept, _int(-1), False)


def as_row(parts: Sequence[ov.Output]) -> ov.Output:
    """Join flat tensors to a row with a flag in front, ``(1, width)``."""
    flag = op.constant(np.ones(1, np.float32)).output(0)
    return op.unsqueeze(op.concat([flag, *parts], 0), op.constant(np.int64(0))).output(0)


def _int(*values: int) -> ov.Node:
    return op.constant(np.array(values, np.int64))


def _methods(owner: ov.Node) -> Any:
    """Return an owner with the methods of its type, which OpenVINO's stubs do not know of a Node."""
    return owner
