"""``calib compare``: two models layer by layer, or several runs by their reports."""

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


@click.command(short_help="Compare two models layer by layer, or several runs.")
@click.argument("places", nargs=-1, required=True, metavar="FP32 INT8 | RUN RUN...")
@click.option("--data", metavar="DATA", help="Samples to run, as [format:]PATH[?key=value].")
@click.option("--samples", type=click.IntRange(1), default=16, show_default=True, help="Number of samples to run.")
@click.option("--html", "page", metavar="FILE", help="Also write the comparison to this HTML page.")
@setting_flags("decode")
@source_flags
@extension_flags
@json_flag
@click.pass_context
def command(
    ctx: click.Context, places: tuple[str, ...], data: str | None, page: str | None, as_json: bool, **options: Any
) -> None:
    """Compare INT8 with FP32 (any two models of the same network) on real samples.

    For each convolution and MatMul it shows how close the two outputs are (SQNR and cosine), how much SQNR is lost in
    that layer, the precision that was executed, and the time in both models. The first layer where the error jumps is
    marked.

    Folders of results (RUN) are compared by their reports, without DATA: accuracy with its interval, latency, size,
    layers side by side, and the drop against the time of all plans that were timed.
    """
    if data is None and all(Path(place).is_dir() for place in places):
        _compare_runs(ctx, places, page, as_json=as_json)
        return
    if len(places) != 2:
        raise click.UsageError("Give two models and --data DATA, or two or more folders of results.")
    if data is None:
        raise click.UsageError("Missing option '--data': two models are compared on samples.")
    from calib.engine.compare import compare  # here: --help needs no OpenVINO
    from calib.report.compare import render_comparison_text, write_comparison_html

    folder = Path(page).parent if page else None
    found = compare(*places, data, progress=progress(ctx), pictures=folder, **options)
    if page:
        remark(ctx, f"wrote {printable(str(write_comparison_html(found, page)))}")
    if as_json:
        print_json(found)
    else:
        print_text(render_comparison_text(found, width(), color()))


def _compare_runs(ctx: click.Context, places: tuple[str, ...], page: str | None, *, as_json: bool) -> None:
    from calib.report.runs import compare_runs, render_runs_text, write_runs_html

    found = compare_runs(places)
    if page:
        remark(ctx, f"wrote {printable(str(write_runs_html(found, page)))}")
    if as_json:
        print_json(found)
    else:
        print_text(render_runs_text(found, width(), color()))
