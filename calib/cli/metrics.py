"""``calib metrics``: the table of metrics."""

from __future__ import annotations

import json

import click

from calib.cli.options import color, json_flag, print_lines, print_text, width
from calib.errors import MissingExtraError
from calib.metrics import METRICS
from calib.report.console import rule, wrap


@click.command(short_help="List the metrics.")
@json_flag
def command(as_json: bool) -> None:
    """List the metrics with their direction, unit and the output format that each one reads.

    Any other metric can be given as a Python function: --metric python:module:function.
    """
    if as_json:
        rows = [_row(name) for name in METRICS]
        print_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
        return
    print_lines(metric_lines(width(), color()))


def metric_lines(width: int, color: bool) -> list[str]:
    """Return the table for a terminal of that width."""
    lines: list[str] = []
    for row in map(_row, METRICS):
        better, compares = row["better"], row["compares with"]
        facts = [f"{better} is better" if better else "", row["unit"], f"compares with {compares}" if compares else ""]
        title = ", ".join(filter(None, facts))
        lines += [rule(f"{row['name']}: {title}" if title else row["name"], width, color)]
        lines += [*wrap(row["reads"], width), ""]
    return lines[:-1]


def _row(name: str) -> dict[str, str]:
    """Return a metric's description of itself, or what to install if its package is missing."""
    from calib.metrics.resolve import resolve_metric  # here: it loads numpy

    try:
        metric = resolve_metric(name)
    except MissingExtraError as error:
        return {"name": name, "better": "", "unit": "", "compares with": "", "reads": str(error)}
    return {
        "name": name,
        "better": "higher" if metric.higher_is_better else "lower",
        "unit": metric.unit,
        "compares with": "targets" if metric.needs_target else "FP32 outputs" if metric.needs_reference else "",
        "reads": metric.reads,
    }
