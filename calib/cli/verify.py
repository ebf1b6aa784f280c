"""``calib verify``: a written model on the machine where it will run, against its report."""

from __future__ import annotations

from typing import Any

import click

from calib.cli import BUDGET_MISSED
from calib.cli.options import (
    color,
    extension_flags,
    json_flag,
    print_json,
    print_text,
    progress,
    python_flag,
    setting_flags,
    typed,
    width,
)


@click.command(short_help="Check a written model where it will run.")
@click.argument("folder", metavar="OUT")
@click.option(
    "--validation",
    metavar="DATA",
    help="Samples with targets to measure the drop on, as [format:]PATH[?key=value]; without them it is not measured.",
)
@click.option(
    "--reference-model",
    metavar="FP32",
    help="FP32 model to compare with. [default: the model of the report, if it is there and unchanged]",
)
@setting_flags("metric", "decode", "higher_is_better", "float_precision", "threads")
@python_flag
@extension_flags
@json_flag
@click.pass_context
def command(ctx: click.Context, folder: str, validation: str | None, as_json: bool, **options: Any) -> None:
    """Check the model that 'calib quantize' wrote to OUT, on the machine where it will run, against its report.

    Checked are the files, what every layer is executed in, the drop in the precision that the model will run in and in
    f32, and the speed. Preprocessing, metric and budget are those of the report.

    The exit code is 3 if something that was promised does not hold: a layer promised in INT8 runs in floating point,
    the budget is not kept, or the model is slower than FP32. A sentence says what it is.
    """
    from calib.engine.verification import verify  # here: --help needs no OpenVINO
    from calib.report.verification import render_verification_text

    found = verify(folder, validation, progress=progress(ctx), **typed(ctx, options))
    if as_json:
        print_json(found)
    else:
        print_text(render_verification_text(found, width(), color()))
    if not found.holds:
        ctx.exit(BUDGET_MISSED)
