"""Pages from templates, and the scripts and styles that they name: each with its hash in its address."""

from __future__ import annotations

import functools
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from calib.report import numbers
from calib.values.drops import drop_text
from calib.values.version import __version__

# name → package and folder; the tables and the look are those of the report.
_ASSETS = {
    "page.css": ("calib.report", "page"),
    "table.js": ("calib.report", "page"),
    "studio.css": ("calib.studio", "page"),
    "studio.js": ("calib.studio", "page"),
    "htmx.min.js": ("calib.report", "vendor"),
    "htmx-ext-sse.min.js": ("calib.report", "vendor"),
}

# What a page says of the flow so far, in its address: two tabs are two flows, and a page can be loaded again.
CARRIED = ("model", "calibration", "validation", "metric", "max_drop", "min_sqnr", "effort", "pre")


@dataclass(frozen=True)
class Asset:
    """A script or style sheet, and the address that it is served at for ever."""

    content: bytes
    kind: str
    address: str


@functools.cache
def assets() -> Mapping[str, Asset]:
    """Return the scripts and styles by name."""
    found = {}
    for name, (package, folder) in _ASSETS.items():
        content = (resources.files(package) / folder / name).read_bytes()
        kind = "text/css" if name.endswith(".css") else "text/javascript"
        digest = hashlib.sha256(content).hexdigest()[:16]
        found[name] = Asset(content, f"{kind}; charset=utf-8", f"/static/{digest}/{name}")
    return found


async def static(request: Request) -> Response:
    """Serve a script or a style sheet."""
    asset = assets().get(request.path_params["name"])
    if asset is None or asset.address != request.url.path:
        return PlainTextResponse("there is no such file", 404)
    return Response(asset.content, media_type=asset.kind, headers={"cache-control": "max-age=31536000, immutable"})


@functools.cache
def _environment() -> Environment:
    made = Environment(
        loader=ChoiceLoader([PackageLoader("calib.studio", "page"), PackageLoader("calib.report", "page")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,  # an update of calib under a server that runs must not mix two versions
    )
    made.globals |= {"asset": lambda name: assets()[name].address, "numbers": numbers, "version": __version__}
    made.filters |= {"command": shlex.join, "large": large, "figure": _figure, "drop": _drop}
    return made


def large(count: int) -> str:
    """Return a count as people say it: 569 million is ``569 M``."""
    value = float(count)
    for unit in ("", " k", " M", " G"):
        if value < 1000:
            return f"{count}" if not unit else f"{numbers.significant(value)}{unit}"
        value /= 1000
    return f"{numbers.significant(value)} T"


def _figure(value: float, board: Mapping[str, Any]) -> str:
    """Return a value of the metric in the row of a run."""
    return f"{value * 100:.2f} %" if board["unit"] == "fraction" else f"{value:.4g} {board['unit']}".rstrip()


def _drop(value: float, board: Mapping[str, Any]) -> str:
    return drop_text("absolute", board["unit"], value)


def address(path: str, flow: Mapping[str, str], **more: str) -> str:
    """Return an address with what is known of the flow; empty values are left out."""
    given = {key: value for key, value in {**flow, **more}.items() if value}
    return f"{quote(path)}?{urlencode(given)}" if given else quote(path)


def flow_of(request: Request) -> dict[str, str]:
    """Return what the address says of the flow, "" where it says nothing."""
    return {key: request.query_params.get(key, "") for key in CARRIED}


def render(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """Return a page.

    Args:
        request: Request that it answers.
        template: File name in ``studio/page``.
        status: Status of the answer.
        context: Variables of the template, escaped where they are used.
    """
    flow = context.pop("flow", None) or flow_of(request)
    text = fragment(
        template,
        flow=flow,
        here=request.url.path,
        to=functools.partial(address, flow=flow),
        studio=request.app.state.studio,
        **context,
    )
    # A name may hold bytes that are no text; they are shown as escapes.
    return HTMLResponse(text.encode("utf-8", "backslashreplace"), status)


def fragment(template: str, **context: Any) -> str:
    """Return a part of a page, such as what an event carries."""
    return _environment().get_template(template).render(**context)


def message(request: Request, heading: str, lines: Sequence[str], status: int) -> HTMLResponse:
    """Return a page with a message, or only the message where a part of a page was asked for."""
    template = "said.html.j2" if request.headers.get("hx-request") else "message.html.j2"
    return render(request, template, status=status, heading=heading, lines=lines)
