"""One run: live while it runs, its result afterwards, and what can be asked of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from anyio.to_thread import run_sync
from sse_starlette.sse import EventSourceResponse
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from calib.errors import UsageError
from calib.report.html import FILE_NAME as REPORT
from calib.studio import start
from calib.studio.live import Live
from calib.studio.rendering import CARRIED, fragment, render
from calib.studio.runs import Runs, board_of
from calib.studio.scatter import Point, Scatter, scatter
from calib.values.drops import drop_scale, drop_unit
from calib.zoo.jobs import DONE, JobRow
from calib.zoo.make_jobs import ZooJob

_WORDS = {
    "within_budget": "within the budget",
    "over_budget": "over the budget",
    "mostly_float": "within the budget, mostly in float",
    "slower": "within the budget, but slower",
    "fp32_kept": "FP32 kept",
    "within_budget_not_in_f32": "within the budget, not in f32",
    "within_budget_in_f32_only": "within the budget in f32 only",
}

PAGE = 100  # runs on one page of the list
LIVE_SECONDS = 0.5  # between two looks at the events of a run that somebody watches
_GOOD = ("within_budget", "within_budget_not_in_f32", "quantized")
_BAD = ("failed", "over_budget", "within_budget_in_f32_only")

# The report is a page of its own, which scripts of its own draw, in a frame that can reach nothing: no cookie, no page
# of the studio, no network. Its own policy names its scripts one by one; this one stands over it.
REPORT_POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


async def page(request: Request) -> HTMLResponse:
    """Show a run."""
    studio = request.app.state.studio
    row = studio.runs.row(request.path_params["key"])
    live = studio.runs.live(row)
    job = row.job
    done = row.status in DONE
    return render(
        request,
        "run.html.j2",
        title=row.name,
        row=row,
        folder=str(studio.runs.folders.root),
        result=str(studio.runs.folder(row)),
        tone=tone(row.status),
        words=words(row),
        asked=asked_for(job.settings),
        knee=bool(job.settings.get("knee")),
        searches=any(job.settings.get(key) is not None for key in ("metric", "max_drop", "min_sqnr")),
        waits=studio.runs.waits_for(row),
        clock=live.clock(time.time()) if row.status == "running" else None,
        live=live,
        plots=plots(live),
        board=board_of(row),
        log=list(live.lines),
        command=start.command_of(job, studio.allowed.folder),
        job=job,
        has_report=done and (studio.runs.folder(row) / REPORT).is_file(),
        flow=flow_of_job(job, studio.allowed.folder),
        again=f"/quantize?{urlencode(form_of_job(job, studio.allowed.folder))}",
    )


async def events(request: Request) -> Response:
    """Send what changes in a run while it is watched, from the event that the browser has seen last."""
    studio = request.app.state.studio
    row = studio.runs.row(request.path_params["key"])
    seen = _number(request.headers.get("last-event-id")) or _number(request.query_params.get("after"))
    return EventSourceResponse(_changes(studio.runs, row.key, seen), ping=20)


async def report(request: Request) -> Response:
    """Send the report, for its frame or as a page of its own."""
    studio = request.app.state.studio
    row = studio.runs.row(request.path_params["key"])
    path = studio.runs.folder(row) / REPORT
    if row.status not in DONE or not path.is_file():
        raise HTTPException(404, f"{row.name} has no report")
    headers = {"content-security-policy": REPORT_POLICY, "cross-origin-opener-policy": "unsafe-none"}
    content = await run_sync(path.read_bytes)  # at once: pieces, as of a FileResponse, take three times the CPU
    return Response(content, media_type="text/html; charset=utf-8", headers=headers)


async def act(request: Request) -> Response:
    """Pause, cancel or resume a run."""
    from calib.zoo import control

    studio = request.app.state.studio
    row = studio.runs.row(request.path_params["key"])
    action = request.path_params["action"]
    if action not in control.ACTIONS:
        raise UsageError(f"{action} is not one of {', '.join(control.ACTIONS)}")
    control.ask(studio.runs.store, row.key, action)
    studio.runs.supervise()
    return RedirectResponse(f"/run/{row.key}", 303)


async def list_page(request: Request) -> HTMLResponse:
    """List the runs, the newest first, some a page; as long as one is under way the list is asked for again."""
    runs = request.app.state.studio.runs
    after = _number(request.query_params.get("after"))
    found = runs.newest(PAGE + 1, after)
    rows = [
        {
            "row": row,
            "tone": tone(row.status),
            "words": words(row),
            "asked": asked_for(row.job.settings),
            "board": board_of(row),
            "clock": runs.live(row).clock(time.time()) if row.status == "running" else None,
        }
        for row in found[:PAGE]
    ]
    older = after + PAGE if len(found) > PAGE else 0
    busy = any(one["row"].status in ("running", "waiting") for one in rows)
    return render(request, "runs.html.j2", title="Runs", rows=rows, after=after, older=older, page_size=PAGE, busy=busy)


def asked_for(settings: Mapping[str, Any]) -> str:
    """Return what a run was asked for in a few words, such as ``top-1, at most 0.5pt, fast``."""
    metric, drop, least = (settings.get(key) for key in ("metric", "max_drop", "min_sqnr"))
    parts = [
        *([str(metric)] if metric else []),
        *([f"at most {drop}"] if drop is not None else []),
        *([f"at least {least} dB"] if least is not None else []),
        *(["up to the knee"] if settings.get("knee") else []),
        str(settings.get("effort") or "balanced"),
        *(str(settings[key]) for key in ("estimator", "target") if settings.get(key)),
    ]
    return ", ".join(parts)


async def _changes(runs: Runs, key: str, seen: int) -> AsyncIterator[dict[str, Any]]:
    status, told = None, ""
    while True:
        row = runs.row(key)
        live = runs.live(row)
        now = (row.status, row.request, runs.waits_for(row))
        if now != status:
            if status is not None and row.status not in ("running", "waiting"):
                yield {"event": "done", "data": row.status, "id": str(live.number)}
                return
            status = now
            yield _sent("state", live, row=row, tone=tone(row.status), words=words(row), waits=now[2])
        clock = live.clock(time.time()) if row.status == "running" else None
        if (text := str(clock or "")) != told:
            told = text
            yield _sent("clock", live, clock=clock)
        for part, context in (("stages", {}), ("points", {"plots": plots(live)}), ("log", {"log": list(live.lines)})):
            if live.part_since(part, seen):
                yield _sent(part, live, **context)
        seen = live.number
        await asyncio.sleep(LIVE_SECONDS)


def _sent(part: str, live: Live, **context: Any) -> dict[str, Any]:
    data = fragment(f"run_{part}.html.j2", live=live, **context)
    return {"event": part, "data": data.replace("\r", " "), "id": str(live.number)}


def plots(live: Live) -> list[Scatter]:
    """Return the points of the search as drawings: the drop against the layers, and against time once it is known."""
    if not live.points:
        return []
    last = live.points[-1]
    kind, unit = str(last.get("drop_kind", "absolute")), str(last.get("unit", ""))
    scale, title = drop_scale(kind, unit), f"drop, {drop_unit(kind, unit)}"
    limit = None if last.get("budget") is None else float(last["budget"]) * scale
    by_layers, by_time = [], []
    for one in live.points:
        if one.get("drop") is None:
            continue
        span = one.get("interval")
        point = {
            "y": one["drop"] * scale,
            "words": f"step {one['step']}: {one['text']}, {one['reverted']} of {one['of_layers']} layers in float"
            + (f", on {one['samples']:,} samples" if one.get("samples") else ""),
            # Below the budget and not within: what was seen is of a part of the samples.
            "tone": "good" if one["within"] else "bad" if limit is None or one["drop"] * scale > limit else "open",
            "span": tuple(end * scale for end in span) if span and None not in span else None,
            "marked": one is last,
        }
        by_layers.append(Point(x=one["reverted"], **point))
        if one["step"] in live.timed:
            by_time.append(Point(x=live.timed[one["step"]], **point))
    budget = {"limit": limit, "limit_text": "budget"}
    drawn = [
        scatter("The search: drop against layers", "layers in floating point", title, by_layers, whole=True, **budget),
        scatter("The search: drop against time", "milliseconds", title, by_time, **budget),
    ]
    return [one for one in drawn if one is not None]


def tone(status: str) -> str:
    """Return the look of a status."""
    return "good" if status in _GOOD else "bad" if status in _BAD else "neutral" if status not in DONE else "warning"


def status_words(status: str) -> str:
    """Return a status in words."""
    return _WORDS.get(status, status.replace("_", " "))


def words(row: JobRow) -> str:
    """Return the status of a run in words, and what was asked of it since."""
    asked = {"pause": ", pausing", "cancel": ", cancelling", "cancel now": ", stopping"}.get(row.request, "")
    return status_words(row.status) + asked


def form_of_job(job: ZooJob, folder: Path) -> dict[str, str]:
    """Return the form that a run came from; a budget that it did not have is "", or the form would propose one."""
    model = Path(job.model)
    return {
        "model": str(model.relative_to(folder)) if model.is_relative_to(folder) else job.model,
        "calibration": job.calibration,
        "validation": job.validation,
        "metric": "",
        "max_drop": "",
        **start.form_of({key: value for key, value in job.settings.items() if (key, value) != ("speed", True)}),
    }


def flow_of_job(job: ZooJob, folder: Path) -> dict[str, str]:
    """Return the flow that a run came from, so that the other pages show the same."""
    form = form_of_job(job, folder)
    return {key: form.get(key, "") for key in CARRIED}


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 16 else 0
