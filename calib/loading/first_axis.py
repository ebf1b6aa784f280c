"""Tell a batch along a dynamic first axis from a sample with several rows, by running the model.

An input ``[?, 32]`` may take any number of samples, or one sample of any number of rows: a set of points, the nodes of
a graph, a sequence with time first. The shapes don't say which. In a batch every row's outputs are its own, so the
model is run on the rows together and one by one: where the outputs differ, the rows belong together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calib.errors import DataError
from calib.loading.inputs import ShapeCheck, has_dynamic_first_axis
from calib.runtime.session import Session, attributes_of, ov, values_of
from calib.samples.sample import Arrays
from calib.values.sqnr import squared_error

# Rows that are run one by one, of the first sample that has several.
ROWS = 16
# Relative error of the outputs up to which the rows are independent. A batch changes the order of sums, by 1e-6 or so;
# in a quantized model that tips some values to the next of 256 levels.
FLOAT, QUANTIZED = 1e-3, 3e-2

# Operations that pick elements of their first input by the numbers in their second one.
PICKS = ("Gather", "GatherElements", "GatherND", "ScatterElementsUpdate", "ScatterNDUpdate", "ScatterUpdate")


class FirstAxis:
    """What a dynamic first axis of the inputs is, decided once for a run, on the first feed with several rows.

    Args:
        model: Model with at least one input whose first axis is dynamic.
        given: What the user says: "batch", "whole", or "auto" to run the model.
        quantized: Whether the model is quantized.

    Attributes:
        sentence: What was decided and why, for the report; empty as long as no feed had several rows.
    """

    def __init__(self, model: ov.Model, given: Literal["auto", "batch", "whole"] = "auto", *, quantized: bool = False):
        self._model, self._limit = model, QUANTIZED if quantized else FLOAT
        self._splits = None if given == "auto" else given == "batch"
        self.sentence = ""

    def __call__(self, whole: Arrays, rows: Sequence[Arrays] | None) -> bool:
        """Return whether the rows of a feed are samples of their own.

        Args:
            whole: Arrays of the feed in input order.
            rows: The same feed as one feed for each row; None if its inputs have different numbers of rows. Of a feed
                without rows nothing is decided: it is taken for an empty batch as long as nothing is.
        """
        if self._splits is None and rows is not None and not len(rows):
            return True
        if self._splits is None:
            why = self._difference(whole, rows)
            self._splits = not why
            self.sentence = self._said(why)
        return self._splits

    def _said(self, why: str) -> str:
        port = next(filter(has_dynamic_first_axis, self._model.inputs))
        name = min(port.get_names(), default=port.get_node().get_friendly_name())
        start = f"the dynamic first axis of input {name!r} was taken for"
        if why:
            return f"{start} part of a sample, which is run whole: {why}; if that is wrong, set first_axis=batch"
        return (
            f"{start} a batch of samples: rows give the same outputs together and one by one; if that is wrong, set "
            "first_axis=whole"
        )

    def _difference(self, whole: Arrays, rows: Sequence[Arrays] | None) -> str:
        """Return how the outputs of the rows together differ from those one by one; "" if they don't."""
        session, check = Session(self._model), ShapeCheck(self._model)
        if rows is not None and (name := _numbering_rows(self._model, whole)):
            return f"input {name!r} holds numbers of rows"
        together: Sequence[NDArray[Any]] | None = None
        for some, of in _first_rows(whole, rows):
            with suppress(DataError, RuntimeError):
                check(some, "")  # what the shapes forbid the plug-in may run all the same, and wrongly
                together, rows = session(some), of
                break
        if together is None:  # the model has a batch of 1 written into it
            return ""
        if rows is None:
            return "the inputs of the first sample have different numbers of rows"
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), ROWS)).round().astype(int)).tolist()
        try:
            check(rows[0], "")
            alone = {row: session(rows[row]) for row in chosen}
        except (DataError, RuntimeError):
            return "the model can't run on a single row"
        return _compared(together, alone, len(rows), self._limit)


def _first_rows(whole: Arrays, rows: Sequence[Arrays] | None) -> Iterator[tuple[Arrays, Sequence[Arrays] | None]]:
    """Yield the feeds to run together, with their rows: the first few, which tell as much and cost less, then all.

    All are for a model that takes no part of its rows, such as one that reads a matrix of ``(rows, rows)``.
    """
    if rows and len(rows) > ROWS and all(array.shape[:1] == (len(rows),) for array in whole):
        yield tuple(array[:ROWS] for array in whole), rows[:ROWS]
    yield whole, rows


def _numbering_rows(model: ov.Model, whole: Arrays) -> str:
    """Return the input of integers that picks rows of another tensor, such as the edges of a graph; "" if none does.

    Of such a feed single rows can't be run: their numbers would lie beyond the one row that is there, and the plug-in
    reads and writes whatever lies in memory behind it.
    """
    given = dict(zip((port.get_node().get_friendly_name() for port in model.inputs), whole, strict=True))
    origins: dict[str, frozenset[str]] = {}  # node: inputs of integers above 0 that its own integers come from
    for node in model.get_ordered_ops():
        name = node.get_friendly_name()
        above = [origins.get(value.get_node().get_friendly_name(), frozenset[str]()) for value in node.input_values()]
        kind = node.get_type_name()
        if kind in PICKS and above[1] and _picks_rows(node):
            return min(above[1])
        integers = node.get_output_size() > 0 and node.get_output_element_type(0).is_integral_number()
        if kind == "Parameter" and integers and name in given and given[name].size and given[name].max() > 0:
            origins[name] = frozenset([name])
        elif integers and kind != "ShapeOf":
            origins[name] = frozenset[str]().union(*above)
    return ""


def _picks_rows(node: ov.Node) -> bool:
    """Return whether an operation picks along the first axis of a tensor with any number of rows, over all of them."""
    shape, kind, values = node.get_input_partial_shape(0), node.get_type_name(), attributes_of(node)
    if shape.rank.is_dynamic or not len(shape) or shape[0].is_static or values.get("batch_dims", 0):
        return False
    if kind in ("GatherND", "ScatterNDUpdate"):
        return True
    if kind == "GatherElements":
        return values["axis"] % len(shape) == 0
    axis = node.input_value(node.get_input_size() - 1).get_node()
    return axis.get_type_name() != "Constant" or int(values_of(axis).flat[0]) % len(shape) == 0


def _compared(
    together: Sequence[NDArray[Any]], alone: Mapping[int, Sequence[NDArray[Any]]], rows: int, limit: float
) -> str:
    """Return how the rows' own outputs differ from their parts of the outputs together; "" if they don't."""
    for number, output in enumerate(together):
        if all(
            np.array_equal(output, outputs[number], equal_nan=output.dtype.kind == "f") for outputs in alone.values()
        ):
            continue  # what does not depend on the rows, such as anchors, tells nothing
        parts: list[NDArray[Any]] = []
        for row, outputs in alone.items():
            part = _part_of(output, outputs[number], row, rows)
            if part is None:
                one = list(outputs[number].shape)
                return f"output {number} is {list(output.shape)} for {rows} rows and {one} for one"
            parts.append(part.ravel())
        error = _error(np.concatenate(parts), np.concatenate([outputs[number].ravel() for outputs in alone.values()]))
        if not error <= limit:
            return f"output {number} of single rows differs by {error:.2g} (relative) from that of {rows} rows together"
    return ""


def _part_of(output: NDArray[Any], y: NDArray[Any], row: int, rows: int) -> NDArray[Any] | None:
    """Return the part of an output that has the shape of one row's; None if no axis is as many times as long.

    Mostly that is the first axis, but a recurrent network may give its outputs with time first, (T, N, C).
    """
    longer = [axis for axis, pair in enumerate(zip(output.shape, y.shape, strict=False)) if pair[0] != pair[1]]
    if output.ndim != y.ndim or len(longer) != 1 or output.shape[longer[0]] != rows * y.shape[longer[0]]:
        return None
    size = y.shape[longer[0]]
    return np.take(output, range(row * size, (row + 1) * size), axis=longer[0])


def _error(y: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the relative error; of integers (labels, indices) the share that differs."""
    if y.dtype.kind != "f":
        return float(np.mean(y != other)) if y.size else 0.0
    power, error = squared_error(y, other)
    return float(np.sqrt(error / power)) if power > 0 else float(error > 0)
