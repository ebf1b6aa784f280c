"""Samples as a network sees them, as one page and as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from calib.report.console import rule, table, wrap
from calib.report.escape import printable
from calib.report.files import write_text
from calib.report.numbers import minus
from calib.report.page import render_page
from calib.report.pictures import address
from calib.values.preview import Preview, ShownInput
from calib.values.version import __version__

_BAR, _HEIGHT = 6, 40  # width of a bar and height of a chart, in pixels


def write_preview_html(found: Preview, path: str | Path) -> Path:
    """Write the page atomically and return its path.

    Raises:
        OutputError: The file can't be written.
    """
    return write_text(path, render_preview_html(found))


def render_preview_html(found: Preview) -> str:
    """Return the samples as one page without scripts."""
    return render_page(
        "preview.html.j2",
        tables={},
        scripted=False,
        title=f"{found.model} – calib preview",
        found=found,
        version=__version__,
        counted=_counted(found),
        ranges=[[one.name, number(one.low), number(one.high)] for one in found.ranges],
        address=address,
        words=range_in_words,
        bars=bars,
        bar=_BAR,
        height=_HEIGHT,
    )


def render_preview_text(found: Preview, width: int = 100, color: bool = False) -> str:
    """Return the samples for a terminal: ranges, answers, and what looks wrong."""
    lines = [rule(f"{found.model}: {_counted(found)}", width, color)]
    if found.preprocessing:
        lines += ["", *wrap("images: " + ", ".join(found.preprocessing), width)]
    titles = ("sample", "target", "values", "answer")
    rows = [
        (one.name, one.target, "; ".join(map(range_in_words, one.inputs)), "; ".join(one.answers[:2]))
        for one in found.samples
    ]
    lines += ["", *table(titles, rows, width, color=color)]
    said = [*([found.agreement] if found.agreement else []), *found.doubts]
    for sentence in said:
        lines += ["", *wrap(printable(sentence), width)]
    return "\n".join(lines) + "\n"


def _counted(found: Preview) -> str:
    """Return how many samples there are, as on the page's first line."""
    all_of_them = f" of {found.of_samples}" if found.of_samples > len(found.samples) else ""
    return f"{len(found.samples)}{all_of_them} {'samples' if found.of_samples > 1 else 'sample'} of {found.source}"


def range_in_words(one: ShownInput) -> str:
    """Return the range of an input, such as ``0 to 255``; the first values of one that holds no numbers."""
    if one.low is None or one.high is None:
        return ", ".join(one.first)
    return f"{number(one.low)} to {number(one.high)}" if one.high > one.low else f"{number(one.low)} everywhere"


def number(value: float) -> str:
    """Return a number with four digits."""
    return minus(f"{value:.4g}")


def bars(counts: Sequence[int]) -> list[tuple[int, int]]:
    """Return the left edge and the height of each bar of a histogram, in pixels; the smallest that is not 0 is seen."""
    most = max(counts, default=0)
    return [(i * _BAR, max(1, round(_HEIGHT * count / most)) if count else 0) for i, count in enumerate(counts)]
