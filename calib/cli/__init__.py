"""The command line: one file a command, loaded only when it is called.

``COMMANDS`` is the whole table; a new command is a module with a click command named ``command`` and a row here. A
command reads its options, calls one function of the package and prints what that returns; it decides nothing else.
This file imports nothing but click, so that ``calib --help`` answers at once.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click

from calib.errors import CalibError, one_line
from calib.report.escape import printable
from calib.values.version import __version__

COMMANDS: dict[str, tuple[str, str]] = {
    "quantize": ("calib.cli.quantize", "Quantize a model to INT8 under an accuracy budget."),
    "inspect": ("calib.cli.inspect", "Show which layers would be quantized, which would not, and why."),
    "preview": ("calib.cli.preview", "Show a few samples as the network sees them, with its answers."),
    "evaluate": ("calib.cli.evaluate", "Measure a model with a metric on a validation dataset."),
    "verify": ("calib.cli.verify", "Check a written model where it will run: file, precisions, drop, speed."),
    "report": ("calib.cli.report", "Write the HTML report of a run."),
    "export": ("calib.cli.export", "Pack a result into one zip file: model, plan, report, a program to run it."),
    "compare": ("calib.cli.compare", "Compare two models layer by layer: error, precision, time."),
    "bench": ("calib.cli.bench", "Measure latency and throughput of several models."),
    "zoo": ("calib.cli.zoo", "Quantize hundreds of models from one manifest."),
    "studio": ("calib.cli.studio", "Do all of this in a local page, live."),
    "demo": ("calib.cli.demo", "Quantize a shipped model with shipped data."),
    "data": ("calib.cli.data", "List the data formats."),
    "metrics": ("calib.cli.metrics", "List the metrics."),
    "schema": ("calib.cli.schema", "Print the JSON Schema of a config file, report or manifest."),
    "doctor": ("calib.cli.doctor", "Show what this machine can run: CPU features, precision, extras."),
    "help": ("calib.cli.help", "Explain a topic: settings, efforts, estimators, exit-codes, …"),
}

# What loads a model: a process of its own says where OpenVINO crashed. A zoo's workers are processes of their own.
WATCHED = ("quantize", "inspect", "preview", "evaluate", "compare", "bench", "demo", "doctor")

EXIT_CODES = """\b
Exit codes:
  0  success
  1  error
  2  wrong usage or configuration
  3  budget missed (the best model is written), or a promise broken (verify)
  4  some jobs of the zoo failed
  5  an optional package is not installed
  130  interrupted (Ctrl-C or SIGTERM)
  139  a crash inside OpenVINO; the message names the stage and ways round it
"""

BUDGET_MISSED = 3
INTERRUPTED = 130


_DEBUG = (["--debug"], "Show the traceback of an error.")
_QUIET = (["-q", "--quiet"], "Show no progress and no remarks on stderr.")


@dataclass
class Verbosity:
    """Values of the global options; kept in ``ctx.obj``."""

    debug: bool = False
    quiet: bool = False


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, and whose errors become exit codes."""

    def __call__(self, *args: Any, **extra: Any) -> Any:
        """Run as a program, which tests and other programs that call ``main.main()`` do not."""
        command = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), "")
        if command in WATCHED:
            from calib.runtime.crash import watched

            watched(command)
        try:
            return super().__call__(*args, **extra)
        except BrokenPipeError:
            raise
        except OSError as error:  # help is printed before there is a context to fail in
            click.echo(f"error: {printable(_what_the_system_said(error))}", err=True)
            sys.exit(1)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module and return its ``command``; None if there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name][0]).command
        _accept_verbosity(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first argument names; the nearest right spelling is said where there is none."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), 1)
            from calib.cli.help import TOPICS  # here: only a mistake needs it

            topic = f"calib help {args[0]} explains it." if args[0] in TOPICS else ""
            others = f"Did you mean {near[0]}?" if near else f"There are {', '.join(self.list_commands(ctx))}."
            hint = topic or others
            raise click.UsageError(f"No such command {args[0]!r}. {hint}", ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse an empty argument, which would be a path to the current folder."""
        for before, argument in zip(("", *args), args, strict=False):
            empty = before if not argument else argument[:-1] if re.fullmatch("--[a-z-]+=", argument) else None
            if empty is not None:
                where = f" after {empty}" if empty.startswith("-") else f" after {empty!r}" if empty else ""
                raise click.UsageError(f"An argument{where} is empty. Was a variable of the shell not set?", ctx)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn every way it can end into a message and an exit code."""
        try:
            with _sigterm_interrupts():
                result = super().invoke(ctx)
                sys.stdout.flush()  # here a closed pipe is still an error that click handles quietly
                return result
        except CalibError as error:
            _fail(ctx, error.exit_code, *error.lines)
        except MemoryError as error:
            what = f"there was not enough memory{f' ({error})' if str(error) else ''}"
            _fail(ctx, 1, f"{what}. Free some, or use less: fewer --samples, or --threads 1")
        except KeyboardInterrupt:
            _fail(ctx, INTERRUPTED, "interrupted")
        except SystemExit as error:  # nothing of calib's ends a command so; a metric or data source of the user's did
            _fail(
                ctx,
                1,
                f"code of a metric or data source called sys.exit({error.code!r}); let it raise an error instead",
            )
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise
        except OSError as error:
            _fail(ctx, 1, _what_the_system_said(error))
        except Exception as error:
            self._unexpected(ctx, error)

    def _unexpected(self, ctx: click.Context, error: Exception) -> None:
        detail = f": {one_line(error)}" if str(error) else ""
        what = f"unexpected {type(error).__name__}{detail}"
        _fail(ctx, 1, what, "Run again with 'calib --debug …' to see where it happened.")


def _what_the_system_said(error: OSError) -> str:
    """Return the message for an error of the operating system that no step of calib has explained."""
    said = error.strerror or one_line(error) or type(error).__name__
    if error.filename is not None:
        return f"{os.fspath(error.filename)!s}: {said}. Give another path"
    try:
        os.getcwd()
    except OSError:
        return "the current folder is gone: it was deleted or moved. Change to one that exists (cd) and run again"
    return f"the system refused to read or write: {said}. Check the disk, the network and where the output goes"


def _accept_verbosity(command: click.Command) -> None:
    """Accept ``--debug`` and ``--quiet`` after a command's name too, where people look for them."""

    def note(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
        verbosity = ctx.find_object(Verbosity)
        if value and verbosity:
            setattr(verbosity, str(parameter.name), True)

    taken = {flag for parameter in command.params for flag in parameter.opts}
    for flags, text in (_DEBUG, _QUIET):
        if not taken & set(flags):
            option = click.Option(flags, is_flag=True, expose_value=False, callback=note, help=text)
            command.params.append(option)
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        _accept_verbosity(inner)


def _fail(ctx: click.Context, code: int, *lines: str) -> None:
    """Print a message on stderr, the traceback before it with ``--debug``, and exit.

    Characters that are not printable, ends of lines too, are written as escapes: names come from anywhere.
    """
    verbosity = ctx.find_object(Verbosity)
    if verbosity and verbosity.debug:
        click.echo("\n".join(map(printable, traceback.format_exc().split("\n"))), err=True)
    click.echo("error: " + "\n".join(map(printable, lines)), err=True)
    ctx.exit(code)


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM end a run the way Ctrl-C does: best model written, nothing half-written, exit 130."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # only the main thread may set signals
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@click.group(cls=LazyGroup, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(*_DEBUG[0], is_flag=True, help=_DEBUG[1])
@click.option(*_QUIET[0], is_flag=True, help=_QUIET[1])
@click.version_option(__version__, prog_name="calib")
@click.pass_context
def main(ctx: click.Context, debug: bool, quiet: bool) -> None:
    """Quantize OpenVINO models to INT8 under an accuracy budget."""
    ctx.obj = Verbosity(debug, quiet)
