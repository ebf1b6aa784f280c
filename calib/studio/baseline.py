"""The FP32 model as it is: its accuracy with an interval, its latency and throughput, and where its time goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from calib.errors import UsageError
from calib.report.tables import Column, Table
from calib.studio import models, start
from calib.studio.allowed import Allowed
from calib.studio.data import places
from calib.studio.fits import fitting
from calib.studio.questions import CALIB
from calib.studio.rendering import flow_of, render

SECONDS = "3"  # of timing


async def page(request: Request) -> HTMLResponse:
    """Show what is measured, and the form that chooses it."""
    flow = flow_of(request)
    metrics: list[str] = []
    if flow["model"]:
        answer = await models.answered(request, flow["model"])
        if isinstance(answer, HTMLResponse):
            return answer
        found = models.inspection(answer)
        metrics = fitting(found) if found else []
    if flow["validation"] and not flow["metric"] and metrics:
        flow["metric"] = metrics[0]
    measured = bool(request.query_params.get("measure"))
    return render(request, "baseline.html.j2", title="Baseline", flow=flow, metrics=metrics, measured=measured)


async def accuracy(request: Request) -> HTMLResponse:
    """Return the accuracy once it is measured."""
    return await _answered(request, "baseline_accuracy.html.j2", accuracy_question)


async def speed(request: Request) -> HTMLResponse:
    """Return latency and throughput once they are measured."""
    return await _answered(request, "baseline_speed.html.j2", speed_question)


async def layers(request: Request) -> Response:
    """Return the time of each layer as the data of a table."""
    studio = request.app.state.studio
    words, files = layers_question(studio.allowed, flow_of(request))
    answer = await studio.questions.ask(words, files)
    if answer.found is None:
        raise UsageError(*answer.error)
    return Response(json.dumps(time_table(answer.found).data()), media_type="application/json")


async def _answered(request: Request, template: str, question: Any) -> HTMLResponse:
    studio = request.app.state.studio
    words, files = question(studio.allowed, flow_of(request))
    answer = await studio.questions.ask(words, files, again=bool(request.query_params.get("again")))
    shown = [CALIB, *(word for word in words[1:] if word not in ("--quiet", "--json"))]
    return render(request, template, answer=answer, found=answer.found, command=shown)


def accuracy_question(allowed: Allowed, flow: dict[str, str]) -> tuple[list[str], list[Path]]:
    """Return the command that measures the accuracy, and the files it reads."""
    path, data = allowed.existing(flow["model"]), allowed.data(flow["validation"])
    settings = start.settings_of({"metric": flow["metric"], "pre": flow["pre"]}, data)
    start.check_reach(settings, allowed)
    words = [CALIB, "--quiet", "evaluate", flow["model"], "--validation", data, "--metric", str(settings["metric"])]
    if steps := settings.get("preprocessing"):
        words += ["--set", f"preprocessing={json.dumps(steps)}"]
    return [*words, "--json"], [path, *places(allowed, data)]


def speed_question(allowed: Allowed, flow: dict[str, str]) -> tuple[list[str], list[Path]]:
    """Return the command that measures latency and throughput, and the files it reads."""
    path = allowed.existing(flow["model"])
    return [CALIB, "--quiet", "bench", flow["model"], "--seconds", SECONDS, "--json"], [path]


def layers_question(allowed: Allowed, flow: dict[str, str]) -> tuple[list[str], list[Path]]:
    """Return the command that times every layer, which compares the model with itself, and the files it reads."""
    path, data = allowed.existing(flow["model"]), allowed.data(flow["validation"] or flow["calibration"])
    words = [CALIB, "--quiet", "compare", flow["model"], flow["model"], "--data", data, "--samples", "4"]
    if steps := start.preprocessing_of(flow["pre"]):
        words += ["--set", f"preprocessing={json.dumps(steps)}"]
    return [*words, "--json"], [path, *places(allowed, data)]


def time_table(found: dict[str, Any]) -> Table:
    """Return the layers with their time and its share, the slowest first."""
    columns = (
        Column("layer", width=34),
        Column("time", "us", help="of one inference, in f32"),
        Column("share", "share", help="of the time of these layers"),
        Column("type", width=18),
        Column("output", width=18),
        Column("executed", "precision"),
    )
    layers = sorted(found["layers"], key=lambda one: -(one["time_before_ms"] or 0.0))
    whole = sum(one["time_before_ms"] or 0.0 for one in layers)
    rows = [
        [
            one["name"],
            one["time_before_ms"],
            one["time_before_ms"] / whole if one["time_before_ms"] and whole else None,
            one["type"],
            one["output_shape"],
            one["executed_before"],
        ]
        for one in layers
    ]
    return Table("layer", columns, rows)
