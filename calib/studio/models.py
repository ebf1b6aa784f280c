"""The models of the folder, and what is inside of each."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from calib.errors import UsageError
from calib.report import digest
from calib.report.tables import Column, Table
from calib.studio.files import listing
from calib.studio.questions import CALIB, Answer
from calib.studio.rendering import render
from calib.values.inspection import Inspection


async def page(request: Request) -> HTMLResponse:
    """List the models; what is known of each is filled in, the rest is asked for while the page is read."""
    studio = request.app.state.studio
    models, _ = await run_sync(listing, studio.allowed, studio.output)
    rows = []
    for one in models:
        answer = studio.questions.known(*question(one.argument, one.path))
        rows.append((one, answer and facts_of(answer)))
    return render(request, "models.html.j2", title="Models", rows=rows)


async def model(request: Request) -> HTMLResponse:
    """Show one model."""
    given = request.query_params.get("model", "")
    answer = await answered(request, given)
    if isinstance(answer, HTMLResponse):
        return answer
    found = inspection(answer)
    return render(
        request,
        "model.html.j2",
        title=Path(given).name,
        answer=answer,
        found=found,
        facts=facts_of(answer),
        reasons=reasons(found) if found else [],
        io=_tensors(found) if found else [],
        command=["calib", "inspect", given],
    )


async def answered(request: Request, given: str) -> Answer | HTMLResponse:
    """Return what is in a model; where that is not known yet, a page that waits for it and then becomes this one."""
    studio = request.app.state.studio
    words, files = question(given, studio.allowed.existing(given))
    if (known := studio.questions.known(words, files)) is not None and not request.query_params.get("again"):
        return known
    task = studio.questions.ask(words, files, again=bool(request.query_params.get("again")))
    if request.query_params.get("wait"):
        return await task
    query = urlencode([*request.query_params.multi_items(), ("wait", "1")])
    address = f"{request.url.path}?{query}"
    return render(request, "waiting.html.j2", title=Path(given).name, address=address)


async def facts(request: Request) -> HTMLResponse:
    """Return the row of one model once it is known."""
    studio = request.app.state.studio
    given = request.query_params.get("model", "")
    path = studio.allowed.existing(given)
    answer = await studio.questions.ask(*question(given, path))
    return render(request, "model_facts.html.j2", facts=facts_of(answer))


async def layers(request: Request) -> Response:
    """Return the layers of a model as the data of a table."""
    studio = request.app.state.studio
    given = request.query_params.get("model", "")
    answer = await studio.questions.ask(*question(given, studio.allowed.existing(given)))
    if (found := inspection(answer)) is None:
        raise UsageError(*answer.error)
    return Response(json.dumps(layer_table(found).data()), media_type="application/json")


def question(argument: str, path: Path) -> tuple[list[str], list[Path]]:
    """Return the command that looks into a model, and the files it reads."""
    weights = path.with_suffix(".bin")
    return [CALIB, "--quiet", "inspect", argument, "--json"], [path, *([weights] if path.suffix == ".xml" else [])]


def inspection(answer: Answer) -> Inspection | None:
    """Return what was found, None if the model can't be read."""
    return Inspection.model_validate(answer.found) if answer.found is not None else None


def facts_of(answer: Answer) -> dict[str, Any]:
    """Return what the list says of a model: state, inputs, layers, multiply-adds, share in INT8, and why not."""
    found = answer.found
    if found is None:
        return {"state": "failed", "why": " ".join(answer.error)}
    known = found["layers"]
    macs = sum(layer["macs"] for layer in known)
    planned = [layer for layer in known if layer["planned"] == "int8"]
    inside = sum(layer["macs"] for layer in planned)
    return {
        "state": "quantized" if found["quantized"] else "ready" if planned else "nothing",
        "inputs": ", ".join(f"{one['name']} {one['shape']}" for one in found["model"]["inputs"]),
        "operations": found["model"]["operations"],
        "layers": len(known),
        "int8": len(planned),
        "macs": macs,
        "share": inside / macs if macs else None,
    }


def _tensors(found: Inspection) -> list[list[str]]:
    groups = (("input", found.model.inputs), ("output", found.model.outputs))
    return [[kind, one.name, one.shape, one.type] for kind, group in groups for one in group]


def reasons(found: Inspection) -> list[list[str]]:
    """Return how many layers stay in floating point, for each reason, the most frequent first."""
    counted = Counter(layer.reason for layer in found.layers if layer.reason)
    return [[str(count), reason] for reason, count in counted.most_common()]


def layer_table(found: Inspection) -> Table:
    """Return the layers as the report shows them."""
    columns = (
        Column("layer", width=34),
        Column("type", width=16),
        Column("output", width=18),
        Column("weights", width=16),
        Column("multiply-adds", "count"),
        Column("executed" if found.quantized else "planned", "precision"),
        Column("why", width=60, help="why it is not in INT8"),
    )
    rows = [
        [
            layer.name,
            layer.type,
            layer.output_shape,
            layer.weight_shape,
            layer.macs or None,
            digest.executed_in(layer) if found.quantized else layer.planned,
            layer.reason,
        ]
        for layer in found.layers
    ]
    chosen = {
        "INT8": [i for i, layer in enumerate(found.layers) if layer.planned == "int8"],
        "floating point": [i for i, layer in enumerate(found.layers) if layer.planned == "float"],
    }
    return Table("layer", columns, rows, chosen)
