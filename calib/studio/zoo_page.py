"""A manifest's matrix as a table that fills while it runs; the run itself is ``calib zoo run``, on its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from calib.errors import CalibError, UsageError
from calib.studio import start
from calib.studio.allowed import Allowed
from calib.studio.rendering import address, render
from calib.studio.run import tone
from calib.zoo.commands import Zoo, open_zoo
from calib.zoo.jobs import JobRow, JobStore
from calib.zoo.leaderboard_rows import row_of_job
from calib.zoo.make_jobs import ZooJob
from calib.zoo.manifest import Read, read_manifest
from calib.zoo.urls import is_url

_UNDER_WAY = ("waiting", "running")


@dataclass(frozen=True)
class Matrix:
    """The jobs of a manifest as a table.

    Attributes:
        cells: Titles of the columns, one for each combination of settings; [""] without a matrix.
        rows: Name of a model, and for each cell its tone, words and figure, None where it has no such job.
        busy: Whether one runs or waits.
        left: Number of jobs that are not done.
        total: Number of jobs.
    """

    cells: list[str]
    rows: list[tuple[str, list[tuple[str, str, str] | None]]]
    busy: bool
    left: int
    total: int


async def page(request: Request) -> HTMLResponse:
    """Show a manifest, or those that there are."""
    studio = request.app.state.studio
    manifest = request.query_params.get("manifest", "")
    started = bool(request.query_params.get("started"))
    context: dict[str, Any] = {"manifest": manifest, "found": [], "matrix": None, "errors": ()}
    if not manifest:
        context["found"] = await run_sync(manifests, studio.allowed, studio.output)
    else:
        try:
            context["matrix"] = await run_sync(_matrix, studio.allowed, manifest)
        except CalibError as error:
            context["errors"] = error.lines
    return render(
        request, "zoo.html.j2", title="Zoo", started=started, command=["calib", "zoo", "run", manifest], **context
    )


async def table(request: Request) -> Response:
    """Return the table; it asks again as long as something runs."""
    studio = request.app.state.studio
    manifest = request.query_params.get("manifest", "")
    matrix = await run_sync(_matrix, studio.allowed, manifest)
    return render(request, "zoo_matrix.html.j2", manifest=manifest, matrix=matrix, started=True)


async def submit(request: Request) -> Response:
    """Start the run of a manifest, which goes on without the studio."""
    studio = request.app.state.studio
    manifest = str((await request.form()).get("manifest", ""))
    zoo = await run_sync(opened, studio.allowed, manifest)
    path = studio.allowed.existing(manifest)
    flags = ["--allow-python"] * studio.allowed.python + ["--allow-extension"] * studio.allowed.extensions
    await run_sync(_run, path, zoo.folders.root, flags)
    return RedirectResponse(address("/zoo", {}, manifest=manifest, started="1"), 303)


def manifests(allowed: Allowed, output: Path) -> list[str]:
    """Return the manifests in the folder: YAML files with sources."""
    found = []
    for path in sorted([*allowed.folder.glob("*.y*ml"), *allowed.folder.glob("*/*.y*ml")]):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                head = file.read(1 << 16)
        except OSError:
            continue
        if any(line.startswith("sources:") for line in head.splitlines()) and not path.is_relative_to(output):
            found.append(allowed.shown(path))
    return found


def opened(allowed: Allowed, manifest: str) -> Zoo:
    """Return the zoo of a manifest, once all that it reads and writes is known to lie inside.

    Raises:
        CalibError: The manifest has mistakes, or reaches out.
    """
    path = allowed.existing(manifest)
    _check_files(read_manifest(path), replace(allowed, folder=path.parent, others=(allowed.folder, *allowed.others)))
    zoo = open_zoo(str(path))
    allowed.path(str(zoo.folders.root))
    if is_url(zoo.output.place):
        raise UsageError(f"{manifest}: writes to {zoo.output.place}; run it with calib zoo run")
    allowed.path(zoo.output.place)
    for job in zoo.jobs:
        _check(job, allowed)
    return zoo


def _check_files(read: Read, allowed: Allowed) -> None:
    """Refuse a manifest that names files outside which making its jobs would read already."""
    root = allowed.path(read.manifest.root)
    for source in read.manifest.sources:
        for text in filter(None, (source.list, source.omz, source.huggingface)):
            allowed.path(str(root / text))
    overrides = [read.given("overrides", index) for index in range(len(read.manifest.overrides))]
    ignored = [block.get("ignore") for block in (read.given("defaults"), *overrides)]
    for given in (*ignored, *read.manifest.matrix.get("ignore", ())):
        for pattern in [given] if isinstance(given, str) else given or ():
            if str(pattern).startswith("file:"):
                allowed.path(str(pattern).removeprefix("file:"))
    for block in (read.given("defaults"), *overrides):
        for key, text in (block.get("accuracy_check") or {}).items():
            if key not in ("dataset", "metric"):
                allowed.path(str(text))


def _check(job: ZooJob, allowed: Allowed) -> None:
    if is_url(job.model):
        raise UsageError(f"{job.name}: {job.model} is not on this machine; run it with calib zoo run")
    allowed.path(job.model)
    from_there = replace(allowed, folder=Path(job.base), others=(allowed.folder, *allowed.others))
    for text in filter(None, (job.calibration, job.validation)):
        from_there.data(text)
    for key, text in job.accuracy_check.items():
        if key not in ("dataset", "metric"):
            from_there.path(text)
    start.check_reach(job.settings, from_there)


def _matrix(allowed: Allowed, manifest: str) -> Matrix:
    zoo = opened(allowed, manifest)
    known: dict[str, JobRow] = {}
    if zoo.folders.store.exists():
        with JobStore(zoo.folders.store) as store:
            known = {row.name: row for row in store.rows()}
    return matrix_of(zoo.jobs, known)


def matrix_of(jobs: Sequence[ZooJob], known: dict[str, JobRow]) -> Matrix:
    """Return jobs as a table, with what is known of each by its name."""
    table: dict[str, dict[str, tuple[str, str, str]]] = {}
    cells: list[str] = []
    left, busy = 0, False
    for job in jobs:
        bare = job.pattern_name.removesuffix(".xml")
        cell = job.name.removeprefix(bare).removeprefix("/")
        if cell not in cells:
            cells.append(cell)
        row = known.get(job.name)
        status = row.status if row else "not run"
        busy |= status in _UNDER_WAY
        left += status in (*_UNDER_WAY, "not run")
        table.setdefault(bare, {})[cell] = (tone(status), status.replace("_", " "), _figure(row) if row else "")
    rows = [(name, [found.get(cell) for cell in cells]) for name, found in table.items()]
    return Matrix(cells, rows, busy, left, len(jobs))


def _figure(row: JobRow) -> str:
    found = row_of_job(row)
    parts = []
    if found.drop is not None:
        parts.append(f"{found.drop * 100:.2f} points" if found.unit == "fraction" else f"{found.drop:.3g} {found.unit}")
    if found.speedup_f32:
        parts.append(f"{found.speedup_f32:.2f}×")
    return ", ".join(parts).replace("-", "−") or row.reason


def _run(manifest: Path, root: Path, flags: list[str]) -> None:
    (root / "logs").mkdir(parents=True, exist_ok=True)
    with open(root / "logs" / "studio.log", "ab") as log:
        subprocess.Popen(
            [sys.executable, "-P", "-m", "calib", "zoo", "run", str(manifest), *flags],
            cwd=manifest.parent,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
