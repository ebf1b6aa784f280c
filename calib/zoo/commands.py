"""The commands of a zoo on its manifest and output folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from calib.documents.document import Document
from calib.errors import OutputError, UsageError
from calib.python_object import names_code, refusal
from calib.report.escape import printable
from calib.report.numbers import plural
from calib.values.pictures import FOLDER as PICTURES
from calib.zoo.checked import refusal as unsupported
from calib.zoo.cost import expected, learned, seconds_of
from calib.zoo.jobs import DONE, JobRow, JobStore
from calib.zoo.make_jobs import ZooJob, make_jobs
from calib.zoo.manifest import mistakes, named_code, named_libraries, read_manifest
from calib.zoo.output import Output
from calib.zoo.process import Local
from calib.zoo.sources import shown_name
from calib.zoo.supervisor import Folders, Runner, Supervisor, Watch, enter, unwatched
from calib.zoo.task import MARKER
from calib.zoo.urls import is_url


@dataclass(frozen=True)
class Zoo:
    """The jobs of a manifest and the places of their results.

    Attributes:
        jobs: All jobs of the manifest.
        folders: Folders below OUT.
        output: Folder or URL for the models.
        document: Document of the manifest.
    """

    jobs: list[ZooJob]
    folders: Folders
    output: Output
    document: Document

    @property
    def page(self) -> Path:
        """Path of the leaderboard's page: above the reports that it links to, or in the output folder."""
        root = self.folders.root
        at = root if is_url(self.output.place) or self.reports_from(root) else Path(self.output.place)
        return at / "leaderboard.html"

    def reports_from(self, folder: Path) -> str:
        """Return the relative path from a folder down to the results; "" if they are not below it."""
        way = ".." if is_url(self.output.place) else os.path.relpath(self.output.place, folder)
        return "" if way.startswith("..") else way


@dataclass(frozen=True)
class Planned:
    """State and expected cost of a job.

    Attributes:
        job: The job.
        status: Either "run", "refused", or the status it already has.
        seconds, memory: Cost of its last finished attempt, or an estimate; None if unknown.
        guessed: Whether the cost is an estimate because no attempt has finished.
        refusal: Why it would be refused: what its Accuracy Checker configuration asks for and is not supported.
    """

    job: ZooJob
    status: str
    seconds: float | None
    memory: float | None
    guessed: bool
    refusal: str = ""


def open_zoo(manifest: str, out: str | None = None) -> Zoo:
    """Read a manifest and name its folders; nothing is written.

    Args:
        manifest: Path of the file.
        out: Output folder; None for ``<manifest>-out`` next to the manifest.

    Raises:
        ConfigError: The manifest has mistakes; all of them are listed.
    """
    read = read_manifest(manifest)
    path = Path(os.path.abspath(manifest))
    root = Path(os.path.abspath(out)) if out else path.with_name(f"{path.stem}-out")
    place = read.manifest.output
    if place is not None and not is_url(place):
        place = str(read.folder / Path(place).expanduser())
    return Zoo(make_jobs(read), Folders(root), Output(place or str(root / "models")), read.document)


def open_store(zoo: Zoo, *, new: bool = True, lease: float | None = None) -> JobStore:
    """Open the store of a zoo.

    Args:
        zoo: Zoo that the store belongs to.
        new: Whether to make the store if there is none.
        lease: Seconds without a heartbeat after which any supervisor may take a job.

    Raises:
        UsageError: There is no store and none should be made.
        OutputError: The store can't be made.
    """
    if not new and not zoo.folders.store.exists():
        raise UsageError(f"{zoo.folders.root} holds no zoo.sqlite; give the folder of a run with -o")
    try:
        if new:
            zoo.folders.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{zoo.folders.root} can't be made: {error.strerror}; choose another folder") from error
    if not new:
        return JobStore(zoo.folders.store, look=True)
    return JobStore(zoo.folders.store) if lease is None else JobStore(zoo.folders.store, lease=lease)


def plan(zoo: Zoo, chosen: Sequence[ZooJob], store: JobStore) -> tuple[list[Planned], int]:
    """Return the state and expected cost of each job, and the number of finished jobs that estimates are based on."""
    done = set(enter(store, chosen, [job.name for job in zoo.jobs], zoo.output))
    left = {row.key for row, _ in store.abandoned()}
    known = {one.key: one for one in store.attempts() if one.outcome == "done" and one.ended}
    rows = store.chosen()
    guesses = {row.key: expected(row.job) for row in rows}
    learnt = [(guess, known[key]) for key, guess in guesses.items() if guess and key in known]
    longer, larger = learned(learnt)
    planned = []
    for row in rows:
        over = (
            row.key in done
            or row.status in ("failed", "paused", "cancelled")
            or (row.status == "running" and row.key not in left)
        )
        before, guess = known.get(row.key), guesses[row.key]
        seconds = seconds_of(before) if before else guess and guess.seconds * longer
        memory = (before and before.peak_memory) or (guess and guess.memory * larger)
        why = "" if over else unsupported(row.job)
        status = row.status if over else "refused" if why else "run"
        planned.append(Planned(row.job, status, seconds, memory, before is None, why))
    return planned, len(learnt)


def run(
    zoo: Zoo,
    chosen: Sequence[ZooJob],
    notice: Callable[[str], None],
    *,
    runner: Runner | None = None,
    time_limit: float | None = None,
    again: bool = False,
    allow_python: bool = False,
    allow_extension: bool = False,
    lease: float | None = None,
    watch: Watch = unwatched,
) -> list[JobRow]:
    """Run jobs and return their rows afterwards.

    Args:
        zoo: The zoo.
        chosen: Jobs to run.
        notice: Function that receives a line for each attempt that ended.
        runner: Runner of workers; None for as many on this machine as its cores allow.
        time_limit: Seconds after which unfinished jobs are left for the next run.
        again: Whether to run failed jobs again with all their attempts.
        allow_python: Whether code that the manifest names as ``python:module:name`` may run.
        allow_extension: Whether libraries of operations that the manifest names may be loaded.
        lease: Seconds of a lease, see ``JobStore``.
        watch: Function that is told what runs, many times a second.

    Raises:
        ConfigError: The manifest names code for one of these jobs, and it may not run.
        OutputError: The store can't be written.
    """
    with closing(runner or Local(default_slots(chosen))) as at:
        if not allow_python:
            _refuse_code(zoo.document, chosen)
        if not allow_extension:
            _refuse_libraries(zoo.document, chosen)
        with open_store(zoo, lease=lease) as store:
            enter(store, chosen, [job.name for job in zoo.jobs], zoo.output)
            if again:
                store.again([row.key for row in store.chosen("status = 'failed'")])
            _refuse_unsupported(store, notice)
            given = {"allow_python": allow_python, "watch": watch}
            Supervisor(store, zoo.folders, zoo.output, at, notice, **given).run(time_limit)
            return store.chosen()


def _refuse_unsupported(store: JobStore, notice: Callable[[str], None]) -> None:
    """Fail the waiting jobs whose Accuracy Checker configurations can't be followed, before any job is started."""
    for row in store.chosen("status = 'waiting'"):
        if not (why := unsupported(row.job)):
            continue
        if claimed := store.claim(threads=float("inf"), memory=float("inf"), only=row.key):
            store.finish(row.key, claimed[1], status="failed", outcome="failed", reason=f"refused: {why}")
            notice(printable(f"{shown_name(row.name)}: refused: {why}"))


def code_of(job: ZooJob) -> list[str]:
    """Return each ``python:module:name`` that a job runs."""
    given = (job.calibration, job.validation, job.settings.get("metric"))
    return [str(text) for text in given if names_code(text)]


def _refuse_code(document: Document, chosen: Sequence[ZooJob]) -> None:
    """Raise an error that names every place of code that these jobs would run."""
    used = {text for job in chosen for text in code_of(job)}
    if found := [(place, refusal(text)) for place, text in named_code(document) if text in used]:
        raise mistakes(document, found)


def _refuse_libraries(document: Document, chosen: Sequence[ZooJob]) -> None:
    """Raise an error that names every place of a library that these jobs would load."""
    if any(job.settings.get("extensions") for job in chosen):
        from calib.runtime.extensions import refusal_of  # here: few manifests name any

        places = [(place, refusal_of(text)) for place, text in named_libraries(document)]
        raise mistakes(document, places)


def default_slots(jobs: Sequence[ZooJob]) -> int:
    """Return the default number of jobs at the same time: the cores divided by the threads of a job."""
    return max(1, len(os.sched_getaffinity(0)) // max([job.threads for job in jobs], default=1))


def merge(zoo: Zoo, shards: Sequence[str], notice: Callable[[str], None]) -> list[JobRow]:
    """Copy the results of this zoo's shards, with models and logs; the shards are not changed.

    Raises:
        UsageError: A shard has no store.
        OutputError: A result can't be copied.
    """
    with open_store(zoo) as store:
        enter(store, zoo.jobs, [job.name for job in zoo.jobs], zoo.output)
        for shard in shards:
            part = replace(zoo, folders=Folders(Path(shard)), output=Output(str(Path(shard) / "models")))
            with open_store(part, new=False) as other:
                taken = [row for row in other.rows("status != 'running'") if _take(zoo, store, part, other, row)]
            notice(f"{shard}: {plural(len(taken), 'job')}")
        return store.rows()


def _take(zoo: Zoo, store: JobStore, part: Zoo, other: JobStore, row: JobRow) -> bool:
    """Copy one job of a shard; finished jobs take precedence over failed ones, and those over waiting ones."""
    rank = {"waiting": 0, "running": 0, "paused": 0, "cancelled": 1, "failed": 1}
    mine = store.rows("key = ?", (row.key,))
    if not mine or rank.get(row.status, 2) <= rank.get(mine[0].status, 2):
        return False
    attempts = other.attempts(row.key)
    try:
        if row.status in DONE and not is_url(zoo.output.place):
            copy = zoo.folders.attempt(row.key, 0)
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(part.output.of(row.name), copy, ignore=_only_files)
            zoo.output.publish(copy, row.name)
            shutil.rmtree(copy, ignore_errors=True)
        logs = []
        for one in attempts:
            log = zoo.folders.log(row.name, row.key, one.number)
            log.parent.mkdir(parents=True, exist_ok=True)
            if Path(one.log).is_file():
                shutil.copyfile(one.log, log)
            logs.append(str(log))
    except OSError as error:
        raise OutputError(f"{row.name}: can't be copied from {part.folders.root}: {error}") from error
    store.adopt(row, attempts, logs)
    return True


def _only_files(folder: str, names: list[str]) -> list[str]:
    """Leave out folders, which are results of other jobs, but for that of the pictures."""
    folders = [name for name in names if os.path.isdir(os.path.join(folder, name))]
    return [name for name in folders if name != PICTURES or os.path.exists(os.path.join(folder, name, MARKER))]
