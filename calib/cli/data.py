"""``calib data``: the table of data formats."""

from __future__ import annotations

import json

import click

from calib.cli.options import color, json_flag, print_lines, width
from calib.report.console import rule, wrap
from calib.samples import FORMATS


@click.command(short_help="List the data formats.")
@json_flag
def command(as_json: bool) -> None:
    """List the formats of DATA, which is [format:]PATH[?key=value&…].

    The format is guessed from the suffix where there is one.
    """
    if as_json:
        rows = [
            {"format": name, "suffixes": row.suffixes, "reads": row.sentence, "options": row.options}
            for name, row in FORMATS.items()
        ]
        click.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    print_lines(data_lines(width(), color()))


def data_lines(width: int, color: bool) -> list[str]:
    """Return the table for a terminal of that width."""
    lines: list[str] = []
    for name, row in FORMATS.items():
        suffixes = f" ({', '.join(row.suffixes)})" if row.suffixes else ""
        lines += [rule(f"{name}{suffixes}", width, color), *wrap(row.sentence, width), ""]
    return lines[:-1]
