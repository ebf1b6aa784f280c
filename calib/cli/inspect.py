"""``calib inspect``: which layers would be quantized, and what a quantized model executes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

import calib
from calib.cli.options import (
    color,
    extension_flags,
    json_flag,
    print_json,
    print_lines,
    setting_flags,
    source_flags,
    typed,
    width,
)
from calib.report import digest, numbers
from calib.report.console import rule, table, wrap
from calib.report.escape import printable
from calib.values.facts import LayerFacts, TensorFacts
from calib.values.inspection import Inspection


@click.command(short_help="Show which layers would be quantized, and why others would not.")
@click.argument("model")
@setting_flags("target", "ignore", "complete")
@source_flags
@extension_flags
@json_flag
@click.pass_context
def command(ctx: click.Context, model: str, as_json: bool, **options: Any) -> None:
    """Show every Convolution, GroupConvolution, ConvolutionBackpropData and MatMul of MODEL.

    For an FP32 model it says whether each layer would run in INT8, and if not, exactly why. For a quantized model it
    says which precision each layer is executed in.
    """
    found = calib.inspect(model, **typed(ctx, options))
    if as_json:
        print_json(found)
    else:
        print_lines(inspection_lines(found, width(), color()))


def inspection_lines(found: Inspection, width: int, color: bool) -> list[str]:
    """Return the inspection as text for a terminal of that width."""
    model = found.model
    lines = [
        f"{printable(model.name)}  {model.format}, {model.operations} operations, {numbers.size(model.bytes_before)}",
        *_tensors("input", model.inputs),
        *_tensors("output", model.outputs),
        "",
        rule(_summary(found), width, color),
    ]
    if found.layers:
        titles = ("layer", "type", "output", "weights", "MACs", "runs in" if found.quantized else "plan", "reason")
        rows = [_row(layer, found.quantized) for layer in found.layers]
        lines += table(titles, rows, width, right=(4,), color=color)
    remarks = [*model.normalization, *model.preprocessing, *found.notes]
    if remarks:
        lines += ["", *(line for note in remarks for line in wrap(note, width))]
    return lines


def _tensors(title: str, tensors: list[TensorFacts]) -> list[str]:
    return [f"  {title}  {printable(t.name)}  {printable(t.shape)}  {printable(t.type)}" for t in tensors]


def _summary(found: Inspection) -> str:
    """Return one line: how many layers run, or would run, in INT8."""
    if not found.layers:
        return "no layers that could run in INT8"
    if found.quantized:
        ran = Counter(digest.executed_in(layer) or "unknown" for layer in found.layers)
        return "executed: " + ", ".join(f"{count} in {what}" for what, count in ran.most_common())
    planned = [layer for layer in found.layers if layer.planned == "int8"]
    macs = sum(layer.macs for layer in found.layers)
    share = (
        f", {numbers.share(sum(layer.macs for layer in planned) / macs)} of the multiply-accumulates" if macs else ""
    )
    tables = sum(layer.planned == "int8-weights" for layer in found.layers)
    kept = f"; {numbers.plural(tables, 'embedding table')} would be kept in 8 bit" if tables else ""
    return f"{len(planned)} of {len(found.layers) - tables} layers would run in INT8{share}{kept}"


def _row(layer: LayerFacts, quantized: bool) -> tuple[str, ...]:
    runs = digest.executed_in(layer) or "?" if quantized else layer.planned
    macs = f"{layer.macs:,}" if layer.macs else numbers.MISSING
    return (layer.name, layer.type, layer.output_shape, layer.weight_shape, macs, runs, layer.reason)
