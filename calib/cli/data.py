"""``calib data``: the table of data formats."""

from __future__ import annotations

import json

import click

from calib.cli.options import color, json_flag, print_lines, print_text, width
from calib.config.preprocessing import EXAMPLE
from calib.report.console import rule, wrap
from calib.report.escape import printable, shorten
from calib.samples import FORMATS


@click.group(short_help="List the data formats.", invoke_without_command=True)
@json_flag
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List the formats of DATA, which is [format:]PATH[?key=value&…].

    The format is guessed from the suffix where there is one. At the end: how images become inputs, with an example.
    """
    if ctx.invoked_subcommand is not None:
        return
    if as_json:
        rows = [
            {"format": name, "suffixes": row.suffixes, "reads": row.sentence, "options": row.options}
            for name, row in FORMATS.items()
        ]
        print_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
        return
    print_lines(data_lines(width(), color()))


@command.command("accuracy-check", short_help="Say which Accuracy Checker configurations would run.")
@click.argument("files", nargs=-1, required=True)
@click.option("--definitions", metavar="FILE", help="dataset_definitions.yml, which describes data sets by name.")
@json_flag
def accuracy_check(files: tuple[str, ...], definitions: str | None, as_json: bool) -> None:
    """Say of each of FILES, or of all accuracy-check.yml below a folder, whether it would run, or what it lacks."""
    from calib.accuracy_check.survey import survey  # here: it loads numpy

    found = survey(files, definitions)
    if as_json:
        rows = [{"file": one.file, "metric": one.metric, "lacks": list(one.problems)} for one in found]
        print_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
        return
    lines = [f"{sum(not one.problems for one in found)} of {len(found)} would run", ""]
    for one in found:
        lines += [printable(f"{one.file}: {one.metric or 'does not run'}")]
        lines += [printable(f"  {problem}") for problem in one.problems]
    print_lines(lines)


def data_lines(width: int, color: bool) -> list[str]:
    """Return the table for a terminal of that width."""
    lines: list[str] = []
    for name, row in FORMATS.items():
        suffixes = f" ({', '.join(row.suffixes)})" if row.suffixes else ""
        lines += [rule(f"{name}{suffixes}", width, color), *wrap(row.sentence, width), ""]
    return [*lines, *_preprocessing_lines(width, color)]


def _preprocessing_lines(width: int, color: bool) -> list[str]:
    """Return how images become the input of a model, with an example and the command that shows it."""
    said = (
        "Images of a folder, a list or annotations become the model's input by these settings, in a file for --config "
        "or single ones as --set preprocessing.resize=224. All keys: calib help settings. A page that shows eight "
        "samples as the network sees them: calib preview MODEL --calibration DATA"
    )
    example = [printable(shorten(line, width)) for line in EXAMPLE.splitlines()]
    return [rule("preprocessing of images", width, color), *wrap(said, width), "", *example]
