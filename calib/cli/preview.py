"""``calib preview``: samples as the network sees them."""

from __future__ import annotations

from typing import Any

import click

from calib.cli.options import (
    color,
    extension_flags,
    print_text,
    python_flag,
    remark,
    setting_flags,
    source_flags,
    width,
)
from calib.report.escape import printable


@click.command(short_help="Show a few samples as the network sees them.")
@click.argument("model", required=False)
@click.option("--calibration", metavar="DATA", help="Samples, as [format:]PATH[?key=value].")
@click.option("--show", "count", type=click.IntRange(1, 64), default=8, show_default=True, help="Samples to show.")
@click.option("-o", "--output", metavar="FILE", default="preview.html", show_default=True, help="Page to write.")
@setting_flags("decode")
@source_flags
@python_flag
@extension_flags
@click.pass_context
def command(
    ctx: click.Context, model: str | None, calibration: str | None, count: int, output: str, **options: Any
) -> None:
    """Write a page with a few samples as MODEL gets them after preprocessing, their range and what MODEL answers.

    What looks wrong is said: a range that the network was probably not trained on, labels that are off by one,
    classes in another order. Preprocessing is set as for calib quantize, in a config file or with --set:

    \b
    calib preview model.xml --calibration images/ --set preprocessing.resize=224
    """  # noqa: D301  # click's mark for lines that stay as they are is a backspace
    if not (model and calibration) and options["config"] is None:
        raise click.UsageError("Give MODEL and --calibration DATA (or a --config that names them).")
    from calib.engine.preview import preview  # here: --help needs no OpenVINO
    from calib.report.preview import render_preview_text, write_preview_html

    found = preview(model, calibration, count=count, **options)
    print_text(render_preview_text(found, width(), color()))
    remark(ctx, f"wrote {printable(str(write_preview_html(found, output)))}")
