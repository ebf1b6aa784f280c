"""Runs side by side: accuracy, latency, size, layers, the trade between drop and time, and the samples that change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from calib.errors import UsageError
from calib.report import numbers
from calib.report.json_report import FILE_NAME
from calib.report.pictures import embedded
from calib.report.tables import Column, Table
from calib.studio.compare_samples import samples_that_got_worse
from calib.studio.rendering import render
from calib.studio.run import asked_for, status_words, tone, words
from calib.studio.runs import Runs
from calib.studio.scatter import Point, Scatter, scatter
from calib.values.drops import drop_scale, drop_text, drop_unit
from calib.values.pictures import ChangedFacts, PictureFacts
from calib.zoo.jobs import DONE, JobRow

MOST = 8  # runs beside each other
MOST_POINTS = 60  # of the trade between drop and time, the newest runs
MOST_OFFERED = 200
_DONE = f"status IN ({', '.join(map(repr, DONE))})"


@dataclass(frozen=True)
class Summary:
    """What is compared of a run.

    Attributes:
        key, name, status: Its row in the store.
        settings: Settings that were given.
        accuracy: Metric, values, drop and interval, as in the report; {} if nothing was measured.
        speed: Latencies in milliseconds, as in the report; {} if they were not measured.
        bytes: Size of the weights.
        layers: Layers as in the report.
        pictures: Samples that change most, and their data: addresses.
        changed: How single samples changed; None if it is not known.
    """

    key: str
    name: str
    status: str
    settings: dict[str, Any]
    accuracy: dict[str, Any]
    speed: dict[str, Any]
    bytes: int = 0
    layers: list[dict[str, Any]] = field(default_factory=list, repr=False)
    pictures: list[tuple[PictureFacts, str]] = field(default_factory=list, repr=False)
    changed: ChangedFacts | None = None


async def page(request: Request) -> HTMLResponse:
    """Compare the chosen runs; without any, offer those that are done."""
    runs: Runs = request.app.state.studio.runs
    done = runs.newest(MOST_OFFERED, where=_DONE)
    keys = list(dict.fromkeys(request.query_params.getlist("run")))[:MOST]
    chosen = [await run_sync(summary, runs, runs.row(key)) for key in keys]
    return render(
        request,
        "compare.html.j2",
        title="Compare",
        rows=done,
        keys=keys,
        chosen=chosen,
        table=facts_table(chosen),
        samples=samples_that_got_worse([(one.name, one.changed, one.pictures) for one in chosen]),
        tone=tone,
        words=words,
        asked_for=asked_for,
        most=MOST,
        query="&".join(f"run={key}" for key in keys),
        command=_command(chosen, runs),
    )


async def trade_plot(request: Request) -> HTMLResponse:
    """Return the drawing of all runs of the model of those chosen; their reports are read, which may take a second."""
    runs: Runs = request.app.state.studio.runs
    keys = request.query_params.getlist("run")[:MOST]
    model = runs.row(keys[0]).job.model if keys else ""
    alike = [row for row in runs.newest(MOST_OFFERED, where=_DONE) if row.job.model == model][:MOST_POINTS]
    everything = [one for row in alike if (one := await run_sync(brief, runs, row))]
    return render(request, "compare_trade.html.j2", plot=trade(everything, keys))


async def layers(request: Request) -> Response:
    """Return the layers of the chosen runs side by side as the data of a table."""
    runs: Runs = request.app.state.studio.runs
    keys = list(dict.fromkeys(request.query_params.getlist("run")))[:MOST]
    chosen = [await run_sync(summary, runs, runs.row(key)) for key in keys]
    return Response(json.dumps(layers_table(chosen).data()), media_type="application/json")


def summary(runs: Runs, row: JobRow) -> Summary:
    """Return what is compared of a run.

    Raises:
        UsageError: It has no result, or its report can't be read.
    """
    path = runs.folder(row) / FILE_NAME
    try:
        stamp = path.stat().st_mtime_ns
    except OSError as error:
        raise UsageError(f"{row.name} has no report to compare ({row.status.replace('_', ' ')})") from error
    return _read(path, stamp, row)


def brief(runs: Runs, row: JobRow) -> Summary | None:
    """Return what is compared of a run without its layers and pictures, None if its report is gone or damaged."""
    path = runs.folder(row) / FILE_NAME
    try:
        return _brief(path, path.stat().st_mtime_ns, row)
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=1000)
def _brief(path: Path, stamp: int, row: JobRow) -> Summary:  # noqa: ARG001  # as below
    found = json.loads(path.read_text(encoding="utf-8"))
    accuracy, speed = found.get("accuracy") or {}, found.get("speed") or {}
    return Summary(row.key, row.name, row.status, row.job.settings, accuracy, speed)


@lru_cache(maxsize=2 * MOST)
def _read(path: Path, stamp: int, row: JobRow) -> Summary:  # noqa: ARG001  # another stamp is another report
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        pictures = [PictureFacts(**one) for one in found.get("pictures", [])]
        return Summary(
            row.key,
            row.name,
            row.status,
            row.job.settings,
            found.get("accuracy") or {},
            found.get("speed") or {},
            int(found["model"]["bytes_after"]),
            found["layers"],
            [pair for pair in zip(pictures, embedded(pictures, path.parent), strict=True) if pair[1]],
            ChangedFacts(**found["changed"]) if found.get("changed") else None,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: the report can't be read: {error}") from error


def facts_table(chosen: Sequence[Summary]) -> list[tuple[str, list[str]]]:
    """Return the rows of the table: what is compared, and its value for each run."""
    if not chosen:
        return []
    settings = sorted({key for one in chosen for key in one.settings} - {"speed"})
    different = [key for key in settings if len({repr(one.settings.get(key)) for one in chosen}) > 1]
    rows = [
        ("status", [status_words(one.status) for one in chosen]),
        ("accuracy", [_accuracy(one) for one in chosen]),
        ("drop", [_drop(one) for one in chosen]),
        ("latency in INT8", [numbers.milliseconds(one.speed.get("latency_int8_ms")) for one in chosen]),
        ("latency in f32", [numbers.milliseconds(one.speed.get("latency_f32_ms")) for one in chosen]),
        ("weights", [numbers.size(one.bytes) for one in chosen]),
        ("layers in INT8", [f"{_int8(one)} of {len(one.layers)}" for one in chosen]),
    ]
    return rows + [(key, [_plain(one.settings.get(key)) for one in chosen]) for key in different]


def layers_table(chosen: Sequence[Summary]) -> Table:
    """Return a row a layer, with what it executed in, its SQNR and its time in each run."""
    columns = [Column("layer", width=34), Column("type", width=16)]
    for one in chosen:
        columns += [Column(one.name, "precision"), Column(f"{one.name}: SQNR", "db"), Column(f"{one.name}: time", "us")]
    names = list(dict.fromkeys(layer["name"] for one in chosen for layer in one.layers))
    known = [{layer["name"]: layer for layer in one.layers} for one in chosen]
    rows = []
    for name in names:
        found = [layers.get(name, {}) for layers in known]
        row: list[Any] = [name, next((one["type"] for one in found if one), "")]
        for one in found:
            row += [one.get("executed") or one.get("planned") or "", one.get("sqnr_db"), one.get("time_int8_ms")]
        rows.append(row)
    differ = [i for i, row in enumerate(rows) if len(set(row[2::3])) > 1]
    return Table("layer", tuple(columns), rows, {"executed differently": differ})


def trade(everything: Sequence[Summary], marked: Sequence[str]) -> Scatter | None:
    """Return the drop of every run against its time, which shows where a little accuracy buys much speed."""
    measured = [one for one in everything if one.accuracy.get("drop") is not None and one.speed.get("latency_int8_ms")]
    if not measured:
        return None
    first = measured[0].accuracy
    kind, unit = first.get("drop_kind", "absolute"), first.get("unit", "")
    scale = drop_scale(kind, unit)
    alike = [one for one in measured if (one.accuracy.get("metric"), one.accuracy.get("drop_kind")) == (
        first.get("metric"), first.get("drop_kind"))]  # fmt: skip
    points = []
    for one in alike:
        span = one.accuracy.get("interval")
        points.append(
            Point(
                one.speed["latency_int8_ms"],
                one.accuracy["drop"] * scale,
                f"{one.name}: {_drop(one)}, {numbers.milliseconds(one.speed['latency_int8_ms'])}",
                tone(one.status),
                (span[0] * scale, span[1] * scale) if span else None,
                one.key in marked,
                f"/run/{one.key}",
            )
        )
    title = f"Drop of {first.get('metric')} against milliseconds, of all runs of this model"
    return scatter(title, "milliseconds", f"drop, {drop_unit(kind, unit)}", points, front=True)


def _command(chosen: Sequence[Summary], runs: Runs) -> list[str]:
    """Return the command line that compares two models layer by layer."""
    if len(chosen) != 2:
        return []
    rows = [runs.row(one.key) for one in chosen]
    models = [str(runs.folder(row) / f"{Path(row.job.model).stem}.xml") for row in rows]
    return ["calib", "compare", *models, "--data", rows[0].job.validation or rows[0].job.calibration]


def _accuracy(one: Summary) -> str:
    if not one.accuracy:
        return numbers.MISSING
    unit = one.accuracy.get("unit", "")
    before, after = (
        f"{value * 100:.2f} %" if unit == "fraction" else numbers.significant(value)
        for value in (one.accuracy["baseline"], one.accuracy["quantized"])
    )
    return f"{one.accuracy['metric']}: {before} → {after}"


def _drop(one: Summary) -> str:
    if not one.accuracy or one.accuracy.get("drop") is None:
        return numbers.MISSING
    kind, unit = one.accuracy.get("drop_kind", "absolute"), one.accuracy.get("unit", "")
    ends = one.accuracy.get("interval")
    inside = f", 95 %: {drop_text(kind, unit, ends[0])} … {drop_text(kind, unit, ends[1])}" if ends else ""
    return drop_text(kind, unit, one.accuracy["drop"]) + inside


def _int8(one: Summary) -> int:
    return sum((layer.get("executed") or layer["planned"]) in ("i8", "u8", "int8") for layer in one.layers)


def _plain(value: Any) -> str:
    return numbers.MISSING if value is None else value if isinstance(value, str) else json.dumps(value)
