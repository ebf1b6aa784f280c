"""``calib compare``: two models layer by layer."""

from __future__ import annotations

from typing import Any

import click

from calib.cli.options import color, json_flag, print_json, progress, remark, source_flags, width
from calib.report.escape import printable


@click.command(short_help="Two models layer by layer: error, executed precision, time.")
@click.argument("fp32")
@click.argument("int8")
@click.option("--data", metavar="DATA", required=True, help="Samples: [format:]PATH[?key=value].")
@click.option("--samples", type=click.IntRange(1), default=16, show_default=True, help="How many samples to run.")
@click.option("--html", "page", metavar="FILE", help="Write the comparison as one HTML page too.")
@source_flags
@json_flag
@click.pass_context
def command(
    ctx: click.Context, fp32: str, int8: str, data: str, page: str | None, as_json: bool, **options: Any
) -> None:
    """Compare INT8 with FP32 (any two models of the same network) on real samples.

    For each convolution and MatMul: how much of its output is left (SQNR, cosine), how much was lost there, what
    precision really executed, and the time of both. The first layer where the error jumps is marked.
    """
    from calib.engine.compare import compare  # here: --help needs no OpenVINO
    from calib.report.compare import render_comparison_text, write_comparison_html

    found = compare(fp32, int8, data, progress=progress(ctx), **options)
    if page:
        remark(ctx, f"wrote {printable(str(write_comparison_html(found, page)))}")
    if as_json:
        print_json(found)
    else:
        click.echo(render_comparison_text(found, width(), color()), nl=False)
