"""The run store: every result of a search is on disk as soon as it is known, and survives kill -9.

The store is one SQLite file. Each change is one transaction, written ahead and synced (WAL, synchronous=FULL), so that
a kill or a power cut loses at most the change being written. New tables are one more entry in `MIGRATIONS`; old entries
never change.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from calib.errors import MetricError, OutputError, StatisticsError

Evaluate = Callable[[frozenset[str], NDArray[np.int64]], Sequence[Any]]
Latency = Callable[[Sequence[frozenset[str]]], Sequence[float]]

# Marks the file as calib's in SQLite's header ("CALB"), so that nobody else's database is written to.
APPLICATION_ID = 0x43414C42

FP32_RUN = "fp32/"  # begins the key of a run of the FP32 model
_IN_MEMORY = ":memory:"  # SQLite's name for no file

# Entry i takes a file from version i to version i + 1 (SQLite's user_version).
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE facts (run TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (run, key));
    CREATE TABLE verdicts (
        run TEXT NOT NULL, plan TEXT NOT NULL, block TEXT NOT NULL,
        reverted TEXT NOT NULL, parts TEXT NOT NULL,
        PRIMARY KEY (run, plan, block)
    );
    CREATE TABLE timings (
        run TEXT NOT NULL, race TEXT NOT NULL, position INTEGER NOT NULL,
        reverted TEXT NOT NULL, latency_ms REAL NOT NULL,
        PRIMARY KEY (run, race, position)
    );
    CREATE TABLE rankings (
        run TEXT NOT NULL, position INTEGER NOT NULL,
        layers TEXT NOT NULL, damage REAL NOT NULL, cost_ms REAL NOT NULL,
        PRIMARY KEY (run, position)
    );
    """,
    # The zoo's (calib/zoo/jobs.py): one row a job, one row an attempt, and digests of files that were read before.
    """
    CREATE TABLE jobs (
        key TEXT PRIMARY KEY, name TEXT NOT NULL, family TEXT NOT NULL, position INTEGER NOT NULL,
        spec TEXT NOT NULL, threads INTEGER NOT NULL, memory INTEGER NOT NULL, current INTEGER NOT NULL,
        status TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', tries INTEGER NOT NULL DEFAULT 0,
        owner TEXT NOT NULL DEFAULT '', lease REAL NOT NULL DEFAULT 0, board TEXT NOT NULL DEFAULT ''
    );
    CREATE INDEX jobs_by_name ON jobs (name);
    CREATE INDEX jobs_by_status ON jobs (status, position);
    CREATE INDEX jobs_by_family ON jobs (family, status);
    CREATE TABLE attempts (
        key TEXT NOT NULL, number INTEGER NOT NULL, owner TEXT NOT NULL, worker TEXT NOT NULL DEFAULT '',
        log TEXT NOT NULL DEFAULT '', started REAL NOT NULL, ended REAL, exit INTEGER,
        outcome TEXT NOT NULL DEFAULT 'running', reason TEXT NOT NULL DEFAULT '', peak_memory INTEGER,
        PRIMARY KEY (key, number)
    );
    CREATE TABLE files (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, digest TEXT NOT NULL);
    """,
    # Which samples a verdict is of, so that it serves where they are asked for in other portions.
    "ALTER TABLE verdicts ADD COLUMN samples TEXT NOT NULL DEFAULT '[]';",
    # The error of a unit quantized alone is its sensitivity, and its time is not measured. The table is copied because
    # SQLite before 3.35 can't drop a column.
    """
    ALTER TABLE rankings RENAME TO old_rankings;
    CREATE TABLE rankings (
        run TEXT NOT NULL, position INTEGER NOT NULL, layers TEXT NOT NULL, sensitivity REAL NOT NULL,
        PRIMARY KEY (run, position)
    );
    INSERT INTO rankings SELECT run, position, layers, damage FROM old_rankings;
    DROP TABLE old_rankings;
    """,
    # What was asked of a running job from outside of its supervisor, which obeys within a second.
    "ALTER TABLE jobs ADD COLUMN request TEXT NOT NULL DEFAULT '';",
)


class RunStore:
    """An open run store, to be used as a context manager from one thread, with one connection per process.

    Args:
        path: Path of the file, which is made if it does not exist. Its folder must exist.
        timeout: Seconds to wait for another process that is writing.
        look: Whether the file is only read. Where it can't be written, as on a read-only file system, it is then opened
            as one that nobody changes.

    Raises:
        OutputError: The file can't be opened or written.
        StatisticsError: The file is damaged, or belongs to another program or a newer calib.
    """

    def __init__(self, path: str | Path, *, timeout: float = 30.0, look: bool = False):
        self.path = Path(path)
        still = look and not (os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK))
        try:
            # Transactions are explicit below: isolation_level=None keeps Python from opening its own.
            place = f"{self.path.absolute().as_uri()}?immutable=1" if still else self.path
            self._connection = sqlite3.connect(place, timeout=timeout, isolation_level=None, uri=still)
        except sqlite3.Error as error:
            way = "it is a folder; move it away" if self.path.is_dir() else "does its folder exist?"
            raise OutputError(f"run store {self.path}: can't be opened ({error}); {way}") from error
        try:
            with self._translated():
                if still:
                    self._check_still()
                else:
                    self._prepare(time.monotonic() + timeout)
        except BaseException:
            self._connection.close()
            raise

    @property
    def folder(self) -> Path | None:
        """Folder of the file; None for a store in memory."""
        return None if str(self.path) == _IN_MEMORY else self.path.parent

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; everything is already on disk."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Provide the connection inside a write transaction; afterwards all of it is on disk, or nothing.

        Raises:
            OutputError: The disk is full, or another process holds the file for too long.
            StatisticsError: The file is damaged.
        """
        with self._translated(), self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    def read(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a SELECT."""
        with self._translated():
            return self._connection.execute(statement, tuple(values)).fetchall()

    def put(self, run: str, key: str, value: Any) -> None:
        """Store a value that JSON can hold under a key of a run, replacing an older one."""
        with self.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", (run, key, _json(value)))

    def get(self, run: str, key: str) -> Any:
        """Return a stored value as JSON gives it back; None if there is none."""
        rows = self.read("SELECT value FROM facts WHERE run = ? AND key = ?", (run, key))
        return self._parse(rows[0][0]) if rows else None

    def keep_verdict(self, run: str, reverted: frozenset[str], block: NDArray[np.int64], parts: Sequence[Any]) -> None:
        """Store the parts of one plan on one block of samples.

        Raises:
            MetricError: There is not one part per sample, or JSON can't hold a part.
        """
        if len(parts) != len(block):
            raise MetricError(
                f"the evaluation gave {len(parts)} parts for {len(block)} samples: one a sample is needed"
            )
        try:
            text = _json(list(parts))
        except (TypeError, ValueError, AttributeError) as error:
            raise MetricError(
                f"what the metric keeps of a sample must be numbers, strings and lists of them ({error})"
            ) from error
        row = (run, plan_hash(reverted), block_hash(block), _json(sorted(reverted)), text, _json(block.tolist()))
        with self.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?, ?)", row)

    def known(self, run: str, reverted: frozenset[str]) -> dict[int, Any]:
        """Return sample index → part for all samples that this plan was evaluated on."""
        rows = self.read("SELECT samples, parts FROM verdicts WHERE run = ? AND plan = ?", (run, plan_hash(reverted)))
        found: dict[int, Any] = {}
        for text, kept in rows:
            samples, parts = self._parse(text), self._parse(kept)
            if not isinstance(parts, list) or not isinstance(samples, list) or len(parts) != len(samples):
                raise self.damaged(f"a verdict holds {kept[:40]!r} where {len(samples)} parts are needed")
            found.update(zip(samples, parts, strict=True))
        return found

    def verdicts(self, run: str) -> int:
        """Return the number of blocks of samples stored for this run."""
        return int(self.read("SELECT count(*) FROM verdicts WHERE run = ?", (run,))[0][0])

    def searched(self) -> int:
        """Return the number of verdicts that searches stored, of all runs; those of FP32 are not counted."""
        return int(self.read("SELECT count(*) FROM verdicts WHERE run NOT LIKE ?", (f"{FP32_RUN}%",))[0][0])

    def keep_timings(self, run: str, plans: Sequence[frozenset[str]], latencies_ms: Sequence[float]) -> None:
        """Store the latencies of plans that were timed against each other."""
        race = race_hash(plans)
        rows = [
            (run, race, position, _json(sorted(plan)), _number(ms))
            for position, (plan, ms) in enumerate(zip(plans, latencies_ms, strict=True))
        ]
        with self.transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO timings VALUES (?, ?, ?, ?, ?)", rows)

    def timings(self, run: str, plans: Sequence[frozenset[str]]) -> list[float] | None:
        """Return the stored latencies of exactly these plans in this order; None if they were not timed."""
        rows = self.read(
            "SELECT latency_ms FROM timings WHERE run = ? AND race = ? ORDER BY position", (run, race_hash(plans))
        )
        return [float(row[0]) for row in rows] or None

    def keep_ranking(self, run: str, ranking: Sequence[tuple[frozenset[str], float]]) -> None:
        """Store the units in order, each with its sensitivity (finite or inf)."""
        rows = [(run, position, _json(sorted(unit)), _number(s)) for position, (unit, s) in enumerate(ranking)]
        with self.transaction() as connection:
            connection.execute("DELETE FROM rankings WHERE run = ?", (run,))
            connection.executemany("INSERT INTO rankings VALUES (?, ?, ?, ?)", rows)

    def ranking(self, run: str) -> list[tuple[frozenset[str], float]] | None:
        """Return the ranking that `keep_ranking` stored; None if there is none."""
        rows = self.read("SELECT layers, sensitivity FROM rankings WHERE run = ? ORDER BY position", (run,))
        return [(frozenset(self._parse(layers)), sensitivity) for layers, sensitivity in rows] or None

    def _prepare(self, deadline: float) -> None:
        """Check the file, switch it to WAL and migrate it; start again while another process is changing it.

        The switch to WAL does not wait for another process as other statements do (SQLite reports SQLITE_BUSY at once
        if a read lock would have to become a write lock), so it is repeated here until the deadline.
        """
        while True:
            try:
                self._check()
                self._connection.execute("PRAGMA journal_mode=WAL")
                self._connection.execute("PRAGMA synchronous=FULL")
                self._migrate()
                return
            except sqlite3.OperationalError as error:
                # Extended codes (SQLITE_BUSY_RECOVERY and others) hold the kind in their lowest byte.
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                    raise
                time.sleep(0.005)

    def _check_still(self) -> None:
        """Refuse a file that is damaged, or of an older format that would have to be changed."""
        self._check()
        if self._version() < len(MIGRATIONS):
            raise StatisticsError(
                f"run store {self.path}: made by an older calib, and it can't be changed where it is read-only; copy it"
            )

    def _check(self) -> None:
        """Refuse a file that is damaged or of another program, before anything in it is changed."""
        with self._transaction("BEGIN") as connection:
            self._version()
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise self.damaged(str(verdict))

    def _version(self) -> int:
        """Return the format of the file, 0 for a new file; call it in a transaction to read a consistent state.

        Raises:
            StatisticsError: The file belongs to another program or a newer calib.
        """
        owner = int(self._connection.execute("PRAGMA application_id").fetchone()[0])
        version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        tables = int(self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
        if owner != APPLICATION_ID and (owner or version or tables):
            raise StatisticsError(f"run store {self.path}: the file is another program's database; name another file")
        if version > len(MIGRATIONS):
            raise StatisticsError(
                f"run store {self.path}: made by a newer calib (format {version}, this one reads up to "
                f"{len(MIGRATIONS)}); update calib or name another file"
            )
        return version

    def _migrate(self) -> None:
        with self._transaction("BEGIN IMMEDIATE") as connection:
            version = self._version()  # again: another process may have migrated in between
            for script in MIGRATIONS[version:]:
                for statement in filter(str.strip, script.split(";")):
                    connection.execute(statement)
            if version < len(MIGRATIONS):
                connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version={len(MIGRATIONS)}")

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        """Provide the connection between ``begin`` and COMMIT, or ROLLBACK after an error; errors pass through."""
        self._connection.execute(begin)
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # a full disk has rolled back already
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if str(error).startswith(("no such", "table ")):  # it is none of ours, or somebody changed it
                raise self.damaged(str(error)) from error
            raise OutputError(
                f"run store {self.path}: {error}; is the disk full, the file read-only, or in use elsewhere?"
            ) from error
        except (sqlite3.DatabaseError, UnicodeDecodeError, OverflowError) as error:
            raise self.damaged(str(error)) from error

    def _parse(self, text: str) -> Any:
        try:
            return json.loads(text)
        except (TypeError, ValueError) as error:
            raise self.damaged(str(error)) from error

    def damaged(self, detail: str) -> StatisticsError:
        """Return the error of a file that holds what no calib has written."""
        return StatisticsError(
            f"run store {self.path}: not a run store, or damaged ({detail}); delete the file to start again"
        )


def remembered(store: RunStore, run: str, evaluate: Evaluate) -> Evaluate:
    """Return ``evaluate`` backed by the store: each part is on disk before it is used, and computed once.

    Args:
        store: Run store that holds the parts.
        run: Key for everything that parts depend on: model, data, settings and metric.
        evaluate: Function ``(reverted layers, sample indices) → parts``; JSON must be able to hold the parts (numpy
            values are converted).

    Returns:
        The same function. Its parts are always as JSON gives them back (tuples become lists), so that a resumed run
        computes with exactly the same values as the first one.
    """

    def evaluate_once(reverted: frozenset[str], indices: NDArray[np.int64]) -> Sequence[Any]:
        known = store.known(run, reverted)
        if len(missing := indices[[i not in known for i in indices.tolist()]]):
            store.keep_verdict(run, reverted, missing, evaluate(reverted, missing))
            known = store.known(run, reverted)
        return [known[i] for i in indices.tolist()]

    return evaluate_once


def remembered_latency(store: RunStore, run: str, latency: Latency) -> Latency:
    """Return ``latency`` backed by the store: plans that were timed against each other are not timed again."""

    def time_once(plans: Sequence[frozenset[str]]) -> Sequence[float]:
        known = store.timings(run, plans)
        if known is None:
            store.keep_timings(run, plans, latency(plans))
            known = store.timings(run, plans)
        assert known is not None
        return known

    return time_once


def plan_hash(reverted: frozenset[str]) -> str:
    """Return the identity of a set of reverted layers."""
    return hashlib.sha256(_json(sorted(reverted)).encode()).hexdigest()


def block_hash(indices: NDArray[np.int64]) -> str:
    """Return the identity of sample indices in their order."""
    return hashlib.sha256(np.ascontiguousarray(indices, dtype="<i8").tobytes()).hexdigest()


def race_hash(plans: Sequence[frozenset[str]]) -> str:
    """Return the identity of plans that are timed against each other, in their order."""
    return hashlib.sha256(_json([sorted(plan) for plan in plans]).encode()).hexdigest()


def _number(value: float) -> float:
    # SQLite keeps NaN as NULL; inf says the same here: worse than any number.
    return math.inf if math.isnan(value) else float(value)


def _json(value: Any) -> str:
    # Floats are written so that they read back to the last bit; numpy scalars and arrays become numbers and lists.
    return json.dumps(value, default=lambda item: item.tolist(), separators=(",", ":"))


def hash_of(parts: Any) -> str:
    """Return a hash of values that JSON or ``str`` can write: a key under which results are stored."""
    return hashlib.sha256(json.dumps(parts, default=str).encode("utf-8", "surrogatepass")).hexdigest()


def open_store(path: str | Path | None, resume: bool) -> AbstractContextManager[RunStore]:
    """Open a run store, one in memory without a path; without ``resume`` its earlier content is deleted."""
    if path is None:
        return RunStore(_IN_MEMORY)
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not resume:
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"run store {path}: can't be written ({error.strerror or error}); choose another output folder"
        ) from error
    return RunStore(path)
