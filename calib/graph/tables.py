"""Find embedding tables: constants that a Gather picks rows from, kept in 8 bit and computed with in floating point.

::

    Constant f32 (rows, …) ──▶ Gather      becomes      Constant i8 ──▶ Convert ──▶ Multiply(scale a row) ──▶ Gather

OpenVINO 2026.4 either gathers i8 rows or folds the table to f32 when it compiles; 16 and 512 rows of 64 numbers took as
long as from an f32 table within the noise, and less than gathering rows and scales apart where a FakeQuantize follows.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from calib.graph.ignored import Ignored
from calib.graph.layers import weights_of
from calib.graph.view import GraphView
from calib.ranges.affine import dequantized, quantize_weights
from calib.runtime.session import ov
from calib.values.plan import FULL_RANGE, Port, QuantizableNode, Skipped, TensorId
from calib.values.sqnr import decibel

GATHER = "Gather"
LEAST = 1 << 14  # numbers in a table, 64 KiB in f32: smaller ones are constants of other uses, such as position biases
NARROW = 8  # numbers in a row: the scale takes as much room as four
FLOOR_DB = 30.0  # of rounding a table; normal numbers in rows of 64 have 44 dB, and layers in INT8 30 to 40


def find_tables(
    view: GraphView, layers: Sequence[QuantizableNode], ignored: Ignored | None
) -> tuple[list[QuantizableNode], list[Skipped]]:
    """Return the Gathers whose tables are kept in 8 bit, and those left alone with their reasons.

    Args:
        view: View of the model.
        layers: Layers that are quantized, whose weights a table may be too.
        ignored: What the user leaves in floating point.
    """
    weights = {Port(layer.name, index) for layer in layers for index in layer.weights}
    quantized = {view.tensor(port) for port in weights}
    found: list[QuantizableNode] = []
    skipped: list[Skipped] = []
    for name, kind in view.types.items():
        if kind != GATHER or not _is_table(view, name, quantized):
            continue
        pattern = ignored(name, kind) if ignored else ""
        reason = f"ignored by {pattern!r}" if pattern else _reason(view, name, weights, layers)
        if reason:
            skipped.append(Skipped(name, kind, reason))
        else:
            found.append(QuantizableNode(name, kind, (), (0,)))
    return found, skipped


def row_scales(view: GraphView, port: Port) -> tuple[int, ...]:
    """Return the shape of the scales of a table: one a row."""
    shape = view.shape(view.tensor(port)) or ()
    return tuple((size or 1) if axis == 0 else 1 for axis, size in enumerate(shape))


def _is_table(view: GraphView, name: str, quantized: Container[TensorId]) -> bool:
    """Return whether a Gather picks rows of an f32 constant, large or stored in 8 bit for a layer, by computed indices.

    A small one is a table too where a layer has it quantized: in f32 beside that it would make the file larger.
    """
    table, indices, axis = view.inputs[name]
    if not (view.is_constant(table) and view.is_constant(axis)) or view.is_constant(indices):
        return False
    shape = [size or 1 for size in view.shape(table) or ()]
    rows = int(view.values(axis).reshape(-1)[0]) % max(len(shape), 1) == 0
    f32 = view.output(table).get_element_type() == ov.Type.f32
    large = prod(shape) >= LEAST or table in quantized
    return rows and f32 and len(shape) > 1 and large and prod(shape[1:]) >= NARROW


def _reason(view: GraphView, name: str, weights: set[Port], layers: Sequence[QuantizableNode]) -> str:
    """Return why a table stays in floating point; empty if it does not."""
    port = Port(name, 0)
    others = [one for one in view.consumers[view.tensor(port)] if view.types[one.node] != GATHER]
    if layers and (kept := next((one.node for one in others if one not in weights), "")):
        return f"its table is what {kept} reads too, which stays in floating point: stored twice it would be larger"
    if not layers:
        return "nothing else in the network is quantized"
    values = weights_of(view, port)
    if not np.isfinite(values).all():
        return "its table holds numbers that are not finite"
    agreement = _agreement(values, row_scales(view, port))
    if agreement < FLOOR_DB:
        return (
            f"in 8 bit with a scale a row, what tells the rows of its table apart has an SQNR of {agreement:.1f} dB, "
            f"under {FLOOR_DB:g} dB"
        )
    return ""


def _agreement(values: NDArray[np.float32], scales: tuple[int, ...]) -> float:
    """Return the SQNR in dB of rows in 8 bit, where the signal is how they differ from the mean row.

    What all rows share tells nothing of a word, and may be much larger. The errors of the rows, each relative to its
    own signal, are averaged.
    """
    integers, scale = quantize_weights(values, scales, FULL_RANGE)
    rows = values.reshape(len(values), -1)
    signal = np.square(rows - rows.mean(axis=0, dtype=np.float64)).sum(axis=1)
    noise = np.square(rows - dequantized(integers, scale).reshape(rows.shape)).sum(axis=1, dtype=np.float64)
    return decibel(1.0, float(np.mean(noise / np.maximum(signal, np.finfo(np.float32).tiny))))
