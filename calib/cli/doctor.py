"""``calib doctor``: what this machine can run."""

from __future__ import annotations

import click

from calib.cli.options import color, json_flag, print_json, print_text, width


@click.command(short_help="Show what this machine can run.")
@json_flag
def command(as_json: bool) -> None:
    """Show what this machine can run: CPU features, versions, default precision and extras.

    It also says whether results measured here hold on other machines.
    """
    from calib.report.doctor import render_doctor_text
    from calib.runtime.machine import diagnose  # here: --help needs no OpenVINO

    found = diagnose()
    if as_json:
        print_json(found)
    else:
        print_text(render_doctor_text(found, width(), color()))
