"""The task of a worker and its answer, as plain data for a pipe or a cluster."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from calib.report.files import write_text
from calib.zoo.make_jobs import ZooJob

# The last file of a result: a folder without it, or with another key in it, is not that job's.
MARKER = "job.json"

# Names of the files in the folder of an attempt.
TASK = "task.json"
RESULT = "result"
NOTES = "notes"  # what the worker was doing, for the message if a crash ends it

# An answer has to fit into a pipe that nobody reads before the worker has ended (64 KiB on Linux).
MOST_TEXT = 8000


@dataclass(frozen=True)
class Task:
    """One attempt at a job.

    Attributes:
        key: Key of the job.
        number: Number of the attempt.
        job: Job to run.
        folder: Folder of the attempt; the result appears in it under ``RESULT``.
        log: File for the worker's stderr.
        statistics: Path of the .npz that jobs of one model, data and choice of samples share; "" for none.
        verdicts: Path of the SQLite file of results for this model and data, so that a retry continues; "" for none.
        allow_python: Whether ``python:module:name`` from a manifest may run.
        events: File that the worker appends its events to; "" for none.
    """

    key: str
    number: int
    job: ZooJob
    folder: str
    log: str
    statistics: str = ""
    verdicts: str = ""
    allow_python: bool = False
    events: str = ""

    def to_json(self) -> str:
        """Return the task as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Task:
        """Return the task in JSON of ``to_json``."""
        data = json.loads(text)
        return cls(**{**data, "job": ZooJob(**data["job"])})


@dataclass(frozen=True)
class Ended:
    """How an attempt ended.

    Attributes:
        exit: Exit code of the worker, negative for a signal; None if unknown (a lost machine).
        answer: Answer of the worker: "board", or "kind" and "reason" of its error; after a crash "crash", a sentence on
            where it came from and the way round it; {} if it gave none.
        stopped: Reason why it was stopped for memory or time, as a sentence; "" otherwise.
        peak_memory: Highest resident memory seen, in bytes.
        lost: Sentence if the machine it ran on is lost; "" otherwise.
    """

    exit: int | None
    answer: dict[str, Any]
    stopped: str = ""
    peak_memory: int | None = None
    lost: str = ""


def write_marker(folder: Path, key: str, board: dict[str, Any]) -> None:
    """Write the marker of a complete result, with its job and its row of the leaderboard."""
    write_text(folder / MARKER, json.dumps({"key": key, "board": board}, indent=1) + "\n")


def read_marker(text: str | None, key: str) -> dict[str, Any] | None:
    """Return the row of the leaderboard in a marker's text if it belongs to this job, None otherwise."""
    try:
        found = json.loads(text or "")
    except ValueError:
        return None
    ours = isinstance(found, dict) and found.get("key") == key and isinstance(found.get("board"), dict)
    return found["board"] if ours else None


def file_text(path: Path) -> str | None:
    """Return the text of a file; None if it can't be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def files_of(folder: Path) -> list[Path]:
    """Return the files of a result relative to its folder, with those of its pictures, the marker last."""
    found = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return sorted(found, key=lambda path: (path == Path(MARKER), path.as_posix()))


def sync(folder: Path) -> None:
    """Sync the files of a folder to disk, before a rename publishes them."""
    for path in (*sorted(folder.rglob("*")), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
