"""The leaderboard of a zoo, one row per model, as text, CSV, JSON, Markdown or a page with links to reports."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from calib.report import numbers
from calib.report.console import paint, rule, table
from calib.report.escape import columns_of, csv_cell, markdown_cell, printable
from calib.report.files import write_text
from calib.report.page import render_page
from calib.report.tables import Column, Table

# What a person wants to see first is at the top: models within the budget, then those of little use, then over it,
# then jobs that did not end.
_ORDER = (
    "within_budget",
    "within_budget_not_in_f32",
    "quantized",
    "planned",
    "mostly_float",
    "slower",
    "within_budget_in_f32_only",
    "over_budget",
    "fp32_kept",
)
_EARLY = ", ended early"  # behind the status of a search that was interrupted or cancelled
_JOINT = " · "  # between the figures of several metrics
_KEPT = ("within_budget", "quantized")
_FIGURES = 75  # columns of a terminal that all but the names take
_LEAST_ASKED = (8, 7, 6, 4, 1)  # time, float, size, × f32, FP32: left out one by one on a narrow terminal
_TONES = {
    "within_budget": "good",
    "within_budget_not_in_f32": "warning",
    "quantized": "good",
    "mostly_float": "warning",
    "slower": "warning",
    "within_budget_in_f32_only": "bad",
    "over_budget": "bad",
    "fp32_kept": "warning",
    "failed": "bad",
}


@dataclass(frozen=True)
class MetricCells:
    """One of several metrics of a model; the attributes are those of a row."""

    metric: str
    unit: str
    fp32: float
    int8: float
    drop: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class LeaderboardRow:
    """One model of the zoo.

    Attributes:
        model: Name or path of the model in the zoo.
        status: Status of its report, or of the job: "failed", "waiting", "running", "paused" or "cancelled".
        reason: Why it failed, or why FP32 was kept, as a sentence.
        stopped: Why the search ended early, with the best model until then; "" if it did not.
        metric, unit: Metric and unit of ``fp32``, ``int8`` and ``drop``.
        fp32, int8: Value of the metric before and after.
        drop: Drop, positive if worse.
        interval: 95 % interval of the drop.
        each: Each of several metrics, where the drop is the largest share of a budget; empty where there is one.
        speedup_f32, speedup_default: Latency before over after, against f32 and against the default precision.
        bytes_before, bytes_after: Sizes of the weights.
        layers, float_layers: Number of layers, and of those in floating point.
        seconds: Wall time of the job.
        report: Path of its report.html relative to the leaderboard's folder, with ``/``; empty if there is none.
    """

    model: str
    status: str
    reason: str = ""
    metric: str = ""
    unit: str = ""
    fp32: float | None = None
    int8: float | None = None
    drop: float | None = None
    interval: tuple[float, float] | None = None
    each: tuple[MetricCells, ...] = ()
    within_budget: bool | None = None
    speedup_f32: float | None = None
    speedup_default: float | None = None
    bytes_before: int | None = None
    bytes_after: int | None = None
    layers: int | None = None
    float_layers: int | None = None
    seconds: float | None = None
    report: str = ""
    stopped: str = ""


def ranked(rows: Sequence[LeaderboardRow]) -> list[LeaderboardRow]:
    """Return the rows by outcome (within the budget first), then the fastest first, then by name."""

    def key(row: LeaderboardRow) -> tuple[int, float, str]:
        place = _ORDER.index(row.status) if row.status in _ORDER else len(_ORDER)
        return place, -(row.speedup_default or row.speedup_f32 or 0.0), row.model

    return sorted(rows, key=key)


def summary_of(rows: Sequence[LeaderboardRow]) -> str:
    """Return one line: how many models, and how many with each outcome."""
    counts = Counter(row.status for row in ranked(rows))
    parts = [f"{count} {_words(status)}" for status, count in counts.items()]
    return ": ".join([numbers.plural(len(rows), "model"), ", ".join(parts)]) if rows else "no models"


def render_leaderboard_text(rows: Sequence[LeaderboardRow], width: int = 100, color: bool = False) -> str:
    """Return the leaderboard for a terminal; reasons of models that are not fine stand below the table."""
    rows = ranked(rows)
    titles = ("model", "FP32", "INT8", "drop", "× f32", "× default", "size", "float", "time", "status")
    cells = [[name, *_text_row(row)[1:]] for name, row in zip(_brief(rows, width), rows, strict=True)]
    if len(_statuses(rows)) == 1:  # the line above says it of all
        cells = [[*cell[:-1], ""] for cell in cells]
    for column in _LEAST_ASKED:
        if _columns(titles, cells) > width:
            cells = [[*cell[:column], "", *cell[column + 1 :]] for cell in cells]
    lines = [rule(summary_of(rows), width, color), ""]
    lines += table(titles, cells, width, right=range(1, 9), color=color)
    reasons = [row for row in rows if row.reason and (row.status not in _KEPT or row.stopped)]
    if reasons:
        lines += ["", rule("to know", width, color)]
        lines += [f"  {paint(printable(row.model), 'bold', color)}: {printable(row.reason)}" for row in reasons]
    return "\n".join(lines) + "\n"


def render_leaderboard_markdown(rows: Sequence[LeaderboardRow]) -> str:
    """Return the leaderboard as a Markdown table; names can't become markup."""
    titles = ("model", "FP32", "INT8", "drop", "× f32", "× default", "size", "float layers", "time", "status", "reason")
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' + '---:|' * 8 + '---|---|'}"]
    for row in ranked(rows):
        cells = [*_text_row(row), row.reason]
        lines.append(f"| {' | '.join(markdown_cell(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def render_leaderboard_csv(rows: Sequence[LeaderboardRow]) -> str:
    """Return the leaderboard as CSV with plain numbers; no cell of text can become a formula."""
    names = [field.name for field in fields(LeaderboardRow) if field.name != "interval"]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*names, "interval_low", "interval_high"])
    for row in ranked(rows):
        values = [_each(row) if name == "each" else getattr(row, name) for name in names] + list(
            row.interval or (None, None)
        )
        writer.writerow([csv_cell(printable(v)) if isinstance(v, str) else "" if v is None else v for v in values])
    return stream.getvalue()


def render_leaderboard_json(rows: Sequence[LeaderboardRow]) -> str:
    """Return the leaderboard as JSON: a list of objects with the fields of ``LeaderboardRow``.

    Numbers that are not finite are null, as JSON has none.
    """
    finite = [{name: _finite(value) for name, value in asdict(row).items()} for row in ranked(rows)]
    return json.dumps(finite, indent=1, allow_nan=False) + "\n"


def render_leaderboard_html(rows: Sequence[LeaderboardRow], version: str) -> str:
    """Return the leaderboard as one page that sorts and searches, each model a link to its report."""
    rows = ranked(rows)
    grid = leaderboard_table(rows)
    counts = Counter(row.status for row in rows)
    cards = [(_words(status), count, _TONES.get(status, "neutral")) for status, count in counts.items()]
    context = {"title": "Zoo – calib leaderboard", "heading": "Zoo", "cards": cards, "summary": summary_of(rows)}
    context["reasons"] = [
        (row.model, _words(row.status), row.reason)
        for row in rows
        if row.reason and (row.status not in _KEPT or row.stopped)
    ]
    return render_page("leaderboard.html.j2", tables={"models": grid.data()}, version=version, rows=rows, **context)


def write_leaderboard_html(rows: Sequence[LeaderboardRow], path: str | Path, version: str) -> Path:
    """Write the page atomically and return its path.

    Raises:
        OutputError: The file can't be written.
    """
    return write_text(path, render_leaderboard_html(rows, version))


def leaderboard_table(rows: Sequence[LeaderboardRow]) -> Table:
    """Return the rows for the page, in the order given."""
    columns = (
        Column("model", "link", width=34),
        Column("status", width=13),
        Column("metric", width=9),
        Column("FP32", "labelled"),
        Column("INT8", "labelled"),
        Column("drop", "labelled", width=13, help="positive is worse; points of a fraction, or the metric's unit"),
        Column("in budget", width=9),
        Column("× f32", "ratio", help="speed-up against f32"),
        Column("× default", "ratio", help="speed-up against the machine's default precision"),
        Column("size before", "bytes"),
        Column("size after", "bytes"),
        Column("float layers", "count", help="layers left in floating point"),
        Column("layers", "count"),
        Column("time", "seconds"),
        Column("reason", width=50),
    )
    choices = {_words(status): [i for i, row in enumerate(rows) if row.status == status] for status in _statuses(rows)}
    return Table("model", columns, [_page_row(row) for row in rows], choices)


def _page_row(row: LeaderboardRow) -> list[Any]:
    within = {True: "yes", False: "no", None: ""}[row.within_budget]
    return [
        [row.model, _inside(row.report)],
        _words(row.status) + _EARLY * bool(row.stopped),
        row.metric,
        _labelled(row.fp32, _fp32(row)),
        _labelled(row.int8, _int8(row)),
        _labelled(row.drop, _drops(row)),
        within,
        row.speedup_f32,
        row.speedup_default,
        row.bytes_before,
        row.bytes_after,
        row.float_layers,
        row.layers,
        row.seconds,
        row.reason if row.status not in _KEPT or row.stopped else "",
    ]


def _text_row(row: LeaderboardRow) -> list[str]:
    size = "" if not (row.bytes_before and row.bytes_after) else f"{row.bytes_before / row.bytes_after:.2f}×"
    float_layers = (
        "" if row.float_layers is None else f"{row.float_layers}/{row.layers}" if row.layers else str(row.float_layers)
    )
    return [
        row.model,
        _fp32(row),
        _int8(row),
        _drops(row),
        "" if row.speedup_f32 is None else numbers.ratio(row.speedup_f32),
        "" if row.speedup_default is None else numbers.ratio(row.speedup_default),
        size,
        float_layers,
        "" if row.seconds is None else numbers.seconds(row.seconds),
        _words(row.status) + _EARLY * bool(row.stopped),
    ]


def _columns(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> int:
    """Return how wide the table is with names of at most 30 columns and without its last column."""
    used = [i for i in range(len(titles) - 1) if any(cell[i] for cell in cells)]
    widths = [max(columns_of(text) for text in (titles[i], *(cell[i] for cell in cells))) for i in used]
    return min(widths[0], 30) + sum(widths[1:]) + 2 * (len(widths) - 1) if widths else 0


def _brief(rows: Sequence[LeaderboardRow], width: int) -> list[str]:
    """Return the names, of a matrix's cells without the settings' own names where there is no room for them.

    ``vit/estimator=kl,effort=fast`` and ``vit/estimator=mse,effort=fast`` shortened in the middle would look the same.
    """
    names = [printable(row.model) for row in rows]
    if max(map(columns_of, names), default=0) <= width - _FIGURES:
        return names
    parted = [name.rpartition("/") for name in names]
    brief = [scope + slash + re.sub(r"(^|,)[^,=]+=", r"\1", cell) for scope, slash, cell in parted]
    return brief if len(set(brief)) == len(set(names)) else names


def _fp32(row: LeaderboardRow) -> str:
    return _JOINT.join(_value(one, one.fp32) for one in row.each or (row,))


def _int8(row: LeaderboardRow) -> str:
    return _JOINT.join(_value(one, one.int8) for one in row.each or (row,))


def _drops(row: LeaderboardRow) -> str:
    return _JOINT.join(_drop(one) for one in row.each or (row,))


def _each(row: LeaderboardRow) -> str:
    """Return the figures of several metrics as plain text."""
    return "; ".join(f"{one.metric}: {one.fp32:.6g} → {one.int8:.6g}, drop {one.drop:.6g}" for one in row.each)


def _value(row: LeaderboardRow | MetricCells, value: float | None) -> str:
    if value is None:
        return ""
    return numbers.minus(f"{value * 100:.2f} %") if row.unit == "fraction" else numbers.minus(f"{value:.4g}")


def _drop(row: LeaderboardRow | MetricCells) -> str:
    """Return the drop with half the width of its interval: ``0.41 ±0.36``."""
    if row.drop is None:
        return ""
    scale, digits = (100, ".2f") if row.unit == "fraction" else (1, ".3g")
    around = f" ±{(row.interval[1] - row.interval[0]) / 2 * scale:{digits}}" if row.interval else ""
    return numbers.minus(f"{row.drop * scale:{digits}}") + around


def _labelled(value: float | None, text: str) -> list[Any] | None:
    return None if value is None else [value, text]


def _inside(report: str) -> str:
    """Return the address of a report below the leaderboard's folder, empty if it would lead anywhere else."""
    path = PurePosixPath(report)
    if not report or path.is_absolute() or ".." in path.parts or "\\" in report:
        return ""
    # "./" keeps a first folder called "javascript:" a folder; quoting keeps "#" and "?" parts of the name.
    return "./" + quote(str(path), errors="surrogateescape")


def _statuses(rows: Sequence[LeaderboardRow]) -> list[str]:
    return list(dict.fromkeys(row.status for row in rows))


def _words(status: str) -> str:
    return status.replace("_", " ").replace("fp32", "FP32")


def _finite(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and (value != value or abs(value) == float("inf")) else value
