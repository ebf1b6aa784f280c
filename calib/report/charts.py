"""Charts as Vega-Lite specifications: plain data without a single colour, so that tests can read them.

A chart's ``description`` says in words what it shows; colours come from ``calib.report.theme``.
"""

from __future__ import annotations

import math
from typing import Any

from calib.accuracy.layer_error import JUMP_DB
from calib.report import numbers
from calib.report.escape import shorten
from calib.report.histogram import histogram_chart
from calib.report.knee import knee_chart
from calib.report.vega import SCHEMA, Spec, span
from calib.values.accuracy_facts import AccuracyFacts
from calib.values.comparison import Comparison
from calib.values.drops import drop_scale, drop_unit
from calib.values.facts import Report
from calib.values.runs import RunsCompared

MOST_RANKED = 30
MOST_NAMED = 3  # layers that a description names
MANY = 300  # points from which a screen reader gets the description and the table only
_LABEL_WIDTH = 46


def drop_chart(accuracy: AccuracyFacts) -> Spec:
    """Draw the drop as a point, its interval as a line through it, and the budget as a dashed line."""
    scale, unit = numbers.drop_scale(accuracy), numbers.drop_unit(accuracy)
    low, high = accuracy.interval or (accuracy.drop, accuracy.drop)
    row = {"drop": accuracy.drop * scale, "low": low * scale, "high": high * scale}
    x = {
        "type": "quantitative",
        "title": f"accuracy drop, {unit}" if unit else "accuracy drop",
        "scale": {"zero": True},
    }
    layers: list[Spec] = [
        {"mark": {"type": "rule", "strokeWidth": 4, "strokeCap": "round"}, "encoding": span("low", "high", x)},
        {
            "mark": {"type": "point", "filled": True, "size": 130, "opacity": 1},
            "encoding": {"x": {"field": "drop", **x}},
        },
    ]
    if accuracy.budget is not None:
        layers += _budget("x", accuracy.budget * scale, x, numbers.drop(accuracy, accuracy.budget))
    words = f"Drop {numbers.drop(accuracy, accuracy.drop)}"
    words += f", 95 % interval {numbers.interval(accuracy)}" if accuracy.interval else ""
    words += f", budget {numbers.drop(accuracy, accuracy.budget)}" if accuracy.budget is not None else ", no budget"
    return _chart(words + ".", {"values": [row]}, layer=layers, height=50)


def latency_chart(report: Report) -> Spec:
    """Draw the medians of f32, the default precision and INT8 as bars."""
    speed = report.speed
    assert speed is not None, "drawn only where latency was measured"
    default = f"default ({speed.default_precision})" if speed.default_precision else "default"
    rows = [
        {"label": "f32", "ms": speed.latency_f32_ms, "kind": "floating point"},
        {"label": default, "ms": speed.latency_default_ms, "kind": "floating point"},
        {"label": "INT8", "ms": speed.latency_int8_ms, "kind": "INT8"},
    ]
    for row in rows:
        row["text"] = numbers.milliseconds(row["ms"])
    y = {"field": "label", "type": "nominal", "sort": [row["label"] for row in rows], "title": None}
    x: Spec = {"field": "ms", "type": "quantitative", "title": "latency, ms"}
    # Room for the figure beside the longest bar.
    x["scale"] = {"domainMin": 0, "domainMax": 1.35 * max(row["ms"] for row in rows), "nice": False}
    words = "Median latency: " + ", ".join(f"{row['label']} {row['text']}" for row in rows) + "."
    bars = [
        {"transform": [{"filter": f"datum.kind {sign} 'INT8'"}], "mark": {"type": "bar", "height": 17, **style}}
        for sign, style in (("===", {}), ("!==", {"style": "muted"}))
    ]
    labels = {"mark": {"type": "text", "align": "left", "dx": 5}, "encoding": {"text": {"field": "text"}}}
    return _chart(words, {"values": rows}, encoding={"x": x, "y": y}, layer=[*bars, labels], height=26 * len(rows))


def sqnr_chart(report: Report) -> Spec:
    """Draw the SQNR of every quantized layer in the order of the model."""
    rows = [
        {"place": place, "layer": layer.name, "sqnr": round(layer.sqnr_db, 2)}
        for place, layer in enumerate(report.layers, 1)
        if layer.sqnr_db is not None and abs(layer.sqnr_db) != float("inf")
    ]
    worst = min(rows, key=lambda row: row["sqnr"])
    lowest = f"{numbers.decibel(worst['sqnr'])} at {worst['layer']}"
    words = f"SQNR of {numbers.plural(len(rows), 'layer')}; the lowest is {lowest}."
    encoding = {
        "x": {
            "field": "place",
            "type": "quantitative",
            "title": "place of the layer in the model",
            **_tight(),
            "axis": {"grid": False},
        },
        "y": {"field": "sqnr", "type": "quantitative", "title": "SQNR, dB", "scale": {"zero": False}},
        "tooltip": [{"field": "layer"}, {"field": "sqnr", "title": "SQNR, dB"}],
    }
    many = len(rows) >= MANY
    mark: Spec = {"type": "point", "filled": True, "size": 14 if many else 45, "opacity": 0.8}
    if many:
        mark["aria"] = False  # words for each of the points take longer than drawing them; the table says the same
    return _chart(words, {"values": rows}, mark=mark, encoding=encoding, height=200)


def jumps_chart(found: Comparison) -> Spec | None:
    """Draw the SQNR of every layer compared, in the order of the model, and mark where the error jumps.

    None where no layer has a finite one.
    """
    rows = [
        {
            "place": place,
            "layer": layer.name,
            "sqnr": round(layer.sqnr_db, 2),
            "lost": round(layer.jump_db, 2),
            "kind": "the error jumps" if layer.jump_db >= JUMP_DB else "no jump",
        }
        for place, layer in enumerate(found.layers, 1)
        if layer.sqnr_db is not None and math.isfinite(layer.sqnr_db)
    ]
    if not rows:
        return None
    jumping = [row for row in rows if row["lost"] >= JUMP_DB]
    most = sorted(jumping, key=lambda row: -row["lost"])[:MOST_NAMED]
    named = "; ".join(f"{row['layer']}, by {numbers.decibel(row['lost'])}" for row in most)
    words = f"SQNR of {numbers.plural(len(rows), 'layer')}; " + (
        f"the error jumps at {numbers.plural(len(jumping), 'layer')}, the most at {named}." if jumping else "no jump."
    )
    x = {"field": "place", "type": "quantitative", "title": "place of the layer in the model", **_tight()}
    y = {"field": "sqnr", "type": "quantitative", "title": "SQNR, dB", "scale": {"zero": False}}
    kinds = {"domain": ["no jump", "the error jumps"]}
    encoding = {
        "x": {**x, "axis": {"grid": False}},
        "y": y,
        "color": {"field": "kind", "title": None, "scale": kinds},
        "shape": {"field": "kind", "title": None, "scale": {**kinds, "range": ["circle", "triangle-down"]}},
        "tooltip": [{"field": "layer"}, {"field": "sqnr", "title": "SQNR, dB"}, {"field": "lost", "title": "lost, dB"}],
    }
    mark: Spec = {"type": "point", "filled": True, "size": 70, "opacity": 0.85}
    if len(rows) >= MANY:
        mark["aria"] = False  # as in sqnr_chart
    return _chart(words, {"values": rows}, mark=mark, encoding=encoding, height=220)


def ranking_chart(report: Report) -> Spec:
    """Draw the most sensitive units on a logarithmic scale; what stayed in floating point has its own shape."""
    reverted = {layer.name for layer in report.layers if layer.reverted}
    ranked = sorted(report.ranking, key=lambda fact: -fact.sensitivity)
    most = [fact for fact in ranked if fact.sensitivity > 0][:MOST_RANKED]
    labels = _labels([" + ".join(fact.layers) for fact in most])
    rows = [
        {
            "label": label,
            "sensitivity": fact.sensitivity,
            "kind": "reverted" if reverted & set(fact.layers) else "stays in INT8",
        }
        for label, fact in zip(labels, most, strict=True)
    ]
    kinds = {"domain": ["stays in INT8", "reverted"]}
    encoding = {
        "x": {
            "field": "sensitivity",
            "type": "quantitative",
            "scale": {"type": "log", "nice": False, "padding": 10},
            "axis": {"format": "~e", "values": _log_ticks([row["sensitivity"] for row in rows])},
            "title": "sensitivity (normalized squared error)",
        },
        "y": {"field": "label", "type": "nominal", "sort": None, "title": None, "axis": {"grid": True}},
        "color": {"field": "kind", "scale": kinds},
        "shape": {"field": "kind", "scale": {**kinds, "range": ["circle", "diamond"]}},
        "tooltip": [{"field": "label"}, {"field": "sensitivity", "format": ".3~g"}, {"field": "kind"}],
    }
    words = f"The {numbers.plural(len(rows), 'unit')} most sensitive to being quantized alone, of {len(report.ranking)}"
    first = f"; the first is {rows[0]['label']} with {numbers.significant(rows[0]['sensitivity'])}" if rows else ""
    mark = {"type": "point", "filled": True, "size": 80, "opacity": 1}
    return _chart(f"{words}{first}.", {"values": rows}, mark=mark, encoding=encoding, height=17 * len(rows))


def search_chart(report: Report, accuracy: AccuracyFacts) -> Spec:
    """Draw every evaluation: drop against layers reverted, joined in the order of the search."""
    scale = numbers.drop_scale(accuracy)
    rows = [
        {
            "step": fact.step,
            "layers": len(fact.reverted),
            "drop": fact.drop * scale,
            "kind": "within the budget" if fact.within else "over the budget",
            "what": fact.kind,
        }
        for fact in report.search
    ]
    x = {"field": "layers", "type": "quantitative", "title": "layers reverted to floating point", "axis": _whole(rows)}
    x["scale"] = {"zero": True, "padding": 14, "nice": False}
    y = {"field": "drop", "type": "quantitative", "title": _titled_drop(accuracy)}
    kinds = {"domain": ["within the budget", "over the budget"]}
    points = {
        "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
        "encoding": {
            "color": {"field": "kind", "scale": kinds},
            "shape": {"field": "kind", "scale": {**kinds, "range": ["circle", "triangle-up"]}},
            "tooltip": [{"field": "step"}, {"field": "what"}, {"field": "layers"}, {"field": "drop", "format": ".3~g"}],
        },
    }
    path = {"mark": {"type": "line", "style": "quiet"}, "encoding": {"order": {"field": "step"}}}
    budget = (
        [] if accuracy.budget is None else _budget("y", accuracy.budget * scale, {"type": "quantitative"}, "budget")
    )
    words = "Search: " + "; ".join(_step_words(row, accuracy) for row in rows[:12]) + (" …" if len(rows) > 12 else ".")
    return _chart(words, {"values": rows}, encoding={"x": x, "y": y}, layer=[path, points, *budget], height=240)


def finalist_chart(report: Report, accuracy: AccuracyFacts) -> Spec:
    """Draw accuracy drop against latency for every plan measured, and for the FP32 model."""
    scale = numbers.drop_scale(accuracy)
    rows = [
        {
            "ms": fact.latency_ms,
            "drop": fact.drop * scale,
            "kind": "chosen" if fact.chosen else "measured",
            "label": f"{len(fact.reverted)} reverted",
        }
        for fact in report.finalists
    ]
    if report.speed:
        if not rows:  # nothing had to be reverted, so there was no choice to time
            drop = accuracy.drop if accuracy.given_up_drop is None else accuracy.given_up_drop
            last = {
                "ms": report.speed.latency_int8_ms,
                "drop": drop * scale,
                "kind": "chosen",
                "label": "INT8",
            }
            rows.append(last if report.status != "fp32_kept" else {**last, "kind": "measured"})
        rows.append({"ms": report.speed.latency_f32_ms, "drop": 0.0, "kind": "FP32", "label": "FP32"})
    kinds = {"domain": ["measured", "chosen", "FP32"]}
    encoding = {
        "x": {"field": "ms", "type": "quantitative", "title": "latency, ms", "scale": {"zero": False, "padding": 56}},
        "y": {"field": "drop", "type": "quantitative", "title": _titled_drop(accuracy), "scale": {"padding": 12}},
    }
    points = {
        "mark": {"type": "point", "filled": True, "size": 110, "opacity": 1},
        "encoding": {
            "color": {"field": "kind", "scale": kinds},
            "shape": {"field": "kind", "scale": {**kinds, "range": ["circle", "diamond", "square"]}},
        },
    }
    labels = {"mark": {"type": "text", "align": "left", "dx": 10}, "encoding": {"text": {"field": "label"}}}
    budget = (
        [] if accuracy.budget is None else _budget("y", accuracy.budget * scale, {"type": "quantitative"}, "budget")
    )
    words = "Plans measured: " + "; ".join(
        f"{row['label']} {numbers.milliseconds(row['ms'])}, drop {numbers.drop(accuracy, row['drop'] / scale)}"
        + (" (chosen)" if row["kind"] == "chosen" else "")
        for row in rows
    )
    return _chart(words + ".", {"values": rows}, encoding=encoding, layer=[points, labels, *budget], height=240)


def trade_chart(found: RunsCompared) -> Spec | None:
    """Draw the drop of every plan that was timed against its time, over all runs; None where there is none."""
    if not found.trade:
        return None
    one = next(run for run in found.runs if run.name == found.trade[0].run)
    scale, unit = drop_scale(one.drop_kind, one.unit), drop_unit(one.drop_kind, one.unit)
    rows = [
        {
            "ms": point.latency_ms,
            "drop": point.drop * scale,
            "run": point.run,
            "kind": "nothing here is better" if point.best else "another is better",
            "reverted": point.reverted,
        }
        for point in found.trade
        if math.isfinite(point.drop)
    ]
    kinds = {"domain": ["another is better", "nothing here is better"]}
    encoding = {
        "x": {"field": "ms", "type": "quantitative", "title": "latency, ms", **_tight(), "axis": {"tickCount": 8}},
        "y": {"field": "drop", "type": "quantitative", "title": f"{one.metric} drop, {unit}", "scale": {"padding": 12}},
        "color": {"field": "run", "title": None},
        "shape": {"field": "kind", "title": None, "scale": {**kinds, "range": ["circle", "diamond"]}},
        "tooltip": [{"field": "run"}, {"field": "ms", "format": ".4~g"}, {"field": "drop", "format": ".3~g"},
                    {"field": "reverted", "title": "layers reverted"}],
    }  # fmt: skip
    best = [row for row in rows if row["kind"] == kinds["domain"][1]]
    words = (
        f"{numbers.plural(len(rows), 'plan')} of {numbers.plural(len(found.runs), 'run')}; nothing is better than "
        + (", ".join(f"{row['run']} at {numbers.milliseconds(row['ms'])}" for row in best[:MOST_NAMED]) + ".")
    )
    mark: Spec = {"type": "point", "filled": True, "size": 110, "opacity": 0.9}
    return _chart(words, {"values": rows}, mark=mark, encoding=encoding, height=260)


def stage_chart(report: Report) -> Spec:
    """Draw what every stage cost: wall time as bars, CPU time as ticks."""
    rows = [{"stage": stage.name, "wall": stage.wall, "cpu": stage.cpu} for stage in report.stages]
    y = {"field": "stage", "type": "nominal", "sort": None, "title": None}
    x = {"type": "quantitative", "title": "seconds: bar wall time, line CPU time"}
    layers = [
        {"mark": {"type": "bar", "height": 14}, "encoding": {"x": {"field": "wall", **x}}},
        {
            "mark": {"type": "tick", "thickness": 3, "size": 18, "style": "budget", "strokeDash": [1, 0]},
            "encoding": {"x": {"field": "cpu", **x}},
        },
    ]
    words = "Cost of the stages: " + ", ".join(f"{row['stage']} {numbers.seconds(row['wall'])}" for row in rows) + "."
    return _chart(words, {"values": rows}, encoding={"y": y}, layer=layers, height=24 * len(rows))


def report_charts(report: Report) -> dict[str, Spec]:
    """Return every chart for which the report holds data, by the name of its place on the page."""
    found: dict[str, Spec] = {}
    if report.accuracy:
        found["drop"] = drop_chart(report.accuracy)
        if len(report.search) > 1:  # one step is a sentence
            found["search"] = search_chart(report, report.accuracy)
        if report.finalists or report.speed:
            found["finalists"] = finalist_chart(report, report.accuracy)
    if report.speed:
        found["latency"] = latency_chart(report)
    if any(layer.sqnr_db is not None and abs(layer.sqnr_db) != float("inf") for layer in report.layers):
        found["sqnr"] = sqnr_chart(report)
    if any(fact.sensitivity > 0 for fact in report.ranking):
        found["ranking"] = ranking_chart(report)
    if report.knee and len(report.knee.points) > 1:
        found["knee"] = knee_chart(report.knee, report.speed)
    if report.stages:
        found["stages"] = stage_chart(report)
    if any(q.histogram_counts for q in report.quantizers):
        found["histogram"] = histogram_chart()
    return found


def _chart(words: str, data: Spec, **rest: Any) -> Spec:
    """Return a chart as wide as its place; its description is what a screen reader says."""
    fit = {"type": "fit-x", "contains": "padding"}
    return {"$schema": SCHEMA, "description": words, "data": data, "autosize": fit, **rest}


def _budget(channel: str, at: float, scale: Spec, label: str) -> list[Spec]:
    """Return a dashed line at the budget with its name."""
    text = {"type": "text", "style": "budget-label", "text": label if "budget" in label else f"budget {label}"}
    place: Spec = (
        {"dy": -6, "baseline": "bottom", "y": 0}
        if channel == "x"
        else {"align": "right", "x": "width", "dx": -4, "dy": -7}
    )
    data = {"values": [{"budget": at}]}
    position = {channel: {"field": "budget", **scale}}
    other = "y" if channel == "x" else "x"
    return [
        {"data": data, "mark": {"type": "rule", "style": "budget"}, "encoding": {**position, other: None}},
        {"data": data, "mark": {**text, **place}, "encoding": {**position, other: None}},
    ]


def _titled_drop(accuracy: AccuracyFacts) -> str:
    unit = numbers.drop_unit(accuracy)
    return f"{accuracy.metric} drop, {unit}" if unit else f"{accuracy.metric} drop"


def _step_words(row: Spec, accuracy: AccuracyFacts) -> str:
    drop = numbers.drop(accuracy, row["drop"] / numbers.drop_scale(accuracy))
    return f"{numbers.plural(row['layers'], 'layer')} reverted, drop {drop}"


def _whole(rows: list[Spec]) -> Spec:
    """Return an axis with whole numbers only."""
    return {"tickMinStep": 1, "format": "d", "tickCount": min(10, max((row["layers"] for row in rows), default=0) + 1)}


def _tight() -> Spec:
    return {"scale": {"zero": False, "nice": False, "padding": 6}}


def _log_ticks(values: list[float]) -> list[float]:
    """Return ticks for a logarithmic axis: powers of ten, with 2 and 5 between them where there are few."""
    low, high = min(values), max(values)
    steps = (1, 2, 5) if high < 100 * low else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [tick for power in powers for step in steps if low <= (tick := float(f"{step}e{power}")) <= high]
    return ticks if len(ticks) > 1 else sorted({float(f"{low:.2g}"), *ticks, float(f"{high:.2g}")})


def _labels(names: list[str]) -> list[str]:
    """Return names short enough for an axis and still different from each other."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        # OpenVINO's ONNX frontend ends the name of every convolution that had a bias so; it tells nothing.
        label = shorten(name.removesuffix("/WithoutBiases"), _LABEL_WIDTH)
        seen[label] = seen.get(label, 0) + 1
        found.append(label if seen[label] == 1 else f"{label} ({seen[label]})")
    return found
