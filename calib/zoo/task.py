"""What a worker is told and what it answers: plain data that fits through a pipe or a cluster."""

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

# An answer has to fit into a pipe that nobody reads before the worker has ended (64 KiB on Linux).
MOST_TEXT = 8000


@dataclass(frozen=True)
class Task:
    """One attempt at a job.

    Attributes:
        key: of the job.
        number: of the attempt.
        job: what is to be done.
        folder: of the attempt; the result appears in it under ``RESULT``.
        log: file that the worker's stderr goes to.
        statistics: .npz that jobs of one model, data and choice of samples share; "" without one.
        verdicts: SQLite file of what was measured for this model and data, so that a retry goes on; "" without one.
        allow_python: whether ``python:module:name`` may be run, which came from a manifest.
    """

    key: str
    number: int
    job: ZooJob
    folder: str
    log: str
    statistics: str = ""
    verdicts: str = ""
    allow_python: bool = False

    def to_json(self) -> str:
        """Return what ``from_json`` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Task:
        """Read a task."""
        data = json.loads(text)
        return cls(**{**data, "job": ZooJob(**data["job"])})


@dataclass(frozen=True)
class Ended:
    """How an attempt ended.

    Attributes:
        exit: code of the worker, negative for a signal; None where it is not known (a lost machine).
        answer: what the worker said: "board", or "kind" and "reason" of its error; {} where it could say nothing.
        stopped: why it was ended from outside: a sentence for memory and time; "" otherwise.
        peak_memory: highest resident memory seen, in bytes.
        lost: the machine it ran on is gone; a sentence.
    """

    exit: int | None
    answer: dict[str, Any]
    stopped: str = ""
    peak_memory: int | None = None
    lost: str = ""


def write_marker(folder: Path, key: str, board: dict[str, Any]) -> None:
    """Say that a result is complete, whose it is, and what the leaderboard shows of it."""
    write_text(folder / MARKER, json.dumps({"key": key, "board": board}, indent=1) + "\n")


def read_marker(text: str | None, key: str) -> dict[str, Any] | None:
    """Return the row of the leaderboard in a marker's text if it is this job's, None otherwise."""
    try:
        found = json.loads(text or "")
    except ValueError:
        return None
    ours = isinstance(found, dict) and found.get("key") == key and isinstance(found.get("board"), dict)
    return found["board"] if ours else None


def file_text(path: Path) -> str | None:
    """Return the text of a file, None where it can't be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def sync(folder: Path) -> None:
    """Have the files of a folder on disk before a rename makes them count."""
    for path in (*sorted(folder.iterdir()), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
