"""The leaderboard of a zoo, one row per model, as text, CSV, JSON or Markdown."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from statistics import median
from typing import Any

from calib.report import numbers
from calib.report.console import rule, table, wrap
from calib.report.escape import columns_of, csv_cell, markdown_cell, printable
from calib.values.drops import drop_number, drop_unit

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
_NOT_FASTER = " but not faster"  # behind the status of a model that is otherwise fine
_FIGURES = 75  # columns of a terminal that all but the names take
_LEAST_ASKED = (9, 8, 7, 5, 4, 1)  # time, float, size, × f32, SQNR, FP32: left out one by one on a narrow terminal


@dataclass(frozen=True)
class MetricCells:
    """One of several metrics of a model; the attributes are those of a row."""

    metric: str
    unit: str
    fp32: float
    int8: float
    drop: float
    interval: tuple[float, float] | None = None
    drop_kind: str = "absolute"


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
        drop_kind: "absolute", or "relative" for a drop as a share of the baseline.
        sqnr_db: SQNR of the worst output against FP32 in dB; None if it was not measured.
        each: Each of several metrics, where the drop is the largest share of a budget; empty where there is one.
        speedup_f32, speedup_default: Latency before over after, against f32 and against the default precision.
        bytes_before, bytes_after: Sizes of the weights.
        layers, float_layers: Number of layers, and of those in floating point.
        seconds: Wall time of the job.
        machine: CPU that it was quantized and timed on.
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
    drop_kind: str = "absolute"
    sqnr_db: float | None = None
    machine: str = ""


def ranked(rows: Sequence[LeaderboardRow]) -> list[LeaderboardRow]:
    """Return the rows by outcome (within the budget first), then the fastest first, then by name."""

    def key(row: LeaderboardRow) -> tuple[int, bool, float, str]:
        place = _ORDER.index(row.status) if row.status in _ORDER else len(_ORDER)
        return place, not_faster(row), -(speedup(row) or 0.0), row.model

    return sorted(rows, key=key)


def speedup(row: LeaderboardRow) -> float | None:
    """Return the speed-up against the faster of f32 and the default precision; None if it was not measured."""
    return min((one for one in (row.speedup_f32, row.speedup_default) if one is not None), default=None)


def not_faster(row: LeaderboardRow) -> bool:
    """Return whether a model that is otherwise fine was timed and did not come out faster than FP32."""
    return row.status in _KEPT and (speedup(row) or 1.0) < 1.0


def outcome(row: LeaderboardRow) -> str:
    """Return the status in words: ``within budget``, ``within budget but not faster``, ``over budget, ended early``."""
    return words(row.status) + _NOT_FASTER * not_faster(row) + _EARLY * bool(row.stopped)


def to_explain(row: LeaderboardRow) -> bool:
    """Return whether the reason of a row says more than its status."""
    return bool(row.reason) and (row.status not in _KEPT or bool(row.stopped))


def summary_of(rows: Sequence[LeaderboardRow]) -> str:
    """Return one line: how many models, and how many with each outcome."""
    counts = Counter(map(outcome, ranked(rows)))
    parts = [f"{count} {said}" for said, count in counts.items()]
    return ": ".join([numbers.plural(len(rows), "model"), ", ".join(parts)]) if rows else "no models"


def render_leaderboard_text(rows: Sequence[LeaderboardRow], width: int = 100, color: bool = False) -> str:
    """Return the leaderboard for a terminal; reasons of models that are not fine stand below the table."""
    rows = ranked(rows)
    titles = ("model", "FP32", "INT8", "drop", "SQNR", "× f32", "× default", "size", "float", "time", "status")
    cells = [[name, *_text_row(row)[1:]] for name, row in zip(_brief(rows, width), rows, strict=True)]
    if len(set(map(outcome, rows))) == 1:  # the line above says it of all
        cells = [[*cell[:-1], ""] for cell in cells]
    for column in _LEAST_ASKED:
        if _columns(titles, cells) > width:
            cells = [[*cell[:column], "", *cell[column + 1 :]] for cell in cells]
    count, _, outcomes = summary_of(rows).partition(": ")
    fits = columns_of(summary_of(rows)) <= width - 6  # those of a rule around its title
    lines = [rule(summary_of(rows), width, color)] if fits else [rule(count, width, color), *wrap(outcomes, width)]
    if rows:
        lines += ["", *table(titles, cells, width, right=range(1, 10), color=color)]
    if totals := totals_of(rows):
        lines += ["", *wrap(totals, width)]
    if explained := _explained(rows):
        lines += ["", rule("to know", width, color)]
    for models, reason in explained:
        first, *rest = wrap(f"{', '.join(models)}: {reason}", max(20, width - 4))
        lines += [f"  ▪ {first}", *(f"    {line}" for line in rest)]
    return "\n".join(lines) + "\n"


def _explained(rows: Sequence[LeaderboardRow]) -> list[tuple[list[str], str]]:
    """Return each reason once, with the models that it is of."""
    found: dict[str, list[str]] = {}
    for row in filter(to_explain, rows):
        found.setdefault(row.reason, []).append(row.model)
    return [(models, reason) for reason, models in found.items()]


def totals_of(rows: Sequence[LeaderboardRow]) -> str:
    """Return a line about all models together: sizes, speed, time and machine; "" if nothing is known of them."""
    sized = [(row.bytes_before, row.bytes_after) for row in rows if row.bytes_before and row.bytes_after]
    speeds = [found for row in rows if (found := speedup(row)) is not None]
    times = [row.seconds for row in rows if row.seconds is not None]
    machines = Counter(row.machine for row in rows if row.machine)
    parts = []
    if sized:
        before, after = sum(one for one, _ in sized), sum(one for _, one in sized)
        parts.append(f"weights {numbers.size(before)} → {numbers.size(after)}, {before / after:.2f}× smaller")
    if speeds:
        faster = sum(one > 1 for one in speeds)
        parts.append(f"faster than FP32: {faster} of {len(speeds)} timed, median {numbers.ratio(median(speeds))}")
    if times:
        parts.append(f"{numbers.seconds(sum(times))} of work")
    several = len(machines) > 1
    parts += [f"{machine} ({numbers.plural(n, 'model')})" if several else machine for machine, n in machines.items()]
    return " · ".join(parts)


def render_leaderboard_markdown(rows: Sequence[LeaderboardRow]) -> str:
    """Return the leaderboard as a Markdown table; names can't become markup."""
    titles = ["model", "FP32", "INT8", "drop", "SQNR", "× f32", "× default", "size", "float layers", "time", "status"]
    lines = [f"| {' | '.join([*titles, 'reason'])} |", f"|{'---|' + '---:|' * 9 + '---|---|'}"]
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


def outcome_line(row: LeaderboardRow) -> str:
    """Return the outcome of one model in a line: ``within budget: top-1 89.84 % → 89.88 %, drop −0.04 points, 1.2× …``.

    Where it has no figures, its reason stands instead.
    """
    parts = [_metricwords(one) for one in row.each or (row,) if one.drop is not None]
    if not row.metric and row.sqnr_db is not None:
        parts.append(f"SQNR {numbers.decibel(row.sqnr_db)}")
    if row.speedup_f32 is not None:
        parts.append(f"{numbers.ratio(row.speedup_f32)} against f32")
    if row.bytes_before and row.bytes_after:
        parts.append(f"{row.bytes_before / row.bytes_after:.2f}× smaller")
    if row.layers:
        parts.append(f"{row.layers - (row.float_layers or 0)} of {numbers.plural(row.layers, 'layer')} in INT8")
    said = ", ".join(parts) or row.reason
    return f"{outcome(row)}{': ' * bool(said)}{said}"


def _metricwords(one: LeaderboardRow | MetricCells) -> str:
    unit = drop_unit(one.drop_kind, one.unit)
    return f"{one.metric} {_value(one, one.fp32)} → {_value(one, one.int8)}, drop {_drop(one)} {unit}".rstrip()


def _text_row(row: LeaderboardRow) -> list[str]:
    size = "" if not (row.bytes_before and row.bytes_after) else f"{row.bytes_before / row.bytes_after:.2f}×"
    float_layers = (
        "" if row.float_layers is None else f"{row.float_layers}/{row.layers}" if row.layers else str(row.float_layers)
    )
    return [
        row.model,
        fp32(row),
        int8(row),
        drops(row),
        "" if row.sqnr_db is None else numbers.decibel(row.sqnr_db),
        "" if row.speedup_f32 is None else numbers.ratio(row.speedup_f32),
        "" if row.speedup_default is None else numbers.ratio(row.speedup_default),
        size,
        float_layers,
        "" if row.seconds is None else numbers.seconds(row.seconds),
        outcome(row),
    ]


def _columns(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> int:
    """Return how wide the table is with names and statuses of at most 24 columns, which is still well read."""
    used = [i for i in range(len(titles)) if any(cell[i] for cell in cells)]
    widths = {i: max(columns_of(text) for text in (titles[i], *(cell[i] for cell in cells))) for i in used}
    for i in (0, len(titles) - 1):
        widths[i] = min(widths.get(i, 0), 24)
    return sum(widths.values()) + 2 * (len(used) - 1)


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


def fp32(row: LeaderboardRow) -> str:
    """Return the metrics of FP32; "" without one."""
    return _JOINT.join(_value(one, one.fp32) for one in row.each or (row,))


def int8(row: LeaderboardRow) -> str:
    """Return the metrics of INT8; "" without one."""
    return _JOINT.join(_value(one, one.int8) for one in row.each or (row,))


def drops(row: LeaderboardRow) -> str:
    """Return the drops with half the widths of their intervals; "" without one."""
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
    half = None if row.interval is None else (row.interval[1] - row.interval[0]) / 2
    around = "" if half is None else f" ±{drop_number(row.drop_kind, row.unit, half)}"
    return drop_number(row.drop_kind, row.unit, row.drop) + around


def words(status: str) -> str:
    """Return a status as people write it."""
    return status.replace("_", " ").replace("fp32", "FP32")


def _finite(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and (value != value or abs(value) == float("inf")) else value
