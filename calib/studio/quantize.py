"""The form of a run: what is to be kept, what may be lost, and how much work it is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from calib.config import Settings
from calib.config.efforts import EFFORTS
from calib.errors import CalibError
from calib.metrics import METRICS
from calib.ranges import ESTIMATORS
from calib.report import numbers
from calib.studio import models, runs, start
from calib.studio.allowed import Allowed
from calib.studio.files import listing
from calib.studio.fits import default_budget, fitting, resolution
from calib.studio.questions import Answer
from calib.studio.rendering import CARRIED, render
from calib.zoo.cost import Size, count, expected
from calib.zoo.make_jobs import ZooJob

_ADVANCED = ("estimator", "target", "samples", "decode", "float_precision", "time_limit", "knee", "ignore", "set")


async def page(request: Request) -> HTMLResponse:
    """Show the form, filled with what is known and with defaults that are right for it."""
    return await _form(request, dict(request.query_params), (), 200)


async def preview(request: Request) -> HTMLResponse:
    """Return the part of the form that follows from what is typed: resolution of the samples, time, command line."""
    studio = request.app.state.studio
    form = dict(request.query_params)
    context = await run_sync(_derived, form, studio.allowed, studio.threads, _size(studio, form.get("model", "")))
    return render(request, "quantize_derived.html.j2", form=form, **context)


async def submit(request: Request) -> Response:
    """Start the run that the form asks for."""
    studio = request.app.state.studio
    form = {key: str(value) for key, value in (await request.form()).items()}
    try:
        asked = await run_sync(start.read_form, form, studio.allowed)
        job = asked.job(studio.runs.next_name(asked.path), studio.allowed.folder, studio.threads)
        key = await run_sync(runs.enter, studio.runs.folders.root, job)
    except CalibError as error:
        return await _form(request, form, error.lines, 422)
    studio.runs.supervise()
    return RedirectResponse(f"/run/{key}", 303)


async def _form(request: Request, form: dict[str, str], errors: tuple[str, ...], status: int) -> HTMLResponse:
    studio = request.app.state.studio
    metrics: list[str] = []
    given = form.get("model", "")
    if given:
        answer = await _known(request, given)
        if isinstance(answer, HTMLResponse):
            return answer
        found = models.inspection(answer)
        metrics = fitting(found) if found else []
        errors = errors or tuple(answer.error)
    if form.get("validation") and metrics and "metric" not in form and not form.get("min_sqnr"):
        form |= {"metric": metrics[0]}
    if form.get("metric") and "max_drop" not in form:
        form |= {"max_drop": default_budget(form["metric"])}
    _, data = await run_sync(listing, studio.allowed, studio.output)
    derived = await run_sync(_derived, form, studio.allowed, studio.threads, _size(studio, given))
    if errors:
        derived["wrong"] = ()  # it is said at the top already
    return render(
        request,
        "quantize.html.j2",
        status=status,
        title="INT8",
        form=form,
        errors=errors,
        data=data,
        metrics=metrics,
        others=[name for name in METRICS if name not in metrics],
        efforts=EFFORTS,
        estimators=list(ESTIMATORS),
        fields=Settings.model_fields,
        open_advanced=any(form.get(key) for key in _ADVANCED),
        flow={key: form.get(key, "") for key in CARRIED},
        **derived,
    )


async def _known(request: Request, given: str) -> Answer | HTMLResponse:
    """Return what is in the model; a form that was sent is answered at once, whatever is known of its model."""
    studio = request.app.state.studio
    if request.method == "GET":
        return await models.answered(request, given)
    try:
        known = studio.questions.known(*models.question(given, studio.allowed.existing(given)))
    except CalibError:  # the message on the form says so
        known = None
    return known or Answer("asked")


def _size(studio: Any, given: str) -> Size | None:
    """Return the size of a model as far as it was looked into; to read a large one takes the server a second."""
    try:
        known = studio.questions.known(*models.question(given, studio.allowed.existing(given)))
    except CalibError:  # the message on the form says so
        return None
    if known is None or known.found is None:
        return None
    layers = known.found["layers"]
    return Size(sum(layer["macs"] for layer in layers), len(layers), 0.0)


def _derived(form: Mapping[str, str], allowed: Allowed, threads: int, size: Size | None) -> dict[str, Any]:
    """Return what follows from a form: expected times, what the samples show, and the command line or what is wrong."""
    folder = str(allowed.folder)
    found: dict[str, Any] = {"command": "", "wrong": (), "seconds": {}, "samples": None, "scale": None}
    try:
        asked = start.read_form(form, allowed)
    except CalibError as error:
        return {**found, "wrong": error.lines if form.get("model") and form.get("calibration") else ()}
    job = asked.job("new", allowed.folder, threads)
    samples = count(asked.validation, folder) if asked.validation else None
    return {
        "command": start.command(asked, f"{asked.path.stem}-int8"),
        "wrong": (),
        "seconds": {name: text for name in EFFORTS if (text := _seconds(job, name, size))},
        "samples": samples,
        "scale": budget_scale(asked.settings.get("max_drop"), samples) if samples else None,
    }


def _seconds(job: ZooJob, effort: str, size: Size | None) -> str:
    guess = expected(ZooJob(**{**vars(job), "settings": {**job.settings, "effort": effort}}), size)
    return numbers.seconds(guess.seconds) if guess else ""


def budget_scale(budget: str | None, samples: int) -> dict[str, Any]:
    """Return where the budget lies among what so many samples can show, in pixels of 600 for a drawing.

    Args:
        budget: Text of the budget; only points and fractions can be drawn.
        samples: Number of validation samples.
    """
    least, usual = resolution(samples)
    allowed = _fraction(budget)
    widest = max(3 * usual, 1.5 * (allowed or 0))
    pixels = {name: round(600 * min(1.0, value / widest), 1) for name, value in (("least", least), ("usual", usual))}
    return {
        "samples": samples,
        "least": pixels["least"],
        "usual": pixels["usual"],
        "least_text": f"±{100 * least:.2f}",
        "usual_text": f"±{100 * usual:.2f}",
        "budget": None if allowed is None else round(600 * allowed / widest, 1),
        "budget_text": "" if allowed is None else f"{100 * allowed:.2f}",
        "verdict": _verdict(allowed, least, usual),
    }


def _fraction(budget: str | None) -> float | None:
    text = (budget or "").strip()
    try:
        return float(text.removesuffix("pt")) / 100 if text.endswith("pt") else float(text)
    except ValueError:
        return None


def _verdict(allowed: float | None, least: float, usual: float) -> str:
    if allowed is None:
        return "A budget in points can be drawn here."
    if allowed < least:
        return "The budget is smaller than these samples can show at best: more samples, or a larger budget."
    if allowed < usual:
        return "The budget can be shown only if hardly any answer changes; more samples would make it surer."
    return "These samples can show whether the budget is kept."
