"""The events of a job in a file beside its logs: what its workers do, line by line, for any number of readers.

A line is one JSON object, appended in one write, so that a kill loses at most the line being written, and readers take
no lock and hold nobody up. The number of an event is the offset of the end of its line in bytes: it only grows, over
all attempts, and reading on from a number is one seek. A line that a kill or a full disk cut off is passed over.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calib.progress import WARNING, Progress, Stage
from calib.report.numbers import seconds

# Reports of progress that are written a second, and how many may come at once after a quiet time.
_A_SECOND = 4.0
_AT_ONCE = 8.0

# Most bytes that one call reads.
MOST_BYTES = 1 << 20
_TAIL = 1 << 16  # bytes that hold the last report of progress, behind however many lines of the log


@dataclass(frozen=True)
class Event:
    """One thing that happened to a job.

    Attributes:
        number: Number of the event, larger than those of all before it; the next one is asked for with it.
        time: Seconds since 1970.
        attempt: Number of the attempt that it belongs to.
        kind: What it is of. ``status``: the job's, with ``status`` and ``reason``. ``stage``: ``stage``, ``state``
            (begun or ended), ``total`` units or None, ``seconds``. ``stages``: ``names`` of all that the run has, and
            ``seconds`` that some are expected to take, by name. ``progress``: ``stage``, ``done`` of ``total``
            units, ``note`` on what is being tried, ``seconds`` since the stage began, ``left_s`` or None. ``baseline``:
            ``metrics``, each with ``metric``, ``value``, ``unit`` and ``higher_is_better``, and ``samples``.
            ``search``: a plan evaluated, see ``calib.engine.accuracy_control``. ``timed``: ``plans``, each with its
            ``step``, ``reverted`` layers and ``latency_ms``. ``warning`` and ``log``: ``stage`` and ``text``.
            ``result``: the row of the leaderboard.
        values: What is known of it, by name; None where a number is not finite.
    """

    number: int
    time: float
    attempt: int
    kind: str
    values: dict[str, Any]


def read_events(path: str | Path, after: int = 0) -> list[Event]:
    """Return the events after a number, the oldest first; none if there is no file yet.

    At most ``MOST_BYTES`` are read; what is left is read by the next call.

    Args:
        path: File of the events.
        after: Number of the last event known. One beyond the end of the file is of a file that is gone: all are read.
    """
    try:
        with open(path, "rb") as file:
            if after > os.fstat(file.fileno()).st_size:
                after = 0
            file.seek(max(0, after))
            data = file.read(MOST_BYTES)
            if data and b"\n" not in data:  # a line longer than what is read at most
                data += file.readline()
    except FileNotFoundError:
        return []
    found, number = list[Event](), max(0, after)
    for line in data[: data.rfind(b"\n") + 1].splitlines(keepends=True):
        number += len(line)
        if (event := _parsed(line, number)) is not None:
            found.append(event)
    return found


def _parsed(line: bytes, number: int) -> Event | None:
    try:
        data = json.loads(line)
        return Event(number, float(data["time"]), int(data["attempt"]), str(data["kind"]), dict(data["values"]))
    except (ValueError, KeyError, TypeError):  # cut off by a kill, or no event of ours
        return None


def doing(path: str | Path) -> str:
    """Return what a job does by its last events, such as ``search: 3 of at most 9, 12 s left``; "" if it has none."""
    try:
        size = os.path.getsize(path)
    except FileNotFoundError:
        return ""
    for event in reversed(read_events(path, max(0, size - _TAIL))):
        values = event.values
        if event.kind == "progress":
            count = f"{values['done']} of {values['total']}" if values["total"] else ""
            left = f"{seconds(values['left_s'])} left" if values["left_s"] else ""
            said = ", ".join(part for part in (values["note"] or count, left) if part)
            return f"{values['stage']}: {said}" if said else str(values["stage"])
        if event.kind in ("stage", "status"):
            return str(values.get("stage") or values["status"])
    return ""


def found_within(path: str | Path, attempt: int) -> bool:
    """Say whether the search of an attempt has found a plan that keeps the budget."""
    after, found = 0, False
    while events := read_events(path, after):
        after = events[-1].number
        found |= any(one.attempt == attempt and one.kind == "search" and one.values["within"] for one in events)
    return found


class EventFile:
    """A file of events that is written to; a context manager.

    Args:
        path: File that is appended to; "" to keep no events.
        attempt: Number of the attempt.
    """

    def __init__(self, path: str | Path, attempt: int):
        self._attempt = attempt
        self._descriptor: int | None = None
        if not path:
            return
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            size = os.fstat(self._descriptor).st_size
            if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
                os.write(self._descriptor, b"\n")  # ends the line that a kill cut off
        except OSError as error:
            self._give_up(error)

    def __enter__(self) -> EventFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def write(self, kind: str, values: Mapping[str, Any]) -> None:
        """Append one event; on a disk that is full or read-only the job goes on without, and its log says so."""
        if self._descriptor is None:
            return
        data = {"time": time.time(), "attempt": self._attempt, "kind": kind, "values": values}
        line = json.dumps(_finite(data), default=str, separators=(",", ":"), allow_nan=False) + "\n"
        try:
            os.write(self._descriptor, line.encode("utf-8", "replace"))
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.close()
        try:
            print(f"events are no longer written: {error.strerror or error}", file=sys.stderr, flush=True)
        except OSError:  # the log is on the same full disk; the answer of the worker tells of that
            return


def note(path: str | Path, attempt: int, kind: str, values: Mapping[str, Any]) -> None:
    """Append one event to a file that others write to as well."""
    with EventFile(path, attempt) as file:
        file.write(kind, values)


def recorded(progress: Progress, file: EventFile) -> Progress:
    """Return a receiver of progress that also writes events."""

    @contextmanager
    def recording(stage: str, total: int | None = None) -> Iterator[Stage]:
        begun = time.monotonic()
        file.write("stage", {"stage": stage, "state": "begun", "total": total, "seconds": 0.0})
        with progress(stage, total) as inner:
            yield (recorder := _RecordedStage(inner, file, stage, total))
        recorder.flush()
        took = time.monotonic() - begun
        file.write("stage", {"stage": stage, "state": "ended", "total": total, "seconds": took})

    return recording


class _RecordedStage:
    """Passes everything on to a stage, and writes it as events: of progress a few a second, of the rest everything."""

    def __init__(self, inner: Stage, file: EventFile, name: str, total: int | None):
        self._inner = inner
        self._file = file
        self._name = name
        self._total = total
        self._done = 0
        self._note = ""
        self._begun = self._filled = time.monotonic()
        self._allowed = _AT_ONCE
        self._behind = False

    def update(self, count: int = 1, note: str = "") -> None:
        self._inner.update(count, note)
        self._done += count
        self._note = note or self._note
        now = time.monotonic()
        self._allowed = min(_AT_ONCE, self._allowed + (now - self._filled) * _A_SECOND)
        self._filled = now
        self._behind = self._allowed < 1
        if not self._behind:
            self._allowed -= 1
            self._write()

    def say(self, line: str) -> None:
        self._inner.say(line)
        kind = "warning" if line.startswith(WARNING) else "log"
        self._file.write(kind, {"stage": self._name, "text": line.removeprefix(WARNING)})

    def expect(self, names: Sequence[str], seconds: Mapping[str, float]) -> None:
        self._file.write("stages", {"names": list(names), "seconds": dict(seconds)})
        if (tell := getattr(self._inner, "expect", None)) is not None:
            tell(names, seconds)

    def record(self, kind: str, values: Mapping[str, Any]) -> None:
        self._file.write(kind, values)

    def flush(self) -> None:
        """Write the last report of progress, if it was held back."""
        if self._behind:
            self._write()

    def _write(self) -> None:
        done, total, since = self._done, self._total, time.monotonic() - self._begun
        left = since * max(0, total - done) / done if total and done else None
        values = {"stage": self._name, "done": done, "total": total, "note": self._note, "seconds": since}
        self._file.write("progress", {**values, "left_s": left})


def _finite(value: Any) -> Any:
    """Return values as JSON can hold them in any language: None for a number that is not finite."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value
