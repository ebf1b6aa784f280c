"""The leaderboard of a zoo as one page: outcome, totals, drop against speed, a table with links to reports, reasons."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from calib.report import numbers
from calib.report.files import write_text
from calib.report.leaderboard import (
    LeaderboardRow,
    drops,
    fp32,
    int8,
    not_faster,
    outcome,
    ranked,
    speedup,
    summary_of,
    to_explain,
    totals_of,
)
from calib.report.page import render_page
from calib.report.tables import Column, Table
from calib.report.vega import SCHEMA, Spec
from calib.values.drops import drop_scale, drop_unit

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
_KINDS = {"good": "fine", "warning": "to look at", "bad": "over the budget"}  # tone → what the scatter calls it


def render_leaderboard_html(rows: Sequence[LeaderboardRow], version: str) -> str:
    """Return the leaderboard as one page that sorts and searches, each model a link to its report."""
    rows = ranked(rows)
    grid = leaderboard_table(rows)
    cards = [(said, count, tone) for (said, tone), count in Counter((outcome(row), _tone(row)) for row in rows).items()]
    scatter = trade_chart(rows)
    return render_page(
        "leaderboard.html.j2",
        tables={"models": grid.data()},
        charts={} if scatter is None else {"trade": scatter},
        version=version,
        rows=rows,
        title="Zoo – calib leaderboard",
        cards=cards,
        summary=summary_of(rows),
        totals=totals_of(rows),
        scatter=scatter,
        reasons=[(row.model, outcome(row), row.reason) for row in rows if to_explain(row)],
    )


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
        Column("status", width=15),
        Column("metric", width=9),
        Column("FP32", "labelled"),
        Column("INT8", "labelled"),
        Column("drop", "labelled", width=13, help="positive is worse; points of a fraction, or the metric's unit"),
        Column("SQNR", "db", help="of the worst output against FP32"),
        Column("in budget", width=9),
        Column("× f32", "ratio", help="speed-up against f32"),
        Column("× default", "ratio", help="speed-up against the machine's default precision"),
        Column("size before", "bytes"),
        Column("size after", "bytes"),
        Column("float layers", "count", help="layers left in floating point"),
        Column("layers", "count"),
        Column("time", "seconds"),
        Column("reason", width=50),
        Column("machine", hidden=True),
    )
    said = [outcome(row) for row in rows]
    choices = {one: [i for i, other in enumerate(said) if other == one] for one in dict.fromkeys(said)}
    return Table("model", columns, [_page_row(row) for row in rows], choices)


def _page_row(row: LeaderboardRow) -> list[Any]:
    within = {True: "yes", False: "no", None: ""}[row.within_budget]
    return [
        [row.model, _inside(row.report)],
        outcome(row),
        row.metric,
        _labelled(row.fp32, fp32(row)),
        _labelled(row.int8, int8(row)),
        _labelled(row.drop, drops(row)),
        row.sqnr_db,
        within,
        row.speedup_f32,
        row.speedup_default,
        row.bytes_before,
        row.bytes_after,
        row.float_layers,
        row.layers,
        row.seconds,
        row.reason if to_explain(row) else "",
        row.machine,
    ]


def trade_chart(rows: Sequence[LeaderboardRow]) -> Spec | None:
    """Draw the drop of every model against its speed-up; None where no model has both.

    Drops in the unit that most of them have can be compared; models with another one are left out, and the description
    says so. The speed-up is against the faster of FP32 in f32 and in the default precision.
    """
    both = [row for row in rows if row.drop is not None and math.isfinite(row.drop) and speedup(row) is not None]
    if not both:
        return None
    kinds = Counter((row.drop_kind, row.unit) for row in both)
    kind, unit = max(kinds, key=lambda one: kinds[one])
    points = [
        {
            "model": row.model,
            "speedup": round(speedup(row) or 0.0, 3),
            "drop": (row.drop or 0.0) * drop_scale(kind, unit),
            "kind": _KINDS.get(_tone(row), "to look at"),
            "outcome": outcome(row),
        }
        for row in both
        if (row.drop_kind, row.unit) == (kind, unit)
    ]
    slower = sum(point["speedup"] < 1 for point in points)
    others = len(both) - len(points)
    words = f"Drop and speed-up of {numbers.plural(len(points), 'model')}; {slower or 'none'} left of the line at 1, "
    words += "slower than FP32." + f" {numbers.plural(others, 'model')} with drops in other units left out." * (
        others > 0
    )
    x = {"field": "speedup", "type": "quantitative", "title": "speed-up over FP32, in its faster precision"}
    y = {"field": "drop", "type": "quantitative", "title": f"drop, {drop_unit(kind, unit)}".rstrip(", ")}
    colors = {"domain": list(_KINDS.values())}
    encoding = {
        "x": {**x, "scale": {"zero": False, "padding": 12}},
        "y": {**y, "scale": {"padding": 12}},
        "color": {"field": "kind", "title": None, "scale": colors},
        "shape": {"field": "kind", "title": None, "scale": {**colors, "range": ["circle", "diamond", "triangle-down"]}},
        "tooltip": [{"field": "model"}, {"field": "outcome"}, {"field": "speedup", "title": "speed-up"},
                    {"field": "drop", "format": ".3~g"}],
    }  # fmt: skip
    as_fast = {
        "data": {"values": [{"one": 1}]},
        "mark": {"type": "rule", "style": "budget"},
        "encoding": {"x": {"field": "one", "type": "quantitative"}},
    }
    dots = {"mark": {"type": "point", "filled": True, "size": 90, "opacity": 0.85}, "encoding": encoding}
    fit = {"type": "fit-x", "contains": "padding"}
    data = {"values": points}
    return {
        "$schema": SCHEMA,
        "description": words,
        "data": data,
        "autosize": fit,
        "height": 260,
        "layer": [as_fast, dots],
    }


def _tone(row: LeaderboardRow) -> str:
    return "warning" if not_faster(row) else _TONES.get(row.status, "neutral")


def _labelled(value: float | None, text: str) -> list[Any] | None:
    return None if value is None else [value, text]


def _inside(report: str) -> str:
    """Return the address of a report below the leaderboard's folder, empty if it would lead anywhere else."""
    path = PurePosixPath(report)
    if not report or path.is_absolute() or ".." in path.parts or "\\" in report:
        return ""
    # "./" keeps a first folder called "javascript:" a folder; quoting keeps "#" and "?" parts of the name.
    return "./" + quote(str(path), errors="surrogateescape")
