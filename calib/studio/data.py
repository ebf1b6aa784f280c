"""The data of the folder, and a few samples as the network sees them, beside the preprocessing that makes them so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import HTMLResponse

from calib.config.preprocessing import Preprocessing
from calib.errors import CalibError
from calib.samples.source import parse_source
from calib.studio import start
from calib.studio.allowed import Allowed
from calib.studio.files import listing
from calib.studio.questions import PROBE
from calib.studio.rendering import flow_of, render
from calib.zoo.cost import count

SHOWN = 12

# The fields of the form, in the order in which the steps are done.
STEPS = ("layout", "color", "resize_short", "resize", "resize_long", "letterbox", "crop", "pad", "pad_value")
STEPS += ("pad_position", "filter", "mean", "scale")


async def page(request: Request) -> HTMLResponse:
    """Show the data that there are, and samples of those that are looked at."""
    studio = request.app.state.studio
    flow = _with_steps(request)
    look = request.query_params.get("look") or flow["validation"] or flow["calibration"]
    _, data = await run_sync(listing, studio.allowed, studio.output)
    errors: tuple[str, ...] = ()
    steps: dict[str, Any] = {}
    try:
        steps = start.preprocessing_of(flow["pre"])
        if look:
            studio.allowed.data(look)
    except CalibError as error:
        errors, look = error.lines, ""
    return render(
        request,
        "data.html.j2",
        title="Data",
        flow=flow,
        look=look,
        data=data,
        errors=errors,
        steps=[_step(name, steps) for name in STEPS],
        open_steps=bool(steps),
    )


async def samples(request: Request) -> HTMLResponse:
    """Return the grid of samples, once they have been through the network."""
    studio = request.app.state.studio
    flow = _with_steps(request)
    model, look = flow["model"], request.query_params.get("look", "")
    words, files = question(studio.allowed, model, look, start.preprocessing_of(flow["pre"]))
    answer = await studio.questions.ask(words, files, again=bool(request.query_params.get("again")))
    steps = start.preprocessing_of(flow["pre"])
    command = ["calib", "preview", model, "--calibration", look]
    command += ["--set", f"preprocessing={json.dumps(steps)}"] if steps else []
    there = await run_sync(count, look, str(studio.allowed.folder))
    context = {"answer": answer, "found": answer.found, "command": command, "there": there}
    return render(request, "data_samples.html.j2", flow=flow, look=look, **context)


def question(allowed: Allowed, model: str, data: str, steps: Mapping[str, Any]) -> tuple[list[str], list[Path]]:
    """Return the probe that shows samples, and the files that its answer depends on.

    Raises:
        CalibError: The model or the data are outside of what is allowed.
    """
    path, data = allowed.existing(model), allowed.data(data)
    asked = {"model": model, "data": data, "count": SHOWN, "preprocessing": dict(steps), "allow_python": allowed.python}
    return [PROBE, json.dumps(asked)], [path, *places(allowed, data)]


def places(allowed: Allowed, data: str) -> list[Path]:
    """Return the files or the folder of data, on which answers about them depend."""
    source = parse_source(data, (), allowed.folder)
    return [] if source.format == "python" else [source.path]


def _with_steps(request: Request) -> dict[str, str]:
    """Return the flow, in which the fields of the form, if it was sent, replace the preprocessing in the address."""
    flow = flow_of(request)
    if any(f"step_{name}" in request.query_params for name in STEPS):
        given = {name: request.query_params.get(f"step_{name}", "").strip() for name in STEPS}
        flow["pre"] = "; ".join(f"{name}={text}" for name, text in given.items() if text)
    return flow


def _step(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a field of the form: its name, value, choices and help."""
    field = Preprocessing.model_fields[name]
    return {
        "name": name,
        "value": start.preprocessing_text({name: given[name]}).partition("=")[2] if name in given else "",
        "choices": _choices(field.annotation),
        "help": field.description or "",
    }


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [choice for part in get_args(annotation) for choice in _choices(part)]
