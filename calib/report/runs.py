"""Several runs side by side: read from their reports, and written as text and as one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calib.errors import UsageError
from calib.report import numbers
from calib.report.charts import trade_chart
from calib.report.console import rule, table, wrap
from calib.report.escape import printable
from calib.report.files import write_text
from calib.report.json_report import read_report
from calib.report.page import addressed, render_page
from calib.report.tables import Column, Table
from calib.values.drops import drop_number, drop_text
from calib.values.facts import LayerFacts, Report
from calib.values.runs import LayerOfRun, LayerOfRuns, RunFacts, RunsCompared, TradeFacts
from calib.values.version import __version__


def compare_runs(folders: Sequence[str | Path]) -> RunsCompared:
    """Return several results side by side, from what is in their reports; nothing is run.

    Args:
        folders: Folders that ``calib quantize`` or a zoo wrote, two or more.

    Raises:
        UsageError: There are fewer than two, or one has no report that can be read.
    """
    if len(folders) < 2:
        raise UsageError("give two or more folders of results to compare")
    reports = [read_report(folder) for folder in folders]
    names = _names(folders)
    return RunsCompared(
        calib_version=__version__,
        runs=[_facts(*one) for one in zip(names, folders, reports, strict=True)],
        trade=_trade(names, reports),
        layers=_layers(reports),
        notes=_notes(names, reports),
    )


def _names(folders: Sequence[str | Path]) -> list[str]:
    """Return the last parts of the paths, as many as tell them apart."""
    paths = [Path(folder).absolute() for folder in folders]
    for count in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-count:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{path.name} ({number})" for number, path in enumerate(paths, 1)]  # one folder several times


def _facts(name: str, folder: str | Path, report: Report) -> RunFacts:
    accuracy, speed = report.accuracy, report.speed
    found = RunFacts(
        name=name,
        folder=str(folder),
        model=report.model.name,
        status=report.status,
        latency_f32_ms=speed.latency_f32_ms if speed else None,
        latency_int8_ms=speed.latency_int8_ms if speed else None,
        bytes_before=report.model.bytes_before,
        bytes_after=report.model.bytes_after,
        int8_layers=sum(layer.in_int8 for layer in report.layers),
        layers=len(report.layers),
    )
    if accuracy is None:
        return found
    shared = {name: getattr(accuracy, name) for name in ("metric", "unit", "baseline", "quantized", "drop")}
    return found.model_copy(update={**shared, "drop_kind": accuracy.drop_kind, "interval": accuracy.interval})


def _trade(names: Sequence[str], reports: Sequence[Report]) -> list[TradeFacts]:
    """Return the plans that were timed, of the runs that measured what the first such run did."""
    first = next((report.accuracy for report in reports if report.accuracy), None)
    rows: list[dict[str, Any]] = []
    for name, report in zip(names, reports, strict=True):
        accuracy, speed = report.accuracy, report.speed
        if accuracy is None or first is None or _measure(report) != (first.metric, first.drop_kind):
            continue
        for plan in report.finalists:
            row = {"drop": plan.drop, "latency_ms": plan.latency_ms, "reverted": len(plan.reverted)}
            rows.append({"run": name, **row, "written": plan.chosen})
        if speed and not report.finalists:
            reverted = sum(layer.reverted for layer in report.layers)
            row = {"drop": accuracy.drop, "latency_ms": speed.latency_int8_ms, "reverted": reverted}
            rows.append({"run": name, **row, "written": True})
    rows.sort(key=lambda row: (row["latency_ms"], row["drop"], row["run"]))
    found, least = list[TradeFacts](), float("inf")
    for row in rows:
        found.append(TradeFacts(**row, best=row["drop"] < least))
        least = min(least, row["drop"])
    return found


def _measure(report: Report) -> tuple[str, str] | None:
    return (report.accuracy.metric, report.accuracy.drop_kind) if report.accuracy else None


def _layers(reports: Sequence[Report]) -> list[LayerOfRuns]:
    known = [{layer.name: layer for layer in report.layers} for report in reports]
    found: list[LayerOfRuns] = []
    for name in dict.fromkeys(layer.name for report in reports for layer in report.layers):
        layers = [layers.get(name) for layers in known]
        type_ = next(layer.type for layer in layers if layer is not None)
        found.append(LayerOfRuns(name=name, type=type_, runs=[_layer(layer) for layer in layers]))
    return found


def _layer(layer: LayerFacts | None) -> LayerOfRun | None:
    if layer is None:
        return None
    executed = layer.executed or layer.planned
    facts = {"sqnr_db": layer.sqnr_db, "time_ms": layer.time_int8_ms}
    return LayerOfRun(executed=executed, output=layer.output_precision, **facts)


def _notes(names: Sequence[str], reports: Sequence[Report]) -> list[str]:
    """Return why figures of these runs may not be compared."""
    asked = (
        ("are of different models", [report.model.fingerprint for report in reports]),
        ("measured accuracy with different metrics", [_measure(report) for report in reports if report.accuracy]),
        ("measured accuracy on different data", [report.validation for report in reports if report.accuracy]),
        ("ran on different CPUs, so that their times say nothing of each other",
         [report.environment.get("cpu") for report in reports if report.speed]),
    )  # fmt: skip
    found = [f"The runs {what}." for what, values in asked if len(set(values)) > 1]
    missing = [name for name, report in zip(names, reports, strict=True) if report.accuracy is None]
    if missing:
        found.append(f"No accuracy was measured in {', '.join(missing)}.")
    return found


def render_runs_text(found: RunsCompared, width: int = 100, color: bool = False) -> str:
    """Return the runs for a terminal, a row each, the trade between drop and time, and what can't be compared."""
    titles = ("run", "FP32", "INT8", "drop", "95 %", "latency", "weights", "in INT8", "status")
    rows = [_row(run) for run in found.runs]
    lines = [rule(numbers.plural(len(found.runs), "run"), width, color), ""]
    lines += table(titles, rows, width, right=(1, 2, 3, 5, 6, 7), color=color)
    best = [point for point in found.trade if point.best]
    if len(found.trade) > 1:
        lines += ["", rule("drop against time", width, color)]
        run = {run.name: run for run in found.runs}
        for point in best:
            said = drop_text(run[point.run].drop_kind, run[point.run].unit, point.drop)
            time = numbers.milliseconds(point.latency_ms)
            lines += wrap(f"{time}, drop {said}: {point.run}, {point.reverted} reverted", width)
    differ = sum(_differs(layer) for layer in found.layers)
    lines += ["", f"{differ} of {numbers.plural(len(found.layers), 'layer')} executed in different precisions"]
    for note in found.notes:
        lines += ["", *wrap(printable(note), width)]
    return "\n".join(lines) + "\n"


def _row(run: RunFacts) -> tuple[str, ...]:
    cells = [numbers.MISSING] * 4
    if run.baseline is not None and run.quantized is not None and run.drop is not None:
        ends = [drop_number(run.drop_kind, run.unit, end) for end in run.interval or ()]
        interval = " … ".join(ends) or numbers.MISSING
        cells = [numbers.in_unit(run.unit, run.baseline), numbers.in_unit(run.unit, run.quantized)]
        cells += [drop_text(run.drop_kind, run.unit, run.drop), interval]
    return (
        run.name,
        *cells,
        numbers.milliseconds(run.latency_int8_ms),
        numbers.size(run.bytes_after),
        f"{run.int8_layers}/{run.layers}",
        run.status.replace("_", " "),
    )


def _differs(layer: LayerOfRuns) -> bool:
    return len({one.executed if one else "" for one in layer.runs}) > 1


def write_runs_html(found: RunsCompared, path: str | Path) -> Path:
    """Write the page atomically and return its path.

    Raises:
        OutputError: The file can't be written.
    """
    return write_text(path, render_runs_html(found))


def render_runs_html(found: RunsCompared) -> str:
    """Return the runs as one page: figures, drop against time, the samples that change, layers side by side."""
    chart = trade_chart(found)
    pictures = []
    for run in found.runs:
        pairs = addressed(read_report(run.folder).pictures, Path(run.folder))
        pictures += [(run.name, picture, address) for picture, address in pairs]
    return render_page(
        "runs.html.j2",
        tables={"layers": layers_table(found).data()} if found.layers else {},
        charts={"trade": chart} if chart else {},
        title="Runs – calib compare",
        found=found,
        rows_of_runs=[[*_row(run)[:1], run.model, *_row(run)[1:]] for run in found.runs],
        trade=chart,
        pictures=pictures,
    )


def layers_table(found: RunsCompared) -> Table:
    """Return a row a layer, with what it executed in, its SQNR and its time in each run."""
    columns = [Column("layer", width=34), Column("type", width=16)]
    for run in found.runs:
        columns += [Column(run.name, "precision"), Column(f"{run.name}: SQNR", "db"), Column(f"{run.name}: time", "us")]
    rows: list[list[Any]] = []
    for layer in found.layers:
        row: list[Any] = [layer.name, layer.type]
        for one in layer.runs:
            row += [one.executed, one.sqnr_db, one.time_ms] if one else ["", None, None]
        rows.append(row)
    differ = [place for place, layer in enumerate(found.layers) if _differs(layer)]
    return Table("layer", tuple(columns), rows, {"executed differently": differ})
