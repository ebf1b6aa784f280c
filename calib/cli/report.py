"""``calib report``: write the HTML page of a run again from its report.json."""

from __future__ import annotations

from pathlib import Path

import click

from calib.cli.options import remark
from calib.report.escape import printable
from calib.report.html import FILE_NAME, write_html
from calib.report.json_report import read_report


@click.command(short_help="Write the HTML report of a run.")
@click.argument("folder", metavar="DIR")
@click.option("-o", "--output", metavar="FILE", help=f"File to write the page to. [default: DIR/{FILE_NAME}]")
@click.pass_context
def command(ctx: click.Context, folder: str, output: str | None) -> None:
    """Write the HTML report of the run in DIR as one file that needs no network.

    DIR is a folder written by 'calib quantize', or its report.json.
    """
    source = Path(folder)
    report = read_report(source)
    beside = source if source.is_dir() else source.parent
    path = write_html(report, output or beside / FILE_NAME, beside)
    remark(ctx, f"written to {printable(str(path))}")
