"""``calib evaluate``: one model, one metric, one validation dataset."""

from __future__ import annotations

from typing import Any

import click

import calib
from calib.cli.options import (
    accuracy_check_flags,
    checked_inputs,
    extension_flags,
    json_flag,
    print_json,
    print_lines,
    progress,
    python_flag,
    setting_flags,
    source_flags,
)
from calib.report import numbers
from calib.report.escape import printable
from calib.values.evaluation import Evaluation, MetricValue


@click.command(short_help="Measure a model with a metric.")
@click.argument("model")
@click.option("--validation", metavar="DATA", help="Samples with targets, as [format:]PATH[?key=value].")
@click.option(
    "--reference-model",
    metavar="FILE",
    help="Model to compare with, for metrics without labels (agreement, relative-l2): usually the FP32 one.",
)
@click.option(
    "--precision",
    type=click.Choice(["f32", "bf16", "default"]),
    default="f32",
    show_default=True,
    help="Precision of the layers in floating point; default is the one this machine chooses by itself.",
)
@click.option("--isa", metavar="NAME", help="Run as on a CPU limited to this instruction set, such as avx2.")
@accuracy_check_flags
@setting_flags("metric", "decode", "higher_is_better", "reference", "threads")
@source_flags
@python_flag
@extension_flags
@json_flag
@click.pass_context
def command(
    ctx: click.Context, model: str, validation: str | None, metric: str | None, as_json: bool, **options: Any
) -> None:
    """Measure MODEL, FP32 or INT8, on a validation dataset."""
    checked = checked_inputs(options, metric)
    if checked is not None:
        validation, metric = validation or checked.data, checked.metric
    if validation is None and options["config"] is None:
        raise click.UsageError("Missing option --validation (or a --config with 'validation:' in it).")
    found = calib.evaluate(model, validation, metric, progress=progress(ctx), **options)
    if as_json:
        print_json(found)
    else:
        print_lines(evaluation_lines(found))


def evaluation_lines(found: Evaluation) -> list[str]:
    """Return the evaluation as aligned ``name  value`` lines."""
    rows = [("model", found.model.name)]
    for one in found.each or (found,):
        rows += _value_rows(one)
    samples = f"{found.samples} of {found.validation}" if found.validation else "those that the metric's function reads"
    if found.reference_model:
        rows.append(("against", found.reference_model))
    rows += [("samples", samples), ("precision", found.precision)]
    if found.isa:
        rows.append(("isa", found.isa))
    rows += [("note", note) for note in found.notes]
    return [f"{name:<10} {printable(value)}" for name, value in rows]


def _value_rows(one: Evaluation | MetricValue) -> list[tuple[str, str]]:
    """Return the rows of one metric."""
    better = "higher" if one.higher_is_better else "lower"
    unit = f" {one.unit}" if one.unit else ""
    rows = [("metric", f"{one.metric} ({better} is better)"), ("value", f"{numbers.minus(f'{one.value:.6g}')}{unit}")]
    if one.interval:
        low, high = (numbers.minus(f"{end:.6g}") for end in one.interval)
        rows.append(("95 %", f"{low} … {high}{f' ({one.interval_method})' if one.interval_method else ''}"))
    if one.reference is not None:
        rows.append(("reference", numbers.minus(f"{one.reference:.6g}")))
    return rows
