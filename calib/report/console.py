"""Tables and panels for a terminal: aligned, coloured on request, and safe whatever names contain."""

from __future__ import annotations

from collections.abc import Sequence

from calib.report.escape import columns_of, printable, shorten

_STYLES = {"good": "32", "warning": "33", "bad": "31", "dim": "2", "bold": "1", "neutral": ""}


_READABLE = 24  # columns that a sentence needs at least to be read in lines


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

    Empty columns are left out. If the table is too wide, the last column wraps or moves below its row, and the first is
    shortened in the middle, unless they hold numbers (``right``).

    Args:
        titles: Titles of the columns.
        rows: Rows of cells; unprintable characters are escaped.
        width: Columns of the terminal.
        right: Indices of the columns that are aligned to the right.
        color: Whether terminal escapes may be used.
    """
    used = [i for i in range(len(titles)) if not rows or any(row[i] for row in rows)]
    cells = [[printable(row[i]) for i in used] for row in rows]
    titles, right = [titles[i] for i in used], [place for place, i in enumerate(used) if i in right]
    widths = [max([columns_of(title), *(columns_of(row[i]) for row in cells)]) for i, title in enumerate(titles)]
    last = len(widths) - 1
    needed = sum(widths[:last]) + 2 * last + min(widths[last], _READABLE)
    below = needed > width and last > 1 and last not in right
    shown = last - 1 if below else last  # the last column that stands beside the others
    for column, least in ((shown, _READABLE), (0, 20), (1, 8), (0, 10), (shown, 10)):
        excess = sum(widths[: shown + 1]) + 2 * shown - width
        if column <= shown and column not in right:
            widths[column] = max(min(widths[column], least), widths[column] - max(0, excess))

    def line(row: Sequence[str]) -> str:
        fitted = [pad(shorten(cell, w), w, i in right) for i, (cell, w) in enumerate(zip(row, widths, strict=False))]
        return "  ".join(fitted).rstrip()

    def lines(row: Sequence[str]) -> list[str]:
        parts = [row[shown]] if shown in right else wrap(row[shown], widths[shown])
        under = ["    " + part for part in wrap(row[last], width - 4)] if below and row[last] else []
        return [line([*row[:shown], parts[0]]), *(line([*[""] * shown, part]) for part in parts[1:]), *under]

    head = paint(line(titles[: shown + 1]), "dim", color)
    thin = paint("─" * min(width, sum(widths[: shown + 1]) + 2 * shown), "dim", color)
    return [head, thin, *(part for row in cells for part in lines(row))]
