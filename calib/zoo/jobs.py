"""The jobs of a zoo in the run store: one row per job and one per attempt; every change is one transaction.

A job is ``waiting``, ``running`` (a supervisor holds its lease), ``paused``, ``cancelled``, ``failed``, or has the
status of its report. The supervisor that runs it renews the lease; if a lease has expired or its owner is dead, any
supervisor may take the job. What is asked of a running job (``control.py``) is a column that its supervisor reads.
"""

from __future__ import annotations

import os
import re
import secrets
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from calib.errors import StatisticsError
from calib.store import RunStore
from calib.zoo.make_jobs import ZooJob
from calib.zoo.owner import process_name, running

# Long against a pause of a busy machine, short against a job; a heartbeat is due at a third of it.
LEASE_SECONDS = 60.0

# Of a family's name, before its "-": jobs that agree in them are of one model and data.
SUBJECT_DIGITS = 16

DONE = (
    "within_budget",
    "within_budget_not_in_f32",
    "quantized",
    "mostly_float",
    "slower",
    "within_budget_in_f32_only",
    "over_budget",
    "fp32_kept",
)

# What may be asked of a running job; "" for nothing.
REQUESTS = ("", "pause", "cancel", "cancel now")

STATUSES = ("waiting", "running", "paused", "cancelled", "failed", *DONE)

_PLAIN = re.compile(r"[\w-]+")
_ROW = "key, name, family, spec, status, reason, tries, owner, lease, board, request"
_ATTEMPT = "key, number, owner, worker, log, started, ended, exit, outcome, reason, peak_memory"
_MARKS = ", ".join("?" * len(_ATTEMPT.split(",")))


@dataclass(frozen=True)
class JobRow:
    """A job in the store.

    Attributes:
        family: Key ``SUBJECT-SETTINGS`` of its statistics and its baseline, see ``Identity.family``.
        tries: Number of attempts that counted since the job was new or retried.
        board: Row of the leaderboard as JSON; "" before it has ended.
        request: What was asked of it while it runs: "pause", "cancel", "cancel now", or "" for nothing.
    """

    key: str
    name: str
    family: str
    spec: str
    status: str
    reason: str
    tries: int
    owner: str
    lease: float
    board: str
    request: str = ""

    @property
    def job(self) -> ZooJob:
        """The job itself.

        Raises:
            StatisticsError: The store holds none there, or that of another name.
        """
        job = ZooJob.from_json(self.spec)
        if job.name != self.name:
            raise StatisticsError(f"the store of the zoo is damaged: the job {self.name!r} has another's description")
        return job


@dataclass(frozen=True)
class Attempt:
    """One run of a job; times are seconds since 1970, memory is bytes."""

    key: str
    number: int
    owner: str
    worker: str
    log: str
    started: float
    ended: float | None
    exit: int | None
    outcome: str
    reason: str
    peak_memory: int | None


_Row = TypeVar("_Row", JobRow, Attempt)


class JobStore:
    """The store of a zoo's jobs, a context manager for one thread.

    Args:
        path: Path of the store, which is made if it does not exist.
        lease: Seconds that a job is held without a heartbeat.
        look: Whether it is only read, so that it may lie on a read-only file system.
    """

    def __init__(self, path: str | Path, *, lease: float = LEASE_SECONDS, look: bool = False):
        self.store = RunStore(path, look=look)
        self.lease = lease
        self._digests: list[tuple[str, str, str]] = []
        self.owner = f"{process_name(os.getpid())}:{secrets.token_hex(4)}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    def digest(self, path: str, stamp: str) -> str | None:
        """Return the stored digest of a file with this stamp."""
        rows = self.store.read("SELECT digest FROM files WHERE path = ? AND stamp = ?", (path, stamp))
        return str(rows[0][0]) if rows else None

    def keep_digest(self, path: str, stamp: str, digest: str) -> None:
        """Store the digest of a file; it is on disk after the next ``enter``, which writes all in one transaction."""
        self._digests.append((path, stamp, digest))

    def enter(self, jobs: Sequence[tuple[str, str, ZooJob]], names: Iterable[str]) -> None:
        """Add rows for ``(key, family, job)``; existing rows are not changed.

        Rows of the same name with another key belong to an older model, data set or manifest, and rows whose name is
        not in ``names`` (all names of the manifest) to a model that is gone. They keep their history but leave the
        leaderboard.
        """
        here = {job.name: key for key, _, job in jobs}
        known = set(names)
        with self.store.transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", self._digests)
            gone = [
                (key,)
                for key, name in connection.execute("SELECT key, name FROM jobs WHERE current = 1")
                if name not in known or here.get(name, key) != key
            ]
            connection.executemany("UPDATE jobs SET current = 0 WHERE key = ?", gone)
            connection.executemany(
                "INSERT INTO jobs (key, name, family, position, spec, threads, memory, current, status) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, 1, 'waiting') ON CONFLICT (key) DO UPDATE SET current = 1, "
                "family = excluded.family, position = excluded.position, spec = excluded.spec, "
                "threads = excluded.threads, memory = excluded.memory",
                [
                    (key, job.name, family, position, job.to_json(), job.threads, job.memory or 0)
                    for position, (key, family, job) in enumerate(jobs)
                ],
            )
            connection.execute("CREATE TEMP TABLE IF NOT EXISTS chosen (key TEXT PRIMARY KEY)")
            connection.execute("DELETE FROM chosen")
            connection.executemany("INSERT INTO chosen VALUES (?)", [(key,) for key, _, _ in jobs])
        self._digests.clear()

    def claim(self, *, threads: float, memory: float, only: str = "", shares: bool = True) -> tuple[JobRow, int] | None:
        """Take the next waiting job that fits, and open its attempt; None if there is none.

        While the first job of a family makes the statistics, or the first of a subject measures the baseline, the
        others are left waiting, because they would compute the same.

        Args:
            threads: Most threads of the job.
            memory: Most bytes of the job.
            only: Key of the only job to take.
            shares: Whether jobs are left waiting for what another computes; without it each computes all of its own.
        """
        related = ("{}.family = j.family", f"{{}}.family BETWEEN substr(j.family, 1, {SUBJECT_DIGITS}) "
                   f"AND substr(j.family, 1, {SUBJECT_DIGITS}) || '.'")  # fmt: skip
        alone = " ".join(
            f"AND NOT (EXISTS (SELECT 1 FROM jobs r WHERE {same.format('r')} AND r.status = 'running') "
            f"AND NOT EXISTS (SELECT 1 FROM jobs d WHERE {same.format('d')} AND d.board != ''))"
            for same in (related if shares else ())
        )
        columns = ", ".join(f"j.{name}" for name in _ROW.split(", "))
        with self.store.transaction() as connection:
            row = connection.execute(
                f"SELECT {columns} FROM jobs j JOIN temp.chosen USING (key) WHERE j.status = 'waiting' "
                f"AND j.threads <= ? AND j.memory <= ? {alone} AND (? = '' OR j.key = ?) ORDER BY j.position LIMIT 1",
                (threads, memory, only, only),
            ).fetchone()
            if row is None:
                return None
            key, now = row[0], time.time()
            connection.execute(
                "UPDATE jobs SET status = 'running', reason = '', tries = tries + 1, owner = ?, lease = ? "
                "WHERE key = ?",
                (self.owner, now + self.lease, key),
            )
            number = _next_number(connection, key)
            connection.execute(
                "INSERT INTO attempts (key, number, owner, started) VALUES (?, ?, ?, ?)",
                (key, number, self.owner, now),
            )
        return self.row(key), number

    def started(self, key: str, number: int, worker: str, log: str) -> None:
        """Store which process works on an attempt and where its log is."""
        with self.store.transaction() as connection:
            connection.execute(
                "UPDATE attempts SET worker = ?, log = ? WHERE key = ? AND number = ?", (worker, log, key, number)
            )

    def renew(self, keys: Sequence[str]) -> list[str]:
        """Renew the leases of jobs and return those that are no longer ours."""
        with self.store.transaction() as connection:
            lost = []
            for key in keys:
                changed = connection.execute(
                    "UPDATE jobs SET lease = ? WHERE key = ? AND owner = ? AND status = 'running'",
                    (time.time() + self.lease, key, self.owner),
                )
                if not changed.rowcount:
                    lost.append(key)
        return lost

    def finish(
        self,
        key: str,
        number: int,
        *,
        status: str,
        outcome: str,
        reason: str = "",
        exit: int | None = None,
        peak_memory: int | None = None,
        board: str = "",
        counts: bool = True,
        owner: str | None = None,
    ) -> str:
        """Close an attempt and set the status of its job; return that status, "" if the job is no longer ours.

        A job that would wait becomes paused or cancelled if that was asked of it, whatever ended the attempt.

        Args:
            key: Key of the job.
            number: Number of the attempt.
            status: New status of the job: "waiting" to try again, "failed", or that of its report.
            outcome: Outcome of the attempt in one word.
            reason: Reason as a sentence.
            exit: Exit code of the worker, negative for a signal.
            peak_memory: Peak memory of the worker in bytes.
            board: Row of the leaderboard as JSON.
            counts: Whether the attempt counts against the retries.
            owner: Owner that the job must have; ourselves unless given.
        """
        with self.store.transaction() as connection:
            asked = connection.execute("SELECT request FROM jobs WHERE key = ?", (key,)).fetchone()[0]
            if status == "waiting" and asked:
                status, reason, counts = ("paused" if asked == "pause" else "cancelled"), "", False
            changed = connection.execute(
                "UPDATE jobs SET status = ?, reason = ?, board = ?, owner = '', lease = 0, tries = tries - ?, "
                "request = '' WHERE key = ? AND owner = ? AND status = 'running'",
                (status, reason, board, 0 if counts else 1, key, owner or self.owner),
            ).rowcount
            if changed:
                connection.execute(
                    "UPDATE attempts SET ended = ?, exit = ?, outcome = ?, reason = ?, peak_memory = ? "
                    "WHERE key = ? AND number = ?",
                    (time.time(), exit, outcome, reason, peak_memory, key, number),
                )
        return status if changed else ""

    def requests(self) -> dict[str, str]:
        """Return what is asked of the running jobs that are ours, by key."""
        where = "owner = ? AND status = 'running' AND request != ''"
        return dict(self.store.read(f"SELECT key, request FROM jobs WHERE {where}", (self.owner,)))

    def abandoned(self) -> list[tuple[JobRow, Attempt]]:
        """Return running jobs whose owner is dead or has not renewed the lease in time, with their last attempts."""
        found = []
        # Also what is no longer of the manifest: as long as it counts as running, others of its family wait for it.
        for row in self.rows("status = 'running'", every=True):
            alive = running(row.owner.rpartition(":")[0])
            if row.owner != self.owner and (alive is False or row.lease < time.time()):
                found.append((row, self.attempts(row.key)[-1]))
        return found

    def again(self, keys: Iterable[str]) -> None:
        """Set jobs to waiting with all their attempts; running jobs are not changed."""
        with self.store.transaction() as connection:
            connection.executemany(
                "UPDATE jobs SET status = 'waiting', reason = '', board = '', tries = 0, request = '' "
                "WHERE key = ? AND status != 'running'",
                [(key,) for key in keys],
            )

    def adopt(self, row: JobRow, attempts: Sequence[Attempt], logs: Sequence[str]) -> None:
        """Set a job to its state in another store; ``logs`` are the new places of the attempts' logs."""
        with self.store.transaction() as connection:
            connection.execute(
                "UPDATE jobs SET status = ?, reason = ?, tries = ?, owner = '', lease = 0, board = ? "
                "WHERE key = ? AND status != 'running'",
                (row.status, row.reason, row.tries, row.board, row.key),
            )
            for one, log in zip(attempts, logs, strict=True):
                values = astuple(replace(one, log=log))
                connection.execute(f"INSERT OR REPLACE INTO attempts ({_ATTEMPT}) VALUES ({_MARKS})", values)

    def row(self, key: str) -> JobRow:
        """Return one job."""
        return self.rows("key = ?", (key,), every=True)[0]

    def rows(self, where: str = "1", values: Sequence[Any] = (), *, every: bool = False) -> list[JobRow]:
        """Return the jobs of the present manifest (or all jobs there were), in its order.

        Args:
            where: SQL condition on the columns.
            values: Values for its question marks.
            every: Whether to include jobs of older manifests, models and data.
        """
        current = "1" if every else "current = 1"
        found = self.store.read(f"SELECT {_ROW} FROM jobs WHERE {current} AND {where} ORDER BY position", values)
        return [self._checked(JobRow(*row)) for row in found]

    def chosen(self, where: str = "1") -> list[JobRow]:
        """Return the jobs that this process entered."""
        return self.rows(f"key IN (SELECT key FROM temp.chosen) AND {where}")

    def _checked(self, row: _Row) -> _Row:
        if wrong := _wrong(row):
            raise self.store.damaged(wrong)
        return row

    def shares(self, family: str) -> bool:
        """Return whether several jobs of the manifest belong to a family."""
        return len(self.store.read("SELECT 1 FROM jobs WHERE family = ? AND current = 1 LIMIT 2", (family,))) > 1

    def attempts(self, key: str | None = None) -> list[Attempt]:
        """Return the attempts of a job, or all, the oldest first."""
        where, values = ("", ()) if key is None else (" WHERE key = ?", (key,))
        found = self.store.read(f"SELECT {_ATTEMPT} FROM attempts{where} ORDER BY key, number", values)
        return [self._checked(Attempt(*row)) for row in found]


def _wrong(row: JobRow | Attempt) -> str:
    """Say what of a row calib has not written, "" for a sound one: names and keys become paths, and must not lead out.

    SQLite keeps whatever it is given, whatever the type of the column.
    """
    if isinstance(row, Attempt):
        numbers, words = (row.number, row.started, row.ended or 0, row.exit or 0), (row.owner, row.worker, row.log)
    else:
        numbers, words = (row.tries, row.lease), (row.family, row.spec, row.reason, row.owner, row.board)
    if not (all(isinstance(one, int | float) for one in numbers) and all(isinstance(one, str) for one in words)):
        return "a column holds a value of another type"
    if not (isinstance(row.key, str) and _PLAIN.fullmatch(row.key)):
        return f"{row.key!r} is no key"
    if isinstance(row, Attempt):
        return ""
    sound = {
        "name of a job": (row.name, isinstance(row.name, str) and _leads_nowhere(row.name)),
        "family": (row.family, _PLAIN.fullmatch(row.family)),
        "status": (row.status, row.status in STATUSES),
        "request": (row.request, row.request in REQUESTS),
    }
    return next((f"{value!r} is no {what}" for what, (value, fits) in sound.items() if not fits), "")


def _leads_nowhere(name: str) -> bool:
    """Say whether a name is a path that stays below the folder it is put behind."""
    return name.strip("/") == name != "" and ".." not in name.split("/") and "\0" not in name


def _next_number(connection: sqlite3.Connection, key: str) -> int:
    found = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM attempts WHERE key = ?", (key,)).fetchone()
    return int(found[0])
