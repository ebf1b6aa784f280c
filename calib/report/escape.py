"""Text from model files and data sets, made harmless for the place where it is written.

A layer may be called ``<script>alert(1)</script>``, ``ESC[2J`` or ``=HYPERLINK(…)``: each place that shows names has
its own function here. HTML itself is escaped by jinja2 (autoescape is always on).
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from typing import Any

# A spreadsheet takes a cell that starts with one of these for a formula (OWASP, "CSV Injection").
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

_SURROGATE = re.compile("[\ud800-\udfff]")

_MARKDOWN_SPECIAL = frozenset("\\`*_{}[]()<>#+-!|~&")


def printable(text: str) -> str:
    r"""Return the text with everything that a terminal could obey written out as an escape.

    Control characters, line ends, bidirectional overrides, zero-width characters and lone surrogates become
    ``\x1b``, ``\n``, ``\u202e`` and so on; everything visible stays as it is.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def json_for_script(value: Any) -> str:
    r"""Return JSON that can stand inside ``<script type="application/json">`` and can't end it.

    ``<``, ``>``, ``&`` and the line separators U+2028/U+2029 are written as ``\uXXXX``. NaN becomes null, and infinite
    numbers become the strings ``"Infinity"`` and ``"-Infinity"``, which JavaScript's ``Number()`` reads back.
    """
    text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # A lone surrogate can't be written as UTF-8; JSON can carry it as an escape.
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def csv_cell(value: str) -> str:
    """Return a text cell that no spreadsheet takes for a formula (a leading apostrophe marks it as text)."""
    return "'" + value if value.startswith(_FORMULA_STARTS) else value


def markdown_cell(value: str) -> str:
    """Return the text as it has to stand in a cell of a Markdown table to be read as itself."""
    return "".join("\\" + c if c in _MARKDOWN_SPECIAL else c for c in printable(value))


def columns_of(text: str) -> int:
    """Return how many columns a terminal needs for printable text (East Asian wide characters take two)."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def shorten(text: str, width: int) -> str:
    """Return the text in at most ``width`` columns: the middle makes room for ``…``.

    Layer names share their beginnings (scopes), so more is kept of the end.
    """
    if columns_of(text) <= width:
        return text
    if width <= 1:
        return "…"[:width]
    head = (width - 1) // 3
    return _at_most(text, head) + "…" + _at_most(text[::-1], width - 1 - head)[::-1]


def _at_most(text: str, width: int) -> str:
    used, kept = 0, []
    for character in text:
        used += columns_of(character)
        if used > width:
            break
        kept.append(character)
    return "".join(kept)


def _finite(value: Any) -> Any:
    """Return the value with NaN and infinities replaced as ``json_for_script`` says."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
