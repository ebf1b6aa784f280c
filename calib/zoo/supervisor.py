"""Run the jobs of a zoo: claim one, start a worker, watch it, publish its result; continue after any failure."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from calib.errors import CalibError, one_line
from calib.interrupts import Interrupts
from calib.report.escape import printable
from calib.zoo import owner
from calib.zoo.events import found_within, note
from calib.zoo.identity import Identity, needs_histogram
from calib.zoo.jobs import DONE, Attempt, JobRow, JobStore
from calib.zoo.leaderboard_rows import outcome_of
from calib.zoo.make_jobs import ZooJob
from calib.zoo.output import Output
from calib.zoo.process import death
from calib.zoo.sources import shown_name
from calib.zoo.task import MARKER, RESULT, Ended, Task, file_text, read_marker
from calib.zoo.urls import fetch

Notice = Callable[[str], None]

# Receives the attempts that are running, the number of jobs that this run has ended, and that of those it was to run.
Watch = Callable[[Sequence[Task], int, int], None]


def unwatched(tasks: Sequence[Task], ended: int, jobs: int) -> None:
    """Show nothing of what runs."""


# How often the store is asked for requests; a person who asks for a pause sees it within a second.
LISTEN_SECONDS = 0.25

_ENDED_BY = {"pause": "paused", "cancel": "cancelled", "cancel now": "cancelled"}


class Runner(Protocol):
    """Where workers run: this machine (``process.Local``) or a cluster (``cluster.Dask``)."""

    poll_seconds: float

    def room(self) -> tuple[float, float]:
        """Return the threads and bytes that the next job may use; (0, 0) if none may start."""
        ...

    def start(self, task: Task) -> str:
        """Start a worker and return its name, by which ``owner.end`` may find it."""
        ...

    def ended(self) -> list[tuple[Task, Ended]]:
        """Return the workers that have ended since the last call."""
        ...

    def stop(self, key: str) -> None:
        """Stop one worker without reporting it as ended."""
        ...

    def interrupt(self, key: str) -> bool:
        """Ask one worker to end its search with the best model so far; return False if it can't be asked."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...


@dataclass(frozen=True)
class Folders:
    """Paths below OUT."""

    root: Path

    @property
    def store(self) -> Path:
        """The run store."""
        return self.root / "zoo.sqlite"

    def attempt(self, key: str, number: int) -> Path:
        """Return the folder that an attempt works in, which is removed after it."""
        return self.root / "work" / f"{key}.{number}"

    def log(self, name: str, key: str, number: int) -> Path:
        """Return an attempt's log."""
        return self.root / "logs" / f"{name}.{key[:8]}.{number}.log"

    def events(self, name: str, key: str) -> Path:
        """Return the file of a job's events, which all its attempts append to."""
        return self.root / "logs" / f"{name}.{key[:8]}.events.jsonl"

    def shared(self, family: str) -> tuple[str, str]:
        """Return the files of statistics and of results that the jobs of a model and its data share."""
        cache = self.root / "cache"
        return str(cache / f"{family}.npz"), str(cache / f"{family.partition('-')[0]}.sqlite")


def enter(store: JobStore, jobs: Sequence[ZooJob], names: Sequence[str], output: Output) -> list[str]:
    """Put jobs into the store and return the keys of those that are done and whose results are there.

    Args:
        store: Store to add the jobs to.
        jobs: Chosen jobs.
        names: Names of all jobs of the manifest.
        output: Output of the zoo; a job is done only as long as its result is there.
    """
    identity = Identity(store)
    store.enter([(identity.key(job), identity.family(job), job) for job in jobs], names)
    done = store.chosen(f"status IN ({', '.join(map(repr, DONE))})")
    gone = {row.key for row in done if output.board(row.name, row.key) is None}
    store.again(gone)
    return [row.key for row in done if row.key not in gone]


class Supervisor:
    """Runs the waiting jobs of a store.

    Args:
        store: Store with the jobs.
        folders: Folders of this zoo.
        output: Output for the results.
        runner: Runner of workers.
        notice: Function that receives a line for each attempt that ended.
        allow_python: Whether workers may run ``python:module:name``.
        watch: Function that is told what runs, at every round of work.
    """

    def __init__(
        self,
        store: JobStore,
        folders: Folders,
        output: Output,
        runner: Runner,
        notice: Notice,
        *,
        allow_python: bool = False,
        watch: Watch = unwatched,
    ):
        self._store = store
        self._folders = folders
        self._output = output
        self._runner = runner
        self._notice = notice
        self._allow_python = allow_python
        self._watch = watch
        self._ended = self._jobs = 0
        self._running: dict[str, Task] = {}
        self._heartbeat = self._listened = 0.0
        self._ending: set[str] = set()
        self._interrupts = Interrupts()

    def run(self, time_limit: float | None = None) -> None:
        """Run until no job is waiting or the time is over; running jobs are then set to waiting again.

        A job whose lease another supervisor holds is left to it.

        Raises:
            KeyboardInterrupt: A signal was received; running jobs are set to waiting again.
        """
        end = time.monotonic() + time_limit if time_limit is not None else float("inf")
        with self._interrupts:
            try:
                (self._folders.root / "cache").mkdir(parents=True, exist_ok=True)
                self._take_over()
                self._sweep()
                self._jobs = len(self._store.chosen("status = 'waiting'"))
                while time.monotonic() < end and not self._interrupts.noted and self._step():
                    time.sleep(self._runner.poll_seconds)
            finally:
                self._put_back()
        if self._interrupts.noted:
            raise KeyboardInterrupt

    def _step(self) -> bool:
        """Do one round of work and return whether there is more to come."""
        started = self._start()
        self._settle_ended()
        self._obey()
        self._beat()
        self._watch(list(self._running.values()), self._ended, self._jobs)
        return bool(self._running or started) or self._worth_waiting()

    def _start(self) -> bool:
        """Start as many jobs as fit and return whether there was one."""
        started = False
        while (room := self._runner.room())[0] >= 1 and not self._interrupts.noted:
            claimed = self._store.claim(threads=room[0], memory=room[1])
            if claimed is None:
                break
            started = True
            self._start_one(*claimed)
        return started

    def _start_one(self, row: JobRow, number: int) -> None:
        folder, log = self._folders.attempt(row.key, number), self._folders.log(row.name, row.key, number)
        statistics, verdicts = self._folders.shared(row.family)
        if not (self._store.shares(row.family) or needs_histogram(row.job)):
            statistics = ""  # nobody else needs them, and what is shared holds more than this job would collect
        events = self._folders.events(row.name, row.key)
        task = Task(
            row.key, number, row.job, str(folder), str(log), statistics, verdicts, self._allow_python, str(events)
        )
        note(events, number, "status", {"status": "running", "reason": ""})
        self._running[row.key] = task
        try:
            if task.job.model.startswith("memory://"):  # it is in no other process
                task = replace(task, job=replace(task.job, model=str(fetch(task.job.model, folder / "model"))))
            self._store.started(row.key, number, self._runner.start(task), str(log))
        except (OSError, CalibError) as error:
            self._close(task, status="failed", outcome="failed", reason=f"could not be started: {one_line(error)}")

    def _settle_ended(self) -> None:
        for task, ended in self._runner.ended():
            if task.key in self._running:
                self._conclude(task, ended)

    def _conclude(self, task: Task, ended: Ended) -> None:
        """Set the status of a job after an attempt ended."""
        facts: dict[str, Any] = {"exit": ended.exit, "peak_memory": ended.peak_memory}
        result = Path(task.folder) / RESULT
        if board := read_marker(file_text(result / MARKER), task.key):  # complete, however the worker ended after it
            if self._store.renew([task.key]):  # another supervisor took it over while we slept
                self._forget(task)
                return
            try:
                self._output.publish(result, task.job.name)
                status, text = str(board["status"]), json.dumps(board)
                reason = str(board.get("reason", ""))
                self._close(
                    task, told=outcome_of(board), status=status, outcome="done", reason=reason, board=text, **facts
                )
            except CalibError as error:
                self._close(task, status="failed", outcome="failed", reason=one_line(error), **facts)
        elif request := self._store.row(task.key).request:
            self._close(task, status="waiting", outcome=_ENDED_BY[request], **facts)
        elif ended.stopped:
            self._close(task, status="failed", outcome="stopped", reason=ended.stopped, **facts)
        elif "reason" in ended.answer:
            reason = str(ended.answer["reason"])
            self._close(task, status="failed", outcome="failed", reason=reason, **facts)
        else:
            self._retry(task, ended, facts)

    def _retry(self, task: Task, ended: Ended, facts: dict[str, Any]) -> None:
        """Set a job to waiting after its worker died, unless it has no attempts left."""
        how = ended.lost or f"the worker {death(ended.exit)}"
        tries = self._store.row(task.key).tries
        if tries <= task.job.retries:
            self._close(task, status="waiting", outcome="died", reason=how, **facts)
        else:
            why = f": {ended.answer['crash']}" if "crash" in ended.answer else ""
            reason = f"{how}, at the last of {tries} tries{why}; see {task.log}"
            self._close(task, status="failed", outcome="died", reason=reason, **facts)

    def _close(self, task: Task, told: str = "", **facts: Any) -> None:
        """Store how an attempt ended, remove its files, and tell of it (by default its status and the reason)."""
        status = self._store.finish(task.key, task.number, **facts)
        self._forget(task)
        if status:
            self._ended += status not in ("waiting", "paused")
            said = {"status": status, "reason": facts.get("reason", "")}
            note(self._folders.events(task.job.name, task.key), task.number, "status", said)
            reason = f": {facts['reason']}" if facts.get("reason") else ""
            self._notice(printable(f"{shown_name(task.job.name)}: {told or status.replace('_', ' ') + reason}"))

    def _forget(self, task: Task) -> None:
        self._running.pop(task.key, None)
        self._ending.discard(task.key)
        shutil.rmtree(task.folder, ignore_errors=True)

    def _obey(self) -> None:
        """Pause and cancel the running jobs of which that is asked.

        A job that is cancelled ends with the best model so far if its search has one that keeps the budget, which its
        worker then saves; there is nothing to wait for otherwise.
        """
        if time.monotonic() - self._listened < LISTEN_SECONDS:
            return
        self._listened = time.monotonic()
        for key, request in self._store.requests().items():
            task = self._running.get(key)
            if task is None or (request == "cancel" and key in self._ending):
                continue
            if read_marker(file_text(Path(task.folder) / RESULT / MARKER), key):
                continue  # its result is complete: it ends by itself in a moment
            if request == "cancel" and found_within(task.events, task.number) and self._runner.interrupt(key):
                self._ending.add(key)
                continue
            self._runner.stop(key)
            self._close(task, status="waiting", outcome=_ENDED_BY[request], counts=False)

    def _beat(self) -> None:
        """Renew our leases, stop jobs that are no longer ours and take over abandoned ones, every third of a lease."""
        if time.monotonic() - self._heartbeat < self._store.lease / 3:
            return
        self._heartbeat = time.monotonic()
        for key in self._store.renew(list(self._running)):
            self._runner.stop(key)
            self._forget(self._running[key])
        self._take_over()

    def _take_over(self) -> None:
        for row, attempt in self._store.abandoned():
            owner.end(attempt.worker)
            self._recover(row, attempt)

    def _recover(self, row: JobRow, attempt: Attempt) -> None:
        """Keep the result of an abandoned attempt if it is complete, else let its job wait again, uncounted."""
        result = self._folders.attempt(row.key, attempt.number) / RESULT
        finished = self._output.board(row.name, row.key)
        if finished and finished.get("stopped") and not row.request:
            finished = None  # of the attempt that was cancelled, which this one was to go on from
        if not finished and (finished := read_marker(file_text(result / MARKER), row.key)):
            self._output.publish(result, row.name)
        text = "its supervisor was gone"
        facts = {"exit": None, "reason": text, "owner": row.owner, "counts": False}
        if finished:
            board = json.dumps(finished)
            facts |= {"status": str(finished["status"]), "outcome": "done", "board": board, "counts": True}
        else:
            facts |= {"status": "waiting", "outcome": "abandoned"}
        if status := self._store.finish(row.key, attempt.number, **facts):
            said = {"status": status, "reason": text}
            note(self._folders.events(row.name, row.key), attempt.number, "status", said)
            self._notice(printable(f"{shown_name(row.name)}: {facts['outcome']}, {text}"))
        shutil.rmtree(self._folders.attempt(row.key, attempt.number), ignore_errors=True)

    def _sweep(self) -> None:
        """Remove the folders of attempts that are not running."""
        busy = {row.key for row in self._store.rows("status = 'running'", every=True)}
        work = self._folders.root / "work"
        for folder in work.iterdir() if work.is_dir() else ():
            if folder.name.partition(".")[0] not in busy:
                shutil.rmtree(folder, ignore_errors=True)

    def _worth_waiting(self) -> bool:
        """Return whether a job is waiting that can start later; fail jobs that are too large to ever run here."""
        waiting = self._store.chosen("status = 'waiting'")
        threads, memory = self._runner.room()
        elsewhere = {row.family for row in self._store.rows("status = 'running'", every=True)}
        for row in waiting:
            job = row.job
            if row.family in elsewhere or threads < 1:
                continue
            if (job.threads > threads or (job.memory or 0) > memory) and (claimed := self._claim_any(row.key)):
                self._close(
                    Task(row.key, claimed, job, str(self._folders.attempt(row.key, claimed)), ""),
                    status="failed",
                    outcome="failed",
                    reason=f"needs {job.threads} threads and {(job.memory or 0) >> 20} MiB, "
                    f"and no worker has more than {threads:g} threads and {memory / 2**20:.0f} MiB",
                )
        return bool(waiting)

    def _claim_any(self, key: str) -> int | None:
        """Claim a job that does not fit, so that it can be failed."""
        claimed = self._store.claim(threads=float("inf"), memory=float("inf"), only=key)
        return claimed[1] if claimed else None

    def _put_back(self) -> None:
        """Stop running jobs and set them to waiting, after a time limit or an interruption."""
        self._runner.close()
        for task in list(self._running.values()):
            told = "stopped; the next run goes on with it"
            self._close(task, told=told, status="waiting", outcome="interrupted", counts=False)
