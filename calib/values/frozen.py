"""Base classes of what calib finds and writes as JSON, and the version of these documents.

Results are short where Python prints them: a line as their ``repr``, and a small table in a notebook.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 2
MOST_ROWS = 12  # of a table in a notebook; the rest is in the fields


class Frozen(BaseModel):
    """Base class of all facts."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Shown(Frozen):
    """Base class of the results that people get in Python: short where they are printed, everything in their fields."""

    def _said(self) -> str:
        """Return what was found, in a line."""
        raise NotImplementedError

    def _rows(self) -> Sequence[tuple[str, ...]]:
        """Return the rows of the table, the titles first; empty for no table."""
        return ()

    def _remarks(self) -> Sequence[str]:
        """Return the sentences below the table."""
        return getattr(self, "notes", ())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {_plain(self._said())}>"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """Return the summary for a notebook; names from models are escaped."""
        titles, *rows = self._rows() or ((),)
        left = len(rows) - MOST_ROWS
        cells = [_row("th", titles), *(_row("td", row) for row in rows[:MOST_ROWS])]
        more = f"<p>and {left} more</p>" if left > 0 else ""
        table = f"<table>{''.join(cells)}</table>{more}" if rows else ""
        notes = "".join(f"<li>{_text(note)}</li>" for note in self._remarks())
        return f"<div><strong>{_text(self._said())}</strong>{table}{f'<ul>{notes}</ul>' if notes else ''}</div>"


def counted(count: int, word: str) -> str:
    """Return ``1 layer`` or ``2 layers``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def decibels(value: float | None) -> str:
    """Return an SQNR; ``–`` where it is unknown."""
    return "–" if value is None else f"{value:.1f} dB".replace("inf", "∞").replace("-", "−")


def _row(tag: str, cells: Sequence[str]) -> str:
    texts = [f"<{tag} style='text-align:left'>{_text(cell)}</{tag}>" for cell in cells]
    return f"<tr>{''.join(texts)}</tr>"


def _text(text: str) -> str:
    return escape(_plain(text))


def _plain(text: str) -> str:
    """Return the text without anything that a terminal could obey."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
