"""``calib help``: topics, each written from the tables and docstrings that the code itself goes by.

``TOPICS`` is the whole table. A topic says nothing of its own beside titles: what it explains stands in one place.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
from pydantic import BaseModel

from calib.cli import COMMANDS, EXIT_CODES
from calib.cli.options import color, print_lines, width
from calib.errors import UsageError
from calib.report.console import rule, table, wrap
from calib.report.escape import shorten

_ITEM = re.compile(r"(\d+\. |[-*•] |[\w*]+:( |$))")  # how an item starts: of a list, or of a section such as Args


@dataclass(frozen=True)
class Topic:
    """One row of the table.

    Attributes:
        summary: Summary for the list of topics.
        lines: Function from the columns of the terminal, and whether colours may be used, to the text.
    """

    summary: str
    lines: Callable[[int, bool], Sequence[str]]


@click.command(short_help="Explain a topic or a command.")
@click.argument("topic", required=False)
@click.pass_context
def command(ctx: click.Context, topic: str | None) -> None:
    """Explain TOPIC, which may be a command too; without one list the topics."""
    if topic in TOPICS:
        print_lines(TOPICS[topic].lines(width(), color()))
    elif topic in COMMANDS:
        print_lines([_help_of(ctx, topic)])
    elif topic is None:
        rows = [(name, row.summary) for name, row in TOPICS.items()]
        more = "calib help TOPIC explains one of these; calib help COMMAND or calib COMMAND --help a command."
        print_lines([*table(("topic", "explains"), rows, width(), color=color()), "", *wrap(more, width())])
    else:
        raise UsageError(f"there is no help on {topic!r}{_nearest(topic)}; 'calib help' lists the topics")


def _nearest(topic: str) -> str:
    near = difflib.get_close_matches(topic.lower().replace("_", "-"), [*TOPICS, *COMMANDS], 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _help_of(ctx: click.Context, name: str) -> str:
    parent = ctx.parent
    assert parent is not None and isinstance(parent.command, click.Group)  # ``calib`` itself
    found = parent.command.get_command(parent, name)
    assert found is not None
    return found.get_help(click.Context(found, info_name=name, parent=parent))


def plain(text: str) -> str:
    """Return a piece of a docstring without its marks: roles and backticks."""
    return re.sub(r":\w+:`~?([^`]+)`", r"\1", text).replace("``", "").replace("`", "")


def first_line(documented: object) -> str:
    """Return the first line of an object's docstring, as plain text."""
    return plain((inspect.getdoc(documented) or "").partition("\n")[0])


def _of_this(documented: object) -> str:
    """Return the first line of an object's docstring with the object's own attributes in place of their names."""
    line = (inspect.getdoc(documented) or "").partition("\n")[0]
    own = vars(documented)
    return plain(re.sub(r"``(\w+)``", lambda name: f"{own.get(name[1], name[1])}", line))


def reflow(text: str, width: int) -> list[str]:
    """Return a docstring, or paragraphs of one, as plain lines of at most ``width`` columns.

    Paragraphs, lists and the sections of Google's style keep their indentation; lines of a paragraph are joined.
    """
    blocks: list[tuple[int, str]] = []  # columns of indentation, text; an empty line is an empty block
    for line in inspect.cleandoc(text).splitlines():
        indent, content = len(line) - len(line.lstrip()), plain(line.strip())
        at, before = blocks[-1] if blocks else (0, "")
        goes_on = before and content and not before.endswith(":") and indent >= at
        if goes_on and (indent > at or not _ITEM.match(content)):
            blocks[-1] = (at, f"{before} {content}")
        else:
            blocks.append((indent, content))
    lines: list[str] = []
    for indent, content in blocks:
        item = _ITEM.match(content)
        mark = len(item[0]) if item else 0  # of a numbered item; the others are named, and go on further in
        lines += _hung(" " * indent, content, width, 0 if not item else mark if content[:1].isdigit() else 4)
    return lines


def _estimators(width: int, color: bool) -> list[str]:
    from calib.ranges import ESTIMATORS  # here and below: each topic loads only what it is made from

    rows = [(name, _of_this(estimator)) for name, estimator in ESTIMATORS.items()]
    return table(("estimator", "chooses"), rows, width, color=color)


def _metrics(width: int, color: bool) -> list[str]:
    from calib.cli.metrics import metric_lines

    return metric_lines(width, color)


def _decoders(width: int, color: bool) -> list[str]:
    from calib.cli.decoders import decoder_lines

    return decoder_lines(width, color)


def _data(width: int, color: bool) -> list[str]:
    from calib.cli.data import data_lines

    return data_lines(width, color)


def _efforts(width: int, color: bool) -> list[str]:
    from calib.config import Settings
    from calib.config.efforts import EFFORTS
    from calib.corrections import CORRECTIONS
    from calib.ranges import ESTIMATORS

    lines: list[str] = []
    for name, effort in EFFORTS.items():
        tried = [f"{row} (best {found.tried_on[name]})" for row, found in CORRECTIONS.items() if name in found.tried_on]
        estimators = list(ESTIMATORS) if effort.every_estimator else effort.estimators
        facts = {
            "estimators": ", ".join(estimators),
            "corrections": ", ".join(tried),
            "learnt from": f"{effort.samples} samples" if effort.samples else "",
            "scored on": f"{effort.held_out} held-out samples at most" if effort.held_out else "",
        }
        default = " (default)" if name == Settings.model_fields["effort"].default else ""
        lines += [rule(f"{name}{default}", width, color), *wrap(effort.does, width)]
        lines += [part for title, said in facts.items() if said for part in _hung(f"  {title:<13}", said, width)]
        lines.append("")
    return lines[:-1]


def _corrections(width: int, color: bool) -> list[str]:
    from calib import corrections

    rows = [
        (
            name,
            ", ".join(f"{effort}: best {count}" for effort, count in row.tried_on.items()),
            first_line(importlib.import_module(row.module)),
        )
        for name, row in corrections.CORRECTIONS.items()
    ]
    found = table(("correction", "tried on", "does"), rows, width, color=color)
    return [*found, "", *reflow(corrections.__doc__ or "", width)]


def _operations(width: int, color: bool) -> list[str]:
    from calib.graph.layers import LAYERS
    from calib.graph.operations import LEFT_ALONE, RECURRENT, WRITTEN_OUT
    from calib.graph.recurrent import BOTH_WAYS, CAN, IN_FLOAT, LATE_RESET

    rows = [(name, _runs_in(rule.never, rule.unless_positive)) for name, rule in LAYERS.items()]
    rows += [(name, _as_matmuls(map(str, refusals.values()))) for name, refusals in WRITTEN_OUT.items()]
    measured = "INT8 where its error over whole held-out sequences allows that; floating point where "
    recurrent = measured + f"{LATE_RESET}, or {BOTH_WAYS}"
    rows += [(name, recurrent if name in CAN else _runs_in(never=IN_FLOAT)) for name in RECURRENT]
    rows += [(name, _runs_in(never=reason)) for name, reason in LEFT_ALONE.items()]
    return table(("operation", "runs in"), rows, width, color=color)


def _ignore(width: int, _: bool) -> list[str]:
    from calib.graph import ignored

    return reflow(inspect.getdoc(ignored) or "", width)


def _as_matmuls(refusals: Iterable[str]) -> str:
    return f"INT8, written out as MatMuls; floating point where {', or '.join(refusals)}"


def _runs_in(never: str = "", unless_positive: str = "") -> str:
    if never:
        return f"floating point: {never}"
    return f"INT8, or floating point: {unless_positive}" if unless_positive else "INT8"


def _settings(width: int, color: bool) -> list[str]:
    from calib.config import Preprocessing, Settings, resolve

    precedence = inspect.getdoc(inspect.getmodule(resolve)) or ""
    return [
        *reflow(precedence.split("\n\n")[1], width),
        "",
        *_fields(Settings, width, color),
        "",
        rule("preprocessing", width, color),
        *reflow(first_line(Preprocessing), width),
        "",
        *_fields(Preprocessing, width, color),
    ]


def _manifest(width: int, color: bool) -> list[str]:
    from calib.config import Settings
    from calib.zoo import manifest

    blocks = {"manifest": manifest.Manifest, "sources": manifest.Source, "defaults": manifest.Defaults}
    lines = [rule("example", width, color), *(shorten(line, width) for line in manifest.EXAMPLE.splitlines()), ""]
    for name, model in {**blocks, "overrides": manifest.Override, "resources": manifest.Resources}.items():
        inherited: Any = model.__mro__[1]
        lines += [rule(name, width, color), *wrap(first_line(model), width), ""]
        lines += [*_fields(model, width, color, but=inherited.model_fields), ""]
        if issubclass(model, Settings):
            lines[-1:] = ["", *wrap("Beside these, every key of 'calib help settings'.", width), ""]
    return lines[:-1]


def _fields(model: Any, width: int, color: bool, but: Collection[str] = ()) -> list[str]:
    """Return the described fields of a pydantic model as a table."""
    rows = [
        (name, "" if field.is_required() else _default(field.default), said)
        for name, field in model.model_fields.items()
        if (said := field.description) and name not in but
    ]
    return table(("key", "default", "meaning"), rows, width, color=color)


def _default(value: Any) -> str:
    """Return a default as text; "" for none, and for a block of keys, which has a table of its own."""
    return "" if isinstance(value, BaseModel) or value in (None, "", (), {}, []) else str(value)


def _errors(width: int, color: bool) -> list[str]:
    from calib import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.CalibError)]
    rows = [("  " * (len(kind.__mro__) - 4) + kind.__name__, str(kind.exit_code), first_line(kind)) for kind in kinds]
    last = (errors.__doc__ or "").rstrip().rpartition("\n\n")[2]
    return [*table(("error", "exit code", "when"), rows, width, right=(1,), color=color), "", *reflow(last, width)]


def _exit_codes(width: int, color: bool) -> list[str]:
    rows = [line.split(maxsplit=1) for line in EXIT_CODES.splitlines() if line.startswith("  ")]
    return table(("code", "means"), rows, width, color=color)


def _extras(width: int, color: bool) -> list[str]:
    from calib.values.distribution import USES, extras, version

    known = extras()
    lines = wrap("What calib can use if it is installed; the command or metric that needs it says so, too.", width)
    for extra, use in USES.items():
        rows = [(wanted, version(name) or "not installed") for name, wanted in known.get(extra, {}).items()]
        lines += ["", rule(extra, width, color), *wrap(f"For {use}.", width), ""]
        lines += table(("package, as pip takes it", "installed"), rows, width, color=color)
    return lines


def _search(width: int, _: bool) -> list[str]:
    from calib.accuracy import search

    return reflow(inspect.getdoc(search) or "", width)


def _python(width: int, color: bool) -> list[str]:
    import calib

    names = [name for name in calib.PUBLIC if not name.endswith("Error")]
    rows = [(name, first_line(value) if callable(value := getattr(calib, name)) else _kind(value)) for name in names]
    listed = table(("calib.", "is"), rows, width, color=color)
    return [*listed, "", rule("calib.quantize", width, color), *reflow(inspect.getdoc(calib.quantize) or "", width)]


def _kind(value: Mapping[str, object]) -> str:
    """Return what stands for a table, which has no docstring."""
    return f"A table of {', '.join(value)}."


def _hung(start: str, text: str, width: int, further: int = 0) -> list[str]:
    """Return a text whose lines stand under its first one, or further to the right."""
    space = " " * (len(start) + further)
    first, *_ = wrap(text, width - len(start))
    rest = text.split(" ")[len(first.split(" ")) :]
    return [(start + first).rstrip(), *(space + part for part in wrap(" ".join(rest), width - len(space)) if part)]


TOPICS: dict[str, Topic] = {
    "settings": Topic("every setting, its default, and which source wins", _settings),
    "efforts": Topic("what --effort does", _efforts),
    "estimators": Topic("how ranges can be chosen: --estimator", _estimators),
    "corrections": Topic("what is tried before a layer is given up", _corrections),
    "search": Topic("how a budget is kept: --max-drop", _search),
    "metrics": Topic("what can be measured: --metric", _metrics),
    "decoders": Topic("how outputs become boxes, class maps and texts: --decode", _decoders),
    "data": Topic("how samples are given: DATA", _data),
    "operations": Topic("which operations run in INT8, and why others do not", _operations),
    "ignore": Topic("what can be left in floating point: --ignore", _ignore),
    "manifest": Topic("what the file of 'calib zoo' holds", _manifest),
    "python": Topic("the public names of the package, and calib.quantize", _python),
    "errors": Topic("the kinds of errors", _errors),
    "exit-codes": Topic("what a command ends with", _exit_codes),
    "extras": Topic("optional packages", _extras),
}
