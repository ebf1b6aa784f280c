"""``calib export``: a result as one zip file."""

from __future__ import annotations

import click

from calib.cli.options import remark
from calib.report.escape import printable


@click.command(short_help="Pack a result into one zip file.")
@click.argument("folder", metavar="DIR")
@click.option("-o", "--output", metavar="FILE", help="File to write. [default: MODEL-int8.zip]")
@click.pass_context
def command(ctx: click.Context, folder: str, output: str | None) -> None:
    """Pack the result in DIR into one zip file.

    It holds the model, plan, settings and report, the command that made them, and run.py, which runs the model without
    calib. DIR is a folder written by 'calib quantize', or that of a model of a zoo.
    """
    from calib.engine.take_away import take_away  # here: --help needs no numpy

    remark(ctx, f"written to {printable(str(take_away(folder, output)))}")
