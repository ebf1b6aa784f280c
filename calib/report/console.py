"""Tables and panels for a terminal: aligned, coloured if asked, harmless whatever a name holds."""

from __future__ import annotations

from collections.abc import Sequence

from calib.report.escape import columns_of, printable, shorten

_STYLES = {"good": "32", "warning": "33", "bad": "31", "dim": "2", "bold": "1", "neutral": ""}


def paint(text: str, style: str, color: bool) -> str:
    """Return the text in a style (``good``, ``warning``, ``bad``, ``dim``, ``bold``) where colour is wanted."""
    code = _STYLES[style]
    return f"\x1b[{code}m{text}\x1b[0m" if color and code and text else text


def pad(text: str, width: int, right: bool = False) -> str:
    """Return printable text filled with spaces to ``width`` columns."""
    space = " " * max(0, width - columns_of(text))
    return space + text if right else text + space


def wrap(text: str, width: int) -> list[str]:
    """Return the text in lines of at most ``width`` columns; words longer than that are shortened in the middle."""
    lines: list[str] = []
    for word in printable(text).split(" "):
        word = shorten(word, width)
        if lines and columns_of(lines[-1]) + 1 + columns_of(word) <= width:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines or [""]


def rule(title: str, width: int, color: bool) -> str:
    """Return a line with a title in it."""
    title = shorten(printable(title), max(1, width - 6))
    line = "─" * max(0, width - columns_of(title) - 4)
    return paint("──", "dim", color) + f" {paint(title, 'bold', color)} " + paint(line, "dim", color)


def table(
    titles: Sequence[str], rows: Sequence[Sequence[str]], width: int, *, right: Sequence[int] = (), color: bool = False
) -> list[str]:
    """Return a table as lines: titles, a thin line, rows.

    Where the width is short, the last column gives way,
    then the first, unless they hold numbers (``right``).

    Args:
        titles: of the columns.
        rows: cells; printed safely.
        width: columns of the terminal.
        right: indices of the columns aligned to the right.
        color: whether escapes may be used.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max([columns_of(title), *(columns_of(row[i]) for row in cells)]) for i, title in enumerate(titles)]
    for column in (len(widths) - 1, 0):
        excess = sum(widths) + 2 * (len(widths) - 1) - width
        if column not in right:
            widths[column] = max(min(widths[column], 10), widths[column] - max(0, excess))

    def line(row: Sequence[str]) -> str:
        fitted = [pad(shorten(cell, w), w, i in right) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        return "  ".join(fitted).rstrip()

    head = paint(line(titles), "dim", color)
    return [head, paint("─" * min(width, sum(widths) + 2 * (len(widths) - 1)), "dim", color), *map(line, cells)]
