"""The runs of a studio: one store, one watch over it, and whoever shows it waits here for a change."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from calib.errors import CalibError, UsageError
from calib.report.escape import printable
from calib.store import RunStore
from calib.studio import supervise
from calib.studio.live import Live
from calib.zoo import owner
from calib.zoo.events import read_events
from calib.zoo.identity import Identity
from calib.zoo.jobs import DONE, JobRow, JobStore
from calib.zoo.make_jobs import ZooJob
from calib.zoo.output import Output
from calib.zoo.supervisor import Folders

POLL_SECONDS = 1.0
_KEPT = 50  # runs whose events are held in memory


class Runs:
    """The runs in a folder; used from the event loop alone, which the store's connection belongs to.

    Args:
        root: Folder of the runs.
        jobs: Most runs at the same time.
        allow_python: Whether runs may execute ``python:module:function``.
    """

    def __init__(self, root: Path, jobs: int, allow_python: bool):
        self.folders = Folders(root)
        self.output = Output(str(root / "models"))
        self._jobs = jobs
        self._allow_python = allow_python
        self._store: JobStore | None = None
        self._live: dict[str, Live] = {}
        self._supervisors: list[subprocess.Popen[bytes]] = []
        self._open = True

    @property
    def store(self) -> JobStore:
        """The store, opened when it is first needed."""
        if self._store is None:
            self._store = JobStore(self.folders.store)
        return self._store

    def close(self) -> None:
        """Close the store; runs go on."""
        if self._store is not None:
            self._store.store.close()
            self._store = None

    async def watch(self) -> None:
        """Keep a supervisor running as long as something waits for one; runs until it is cancelled."""
        seen = None
        while True:
            try:
                version = self.store.store.read("PRAGMA data_version")[0][0]
                if version != seen or self._open:
                    seen = version
                    self.supervise()
            except CalibError as error:  # a full disk, or one that is gone for a while: the pages say so, too
                print(printable(f"calib studio: {error}"), file=sys.stderr, flush=True)
            await asyncio.sleep(POLL_SECONDS)

    def supervise(self) -> None:
        """Start a supervisor if a run waits, or was left by one that is dead."""
        self._supervisors = [one for one in self._supervisors if one.poll() is None]
        rows = self.store.rows("status IN ('waiting', 'running')")
        self._open = bool(rows)
        if any(row.status == "waiting" or _left(row) for row in rows) and (
            made := supervise.start(self.folders.root, self._jobs, self._allow_python)
        ):
            self._supervisors.append(made)

    def row(self, key: str) -> JobRow:
        """Return one run.

        Raises:
            UsageError: There is no such run.
        """
        found = self.store.rows("key = ?", (key,), every=True)
        if not found:
            raise UsageError(f"there is no run {key}")
        return found[0]

    def newest(self, most: int, after: int = 0, where: str = "1") -> list[JobRow]:
        """Return some runs, the newest first, behind the ``after`` newest."""
        chosen = f"SELECT key FROM jobs WHERE current = 1 AND {where} ORDER BY position DESC LIMIT ? OFFSET ?"
        return self.store.rows(f"key IN ({chosen})", (most, after))[::-1]

    def waits_for(self, row: JobRow) -> str:
        """Return why a run waits as a sentence; "" for one that does not wait, or that begins in a moment."""
        if row.status != "waiting":
            return ""
        rows = self.store.rows("status IN ('waiting', 'running')")
        running = [one.name for one in rows if one.status == "running"]
        if len(running) < self._jobs:
            return ""
        before = [one for one in rows if one.status == "waiting"]
        place = [one.key for one in before].index(row.key) if row.key in {one.key for one in before} else 0
        ahead = f", and {place} {'waits' if place == 1 else 'wait'} before it" if place else ""
        names = ", ".join(running[:3]) + (" …" if len(running) > 3 else "")
        return (
            f"It waits for a place: {names} {'is' if len(running) == 1 else 'are'} running{ahead}. "
            f"calib studio -j {self._jobs + 1} runs one more at the same time, each with fewer threads."
        )

    def folder(self, row: JobRow) -> Path:
        """Return the folder of a run's result."""
        return Path(self.output.of(row.name))

    def live(self, row: JobRow) -> Live:
        """Return what the events of a run say so far."""
        live = self._live.pop(row.key, None) or Live()
        self._live[row.key] = live
        while len(self._live) > _KEPT:
            self._live.pop(next(iter(self._live)))
        path = self.folders.events(row.name, row.key)
        with suppress(OSError):
            if path.exists() and live.number > path.stat().st_size:  # another file of that name
                live = self._live[row.key] = Live()
            while events := read_events(path, live.number):
                live.take(events)
        return live

    def next_name(self, model: Path) -> str:
        """Return a name that no run has: that of the model and a number."""
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", model.stem).strip("._")[:60] or "model"
        taken = {name for (name,) in self.store.store.read("SELECT name FROM jobs")}
        return next(name for number in range(1, len(taken) + 2) if (name := f"{stem}-{number}") not in taken)


def enter(root: Path, job: ZooJob) -> str:
    """Put a run into the store and return its key; files are read, which may take seconds: call it in a thread."""
    folders = Folders(root)
    with JobStore(folders.store) as store:
        identity = Identity(store)
        names = [name for (name,) in store.store.read("SELECT name FROM jobs WHERE current = 1")]
        key = identity.key(job)
        position = len(store.store.read("SELECT 1 FROM jobs"))
        store.enter([(key, identity.family(job), job)], [*names, job.name])
        _place(store.store, key, position)
    return key


def _place(store: RunStore, key: str, position: int) -> None:
    """Let runs stand in the order in which they were started."""
    with store.transaction() as connection:
        connection.execute("UPDATE jobs SET position = ? WHERE key = ?", (position, key))


def _left(row: JobRow) -> bool:
    """Return whether a run that counts as running has no supervisor any more."""
    if row.status != "running":
        return False
    return owner.running(row.owner.rpartition(":")[0]) is False or row.lease < time.time()


def board_of(row: JobRow) -> dict[str, Any]:
    """Return the row of the leaderboard of a run that is done; {} of any other."""
    return json.loads(row.board) if row.status in DONE and row.board else {}
