"""The report in a terminal: what a person reads when ``calib quantize`` is done."""

from __future__ import annotations

import shlex

from calib.report import digest, numbers
from calib.report.console import pad, paint, rule, table, wrap
from calib.report.escape import columns_of, printable, shorten
from calib.values.facts import Report

_MARKS = {"good": "✔", "warning": "!", "bad": "✘", "neutral": "•"}
_NAME_WIDTH = 10
_MOST_REASONS = 6
_MOST_SLOWER = 5


def render_text(report: Report, width: int = 100, color: bool = False, *, verbose: bool = True) -> str:
    """Return the final table.

    Args:
        report: Report of the run.
        width: Columns of the terminal, at least 40; more than 120 are not used.
        color: Whether terminal escapes may be used for colours. Escapes in text from the model are never printed.
        verbose: Whether to say everything; if not, it ends with the three sentences that matter most, and names what is
            left out.
    """
    width = min(max(width, 40), 120)
    lines = [*_headline(report, width, color), ""]
    for fact in digest.facts(report):
        lines += _fact(fact, width, color)
    if not verbose:
        return "\n".join(lines + _short(report, width, color)) + "\n"
    for section in (_floating, _slower, _corrections, _candidates, _search, _notes, _reproduce):
        if part := section(report, width, color):
            lines += ["", *part]
    return "\n".join(lines) + "\n"


def _headline(report: Report, width: int, color: bool) -> list[str]:
    tone, words = digest.headline(report)
    mark = f"{_MARKS[tone]} {words}"
    name = shorten(printable(report.model.name), max(8, width - 6 - columns_of(mark) - 2))
    gap = width - 4 - columns_of(mark) - columns_of(name)
    inside = paint(mark, tone, color) + " " * max(2, gap) + paint(name, "bold", color)
    edge = [paint(text, "dim", color) for text in (f"╭{'─' * (width - 2)}╮", "│", f"╰{'─' * (width - 2)}╯")]
    return [edge[0], f"{edge[1]} {inside} {edge[1]}", edge[2]]


def _fact(fact: digest.Fact, width: int, color: bool) -> list[str]:
    name = pad(shorten(printable(fact.name), _NAME_WIDTH), _NAME_WIDTH)
    value = paint(pad(printable(fact.value), 24), fact.tone, color)
    start = f"  {paint(name, 'dim', color)}  {value}"
    if width < 70:
        return [start.rstrip(), *_hang(fact.detail, _NAME_WIDTH + 4, width, color)]
    details = wrap(fact.detail, width - _NAME_WIDTH - 30)
    hanging = [" " * (_NAME_WIDTH + 30) + line for line in details[1:]]
    return [f"{start}  {details[0]}".rstrip(), *hanging]


def _hang(text: str, indent: int, width: int, color: bool) -> list[str]:
    return [" " * indent + paint(line, "dim", color) for line in wrap(text, width - indent)] if text else []


def _floating(report: Report, width: int, color: bool) -> list[str]:
    reasons = digest.float_reasons(report)
    if not reasons:
        return []
    lines = [rule("kept in floating point", width, color)]
    for reason, count in reasons[:_MOST_REASONS]:
        first, *rest = wrap(reason, width - 8)
        lines += [f"  {count:>4}  {first}", *(" " * 8 + line for line in rest)]
    if len(reasons) > _MOST_REASONS:
        others = sum(count for _, count in reasons[_MOST_REASONS:])
        lines.append(f"  {others:>4}  for {numbers.plural(len(reasons) - _MOST_REASONS, 'other reason')}")
    return lines


def _slower(report: Report, width: int, color: bool) -> list[str]:
    late = digest.slower(report)
    if not late:
        return []
    rows = [
        [layer.name, numbers.microseconds(digest.float_ms(layer)), numbers.microseconds(layer.time_int8_ms)]
        for layer in late[:_MOST_SLOWER]
    ]
    lines = [
        rule("slower in INT8", width, color),
        *_indent(table(["layer", "float", "INT8"], rows, width - 2, right=(1, 2), color=color)),
    ]
    if len(late) > _MOST_SLOWER:
        lines.append(f"  … and {len(late) - _MOST_SLOWER} more")
    return lines


def _corrections(report: Report, width: int, color: bool) -> list[str]:
    rows = [[name, f"{kept} of {tried}"] for name, kept, tried in digest.corrections(report)]
    if not rows:
        return []
    titles = ["correction", "kept on layers"]
    return [rule("corrections", width, color), *_indent(table(titles, rows, width - 2, right=(1,), color=color))]


def _candidates(report: Report, width: int, color: bool) -> list[str]:
    if not report.candidates:
        return []
    rows = [[f"{'▸' if c.chosen else ' '} {c.name}", numbers.decibel(c.sqnr_db), c.detail] for c in report.candidates]
    lines = table(["recipe", "held-out SQNR", "detail"], rows, width - 2, right=(1,), color=color)
    return [rule("recipes compared", width, color), *_indent(lines)]


def _search(report: Report, width: int, color: bool) -> list[str]:
    accuracy = report.accuracy
    if not report.search or not accuracy:
        return []
    ran = f", {numbers.plural(accuracy.images_evaluated, 'inference')}" if accuracy.images_evaluated else ""
    words = (
        f"{numbers.plural(len(report.search), 'evaluation')}, {numbers.plural(accuracy.compilations, 'compilation')}"
        f"{ran}; in the end "
        f"{numbers.plural(sum(layer.reverted for layer in report.layers), 'layer')} reverted"
    )
    return [rule("search", width, color), *_indent(wrap(words, width - 2))]


def _short(report: Report, width: int, color: bool) -> list[str]:
    """Return the sentences that matter most, and a line on what else is known."""
    first, others = digest.to_know(report)
    kept = sum(count for _, count in digest.float_reasons(report))
    late = len(digest.slower(report))
    more = [
        numbers.plural(len(others), "more remark") if others else "",
        f"why {numbers.plural(kept, 'layer')} stayed in floating point" if kept else "",
        f"{numbers.plural(late, 'layer')} slower in INT8" if late else "",
        "recipes" if report.candidates else "",
        "how to reproduce it" if report.reproduce else "",
    ]
    known = ", ".join(filter(None, more))
    lines = ["", *_sentences(first, width, color)] if first else []
    if known:
        lines += [
            "",
            *(paint(line, "dim", color) for line in wrap(f"More with --verbose, and in report.html: {known}", width)),
        ]
    return lines


def _notes(report: Report, width: int, color: bool) -> list[str]:
    first, others = digest.to_know(report)
    return _sentences([*first, *others], width, color)


def _sentences(notes: list[str], width: int, color: bool) -> list[str]:
    lines: list[str] = []
    for note in notes:
        first, *rest = wrap(note, width - 4)
        lines += [f"{paint('▪', 'warning', color)} {first}", *("  " + line for line in rest)]
    return [rule("to know", width, color), *_indent(lines)] if lines else []


def _reproduce(report: Report, width: int, color: bool) -> list[str]:
    if report.reproduce is None:
        return []
    lines = [""]
    for word in shlex.split(report.reproduce.command):
        quoted = printable(shlex.quote(word))
        if lines[-1] and len(lines[-1]) + len(quoted) > width - 5:
            lines[-1] += " \\"  # a shell joins the lines again
            lines.append(" ")
        lines[-1] += f" {quoted}" if lines[-1] else quoted
    return [rule("to reproduce", width, color), *_indent(lines)]


def _indent(lines: list[str]) -> list[str]:
    return ["  " + line for line in lines]
