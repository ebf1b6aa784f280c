"""Bring the statistics of tensors inside bodies of If, Loop and TensorIterator into the flat output of a model.

In a body, everything that is collected of its tensors makes one row::

    flag │ highs │ lows │ checks │ values

Outside there is one row for each run. Highs, lows and checks of the runs become one of the sample (the highest, the
lowest, the sum), and values are strung together. A body that did not run leaves the lowest number as the highest and
the other way round, as an empty tensor does. Of a body inside another, one row goes on to the outer body: the extremes
of all its runs, and the values of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from calib.graph.bodies import as_row, carry_out, columns, computed_values, first_run
from calib.graph.taps import Builder, Kind, Segment
from calib.graph.view import Body
from calib.runtime.session import ov

op = ov.opset13

_LARGEST = float(np.finfo(np.float32).max)
# What changes nothing where it meets the numbers of a run, and how the numbers of runs become one.
_NEUTRAL = {Kind.HIGH: -_LARGEST, Kind.LOW: _LARGEST, Kind.CHECK: 0.0, Kind.VALUES: 0.0}
_JOIN: Mapping[Kind, Callable[..., ov.Node]] = {
    Kind.HIGH: op.reduce_max,
    Kind.LOW: op.reduce_min,
    Kind.CHECK: op.reduce_sum,
}


def add_rows(builder: Builder, inner: Mapping[Body, Builder], nodes: Mapping[str, ov.Node]) -> None:
    """Append the taps of bodies to those of the model, and edit the bodies in place.

    Args:
        builder: Taps of the model.
        inner: Taps of each body, whose segments all have fixed sizes.
        nodes: Mapping from friendly name to node, bodies included.
    """
    for body, taps in inner.items():
        order = sorted(range(len(taps.segments)), key=lambda number: list(_NEUTRAL).index(taps.segments[number].kind))
        parts, segments = taps.parts, [taps.segments[number] for number in order]
        row, placeholder = as_row([parts[number] for number in order]), _placeholder(segments)
        rows = carry_out(nodes[body.owner], body, row, placeholder)
        while body.outer is not None:
            row, body = _one_row(rows, segments, placeholder), body.outer
            rows = carry_out(nodes[body.owner], body, row, placeholder)
        _append(builder, taps, segments, rows, placeholder)


def _placeholder(segments: list[Segment]) -> NDArray[np.float32]:
    parts = [np.zeros(1), *(np.full(segment.size, _NEUTRAL[segment.kind]) for segment in segments)]
    return np.concatenate(parts).astype(np.float32)[None]


def _append(
    builder: Builder, taps: Builder, segments: list[Segment], rows: ov.Output, placeholder: NDArray[np.float32]
) -> None:
    """Append the segments of a body, joined over its runs."""
    first, start = len(builder.tensors), 1
    builder.tensors += taps.tensors
    complete = op.concat([rows, op.constant(placeholder)], 0).output(0)  # never empty
    for segment in segments:
        owned = replace(segment, tensor=first + segment.tensor)
        if segment.kind == Kind.VALUES:
            builder.values(owned.tensor, computed_values(rows, start, segment.size), -1)
        else:
            joined = _joined(complete, segment, start)
            builder.parts.append(op.reshape(joined, op.constant(np.array([-1])), False).output(0))
            builder.segments.append(owned)
        start += segment.size


def _joined(rows: ov.Output, segment: Segment, start: int) -> ov.Output:
    own = columns(rows, start, segment.size)
    return _JOIN[segment.kind](own, op.constant(np.array([0], np.int64)), keep_dims=True).output(0)


def _one_row(rows: ov.Output, segments: list[Segment], placeholder: NDArray[np.float32]) -> ov.Output:
    """Return one row of all runs for the outer body: joined where that is defined, else of the first run."""
    first = first_run(rows, placeholder)
    complete = op.concat([rows, op.constant(placeholder)], 0).output(0)
    parts, start = [columns(first, 0, 1)], 1
    for segment in segments:
        joins = segment.kind in _JOIN
        parts.append(_joined(complete, segment, start) if joins else columns(first, start, segment.size))
        start += segment.size
    return op.concat(parts, 1).output(0)
