"""The application of a studio: its state, its routes, and how errors become pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from calib.errors import CalibError
from calib.report.escape import printable
from calib.studio import baseline, compare, data, models, quantize, run, take_away, upload, zoo_page
from calib.studio.allowed import Allowed
from calib.studio.guard import TooLarge
from calib.studio.questions import Questions
from calib.studio.rendering import message, static
from calib.studio.runs import Runs
from calib.studio.start import threads_each


@dataclass
class Studio:
    """What all pages share.

    Attributes:
        allowed: What they may reach.
        output: Folder of runs, as of a zoo.
        questions: Answers of ``calib inspect`` and its like.
        runs: Runs, their store and their supervisor.
        threads: Threads of one run.
    """

    allowed: Allowed
    output: Path
    questions: Questions
    runs: Runs
    threads: int

    async def close(self) -> None:
        """Stop what is being asked; runs go on."""
        await self.questions.close()
        self.runs.close()


ROUTES = [
    Route("/", models.page),
    Route("/model", models.model),
    Route("/model/facts", models.facts),
    Route("/model/layers", models.layers),
    Route("/upload", upload.receive, methods=["POST"]),
    Route("/data", data.page),
    Route("/data/samples", data.samples),
    Route("/baseline", baseline.page),
    Route("/baseline/accuracy", baseline.accuracy),
    Route("/baseline/speed", baseline.speed),
    Route("/baseline/layers", baseline.layers),
    Route("/quantize", quantize.page),
    Route("/quantize", quantize.submit, methods=["POST"]),
    Route("/quantize/preview", quantize.preview),
    Route("/runs", run.list_page),
    Route("/run/{key}", run.page),
    Route("/run/{key}/events", run.events),
    Route("/run/{key}/report", run.report),
    Route("/run/{key}/take-away.zip", take_away.take_away),
    Route("/compare", compare.page),
    Route("/compare/trade", compare.trade_plot),
    Route("/compare/layers", compare.layers),
    Route("/zoo", zoo_page.page),
    Route("/zoo", zoo_page.submit, methods=["POST"]),
    Route("/zoo/table", zoo_page.table),
    Route("/run/{key}/{action}", run.act, methods=["POST"]),
    Route("/static/{digest}/{name}", static),
]


def make_app(allowed: Allowed, output: Path, jobs: int = 1) -> Starlette:
    """Return the application; what may reach it is decided by ``calib.studio.guard``.

    Args:
        allowed: What pages may reach.
        output: Folder of the runs.
        jobs: Most runs at the same time.
    """
    runs = Runs(output, jobs, allowed.python)
    studio = Studio(allowed, output, Questions(output / "answers", allowed.folder), runs, threads_each(jobs))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        watch = asyncio.create_task(runs.watch())
        yield
        watch.cancel()
        await studio.close()

    app = Starlette(
        routes=ROUTES,
        lifespan=lifespan,
        exception_handlers={
            CalibError: _said,
            HTTPException: _refused,
            TooLarge: _too_large,
            Exception: _unexpected,
        },
    )
    app.state.studio = studio
    return app


async def _said(request: Request, error: Exception) -> Response:
    assert isinstance(error, CalibError)
    return message(request, "That did not work", error.lines, 400)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return message(request, "There is no such page", [str(error.detail)], error.status_code)


async def _unexpected(request: Request, error: Exception) -> Response:
    lines = [f"unexpected {type(error).__name__}: {error}", "The terminal of calib studio shows where it happened."]
    return message(request, "That did not work", [printable(line) for line in lines], 500)


async def _too_large(request: Request, error: Exception) -> Response:
    return message(request, "That is too large", [str(error)], 413)
