"""Shared by several commands: settings as flags, and how results and progress reach the terminal."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import click
from pydantic import BaseModel

from calib.cli import Verbosity
from calib.config import Settings
from calib.config.efforts import EFFORTS
from calib.errors import OutputError, UsageError
from calib.progress import Progress, silent
from calib.progress_shown import shown
from calib.runtime.crash import noted

if TYPE_CHECKING:
    from calib.accuracy_check.inputs import CheckedInputs

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_METAVARS = {
    "decode": "NAME",
    "ignore": "PATTERN",
    "max_drop": "DROP",
    "memory_limit": "SIZE",
    "metric": "NAME",
    "time_limit": "TIME",
}
_SWITCHES = {"higher_is_better": "--higher-is-better/--lower-is-better"}  # --NAME/--no-NAME for all others


class _Table(click.ParamType):
    """Text whose choices are loaded for ``--help`` only; it is checked with all the other settings."""

    name = "text"

    def __init__(self, choices: Callable[[], Sequence[str]]):
        self._choices = choices

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return the choices as ``[a|b|c]``."""
        return f"[{'|'.join(self._choices())}]"


def setting_flags(*names: str) -> Decorator:
    """Return a decorator that adds a flag for each setting, with the description and default in ``Settings``.

    The values stay text: they are checked with those of ``--set`` and ``--config``, and all mistakes come at once.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed(names):
            function = _flag(name)(function)
        return function

    return decorate


def typed(ctx: click.Context, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given on the command line, whatever their value; ``--no-speed`` counts too."""
    line = click.core.ParameterSource.COMMANDLINE
    return {name: value for name, value in options.items() if ctx.get_parameter_source(name) is line}


def source_flags(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--config`` and ``--set``."""
    function = click.option(
        "--set", "sets", metavar="KEY=VALUE", multiple=True, help="Set any setting; VALUE is YAML."
    )(function)
    return click.option(
        "--config", metavar="FILE", help="File of settings in YAML or JSON; see 'calib help settings'."
    )(function)


def accuracy_check_flags(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags that name an Accuracy Checker configuration and its data."""
    for name, metavar, text in reversed(_ACCURACY_CHECK):
        function = click.option(name, metavar=metavar, help=text)(function)
    return function


_ACCURACY_CHECK = (
    (
        "--accuracy-check",
        "FILE",
        "Accuracy Checker configuration (accuracy-check.yml) that gives data and metric; --metric "
        "chooses one of its metrics, or several by their names.",
    ),
    ("--definitions", "FILE", "Its dataset_definitions.yml, which describes the data sets that FILE names."),
    ("--source", "DIR", "Folder of the data sets that --accuracy-check names."),
    ("--annotations", "DIR", "Folder of their annotation files, if they are not below --source."),
)


def checked_inputs(options: dict[str, Any], metric: Any) -> CheckedInputs | None:
    """Take the flags of an Accuracy Checker configuration out of ``options``; return data and metric, None without.

    Raises:
        UsageError: Flags are missing, or given without the configuration.
    """
    names = [name.removeprefix("--").replace("-", "_") for name, _, _ in _ACCURACY_CHECK]
    file, definitions, source, annotations = (options.pop(name, None) for name in names)
    if file is None:
        if any(one is not None for one in (definitions, source, annotations)):
            raise UsageError("--definitions, --source and --annotations go with --accuracy-check FILE")
        return None
    if source is None:
        raise UsageError("--accuracy-check needs --source DIR, the folder of the data sets")
    from calib.accuracy_check.inputs import read_accuracy_check  # here: few runs have one

    return read_accuracy_check(
        file, source=source, definitions=definitions, annotations=annotations, metric=metric or ""
    )


def python_flag(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--allow-python``."""
    return click.option(
        "--allow-python/--no-allow-python",
        default=None,
        help="Whether python:module:function may run. By default an argument may, and --config may not.",
    )(function)


def extension_flags(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--extension`` and ``--allow-extension``; not given, they have no say."""
    function = click.option(
        "--allow-extension",
        is_flag=True,
        default=None,
        help="Allow --config, a report or a manifest to name libraries of operations, whose code runs.",
    )(function)
    return click.option(
        "--extension",
        "extensions",
        metavar="LIBRARY",
        multiple=True,
        callback=lambda _, __, given: given or None,
        help="Library with operations of your own (an OpenVINO extension) that the model needs.",
    )(function)


def json_flag(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout and nothing else.")(function)


def verbose_flag(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--verbose``."""
    text = "Print everything that report.html shows in words: reasons, recipes, corrections, how to reproduce the run."
    return click.option("-v", "--verbose", is_flag=True, help=text)(function)


def print_json(value: BaseModel) -> None:
    """Print a value exactly as it is written to a file."""
    from calib.report.json_report import to_json

    print_text(to_json(value) + "\n")


def print_lines(lines: Sequence[str]) -> None:
    """Print lines that are already printable."""
    print_text("\n".join(lines) + "\n")


def print_text(text: str) -> None:
    """Write printable text to stdout.

    Raises:
        OutputError: It can't be written; a closed pipe is left to click, which ends the command quietly.
    """
    try:
        click.echo(text, nl=False)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"stdout can't be written: {error.strerror or error}. Send it to another place") from error


def width() -> int:
    """Return the columns of the terminal, 100 where there is none."""
    return shutil.get_terminal_size((100, 24)).columns


def color() -> bool:
    """Return whether stdout shows colours and ``NO_COLOR`` is not set (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def progress(ctx: click.Context) -> Progress:
    """Return what shows progress on stderr, silent with ``--quiet``; each stage is noted for the message on a crash."""
    return noted(silent if quiet(ctx) else shown())


def quiet(ctx: click.Context) -> bool:
    """Return whether ``--quiet`` is given."""
    verbosity = ctx.find_object(Verbosity)
    return bool(verbosity and verbosity.quiet)


def remark(ctx: click.Context, text: str) -> None:
    """Write a remark to stderr, unless ``--quiet`` is given. The text must be printable."""
    if not quiet(ctx):
        click.echo(text, err=True)


def _flag(name: str) -> Decorator:
    field = Settings.model_fields[name]
    flag = "--" + name.replace("_", "-")
    text = f"{(field.description or '')[:1].upper()}{(field.description or '')[1:]}."
    if bool in (field.annotation, *get_args(field.annotation)):
        switch = _SWITCHES.get(name, f"{flag}/--no-{flag.removeprefix('--')}")
        return click.option(switch, name, default=None, help=text)
    if field.default not in (None, "", (), 0.0):
        text += f" [default: {field.default}]"
    if name == "estimator":
        return click.option(flag, name, type=_Table(_estimators), help=text)
    choices = list(EFFORTS) if name == "effort" else _literals(field.annotation)
    metavar = f"[{'|'.join(choices)}]" if choices else _METAVARS.get(name, "NUMBER")
    return click.option(flag, name, metavar=metavar, multiple=name == "ignore", help=text)


def _literals(annotation: Any) -> list[str]:
    """Return the choices of ``Literal[…]`` or ``Literal[…] | None``."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [choice for part in get_args(annotation) for choice in _literals(part)]


def _estimators() -> list[str]:
    from calib.ranges import ESTIMATORS  # here: only --help needs them

    return list(ESTIMATORS)
