"""Make the rows of the leaderboard, from reports and from jobs without one."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

from calib.errors import StatisticsError, UsageError
from calib.report.html import FILE_NAME
from calib.report.leaderboard import LeaderboardRow, MetricCells, outcome_line
from calib.values.facts import Report
from calib.zoo.jobs import DONE, STATUSES, JobRow
from calib.zoo.sources import matches, shown_name


def row_of_report(name: str, report: Report, seconds: float) -> LeaderboardRow:
    """Return the leaderboard's row of a report; ``seconds`` is the wall time of the job."""
    accuracy, speed, model = report.accuracy, report.speed, report.model
    kept = ("within_budget", "within_budget_not_in_f32", "mostly_float", "slower")  # where the model will run
    within: dict[str, bool] = dict.fromkeys(kept, True)
    within |= dict.fromkeys(("within_budget_in_f32_only", "over_budget", "fp32_kept"), False)
    row = LeaderboardRow(
        model=name,
        status=report.status,
        reason=report.status_reason,
        within_budget=within.get(report.status),
        bytes_before=model.bytes_before,
        bytes_after=model.bytes_after,
        layers=len(report.layers),
        float_layers=sum(layer.planned == "float" for layer in report.layers),
        seconds=seconds,
        sqnr_db=min(report.output_sqnr_db.values(), default=None),
        machine=report.environment.get("cpu", ""),
    )
    if accuracy:
        row = replace(
            row,
            metric=accuracy.metric,
            unit=accuracy.unit,
            fp32=accuracy.baseline,
            int8=accuracy.quantized,
            drop=accuracy.drop,
            interval=accuracy.interval,
            drop_kind=accuracy.drop_kind,
            stopped=accuracy.stopped,
            each=tuple(
                MetricCells(one.metric, one.unit, one.baseline, one.quantized, one.drop, one.interval, one.drop_kind)
                for one in accuracy.each
            ),
        )
    if speed:
        row = replace(row, speedup_f32=speed.speedup_f32, speedup_default=speed.speedup_default)
    return row


def to_json(row: LeaderboardRow) -> dict[str, Any]:
    """Return a row as the store keeps it."""
    return asdict(row)


def outcome_of(board: dict[str, Any]) -> str:
    """Return the outcome of a row as ``to_json`` gives it, in a line with its figures."""
    return outcome_line(_from_json(board))


def row_of_job(row: JobRow, reports: str = "models") -> LeaderboardRow:
    """Return the leaderboard's row of a job, whatever its state; for ``reports`` see ``filtered``."""
    if row.status in DONE and row.board:
        report = f"{reports}/{row.name}/{FILE_NAME}" if reports else ""
        return replace(_from_json(_stored(row)), model=shown_name(row.name), report=report)
    return LeaderboardRow(model=shown_name(row.name), status=row.status, reason=row.reason)


def _from_json(board: dict[str, Any]) -> LeaderboardRow:
    known = {field.name for field in fields(LeaderboardRow)}
    data = {name: value for name, value in board.items() if name in known}
    if data.get("interval") is not None:
        data["interval"] = tuple(data["interval"])
    each = [{**one, "interval": one["interval"] and tuple(one["interval"])} for one in data.get("each", ())]
    data["each"] = tuple(MetricCells(**one) for one in each)
    return LeaderboardRow(**data)


def _stored(row: JobRow) -> dict[str, Any]:
    try:
        found = json.loads(row.board)
    except ValueError as error:
        raise StatisticsError(f"the store of the zoo is damaged: the result of {row.name} can't be read") from error
    if not isinstance(found, dict) or not isinstance(found.get("status"), str):
        raise StatisticsError(f"the store of the zoo is damaged: the result of {row.name} is none")
    return found


def check_statuses(asked: Iterable[str]) -> None:
    """Refuse statuses that no job can have.

    Raises:
        UsageError: One of them is unknown; the nearest right spelling is in the message.
    """
    for one in asked:
        if one not in STATUSES:
            near = difflib.get_close_matches(one.lower().replace(" ", "_").replace("-", "_"), STATUSES, 1)
            hint = f"Did you mean {near[0]}? " if near else ""
            raise UsageError(f"--status {one}: no job has such a status. {hint}There are {', '.join(STATUSES)}")


def filtered(
    rows: Iterable[JobRow], only: Sequence[str] = (), status: Sequence[str] = (), reports: str = "models"
) -> list[LeaderboardRow]:
    """Return the rows whose model fits one of the patterns and whose status is one of those given.

    Args:
        rows: Rows of the store.
        only: Patterns of names; empty for all.
        status: Statuses as in the store; empty for all.
        reports: Relative path from the leaderboard to the folder with the results; "" if there is none.
    """
    return [
        row_of_job(row, reports)
        for row in rows
        if (not only or any(matches(pattern, row.name) for pattern in only)) and (not status or row.status in status)
    ]
