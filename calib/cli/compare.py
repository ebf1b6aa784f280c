"""``calib compare``: two models layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from calib.cli.options import (
    color,
    extension_flags,
    json_flag,
    print_json,
    print_text,
    progress,
    remark,
    setting_flags,
    source_flags,
    width,
)
from calib.report.escape import printable


@click.command(short_help="Compare two models layer by layer.")
@click.argument("fp32")
@click.argument("int8")
@click.option("--data", metavar="DATA", required=True, help="Samples to run, as [format:]PATH[?key=value].")
@click.option("--samples", type=click.IntRange(1), default=16, show_default=True, help="Number of samples to run.")
@click.option("--html", "page", metavar="FILE", help="Also write the comparison to this HTML page.")
@setting_flags("decode")
@source_flags
@extension_flags
@json_flag
@click.pass_context
def command(
    ctx: click.Context, fp32: str, int8: str, data: str, page: str | None, as_json: bool, **options: Any
) -> None:
    """Compare INT8 with FP32 (any two models of the same network) on real samples.

    For each convolution and MatMul it shows how close the two outputs are (SQNR and cosine), how much SQNR is lost in
    that layer, the precision that was executed, and the time in both models. The first layer where the error jumps is
    marked.
    """
    from calib.engine.compare import compare  # here: --help needs no OpenVINO
    from calib.report.compare import render_comparison_text, write_comparison_html

    folder = Path(page).parent if page else None
    found = compare(fp32, int8, data, progress=progress(ctx), pictures=folder, **options)
    if page:
        remark(ctx, f"wrote {printable(str(write_comparison_html(found, page)))}")
    if as_json:
        print_json(found)
    else:
        print_text(render_comparison_text(found, width(), color()))
