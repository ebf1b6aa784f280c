"""Run one job in a process of its own: ``python -P -m calib.zoo.worker TASK``, started by the supervisor.

stdin is a pipe that the supervisor holds open; the worker ends when it closes. stdout carries one line of JSON, the
answer; everything else that is printed goes to the log, as stderr does.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import calib
from calib.config.run_inputs import RunInputs
from calib.errors import CalibError, StatisticsError, one_line
from calib.interrupts import INTERRUPTED
from calib.progress import Progress, Stage
from calib.report.html import FILE_NAME as PAGE
from calib.report.html import write_html
from calib.runtime.crash import note_in, noted
from calib.values.facts import Report
from calib.zoo.checked import found_by_itself, with_configuration
from calib.zoo.events import EventFile, recorded
from calib.zoo.leaderboard_rows import row_of_report, to_json
from calib.zoo.task import MOST_TEXT, NOTES, RESULT, Task, write_marker
from calib.zoo.urls import fetch, is_url


def main(arguments: list[str], progress: Progress | None = None) -> int:
    """Run the task in the file that is the only argument; return the exit code."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # prints of OpenVINO, of a metric or of a data source must not look like an answer
    _die_with(sys.stdin.fileno())
    # The supervisor's word to end the search, which listens to it itself; a model that was found is then saved.
    signal.signal(signal.SIGINT, lambda *_: None)
    task = Task.from_json(Path(arguments[0]).read_text(encoding="utf-8"))
    started, events = time.monotonic(), EventFile(task.events, task.number)
    try:
        os.chdir(task.job.base)
        note_in(os.open(Path(task.folder) / NOTES, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
        report = quantize(task, noted(recorded(progress or _logged, events)))
        if report.accuracy and report.accuracy.stopped == INTERRUPTED and report.status in ("over_budget", "fp32_kept"):
            raise KeyboardInterrupt
        folder = Path(task.folder) / RESULT
        write_html(report, folder / PAGE)
        board = to_json(row_of_report(task.job.name, report, time.monotonic() - started))
        write_marker(folder, task.key, board)
        events.write("result", board)
    except CalibError as error:
        return _failed(answers, type(error).__name__, one_line(error))
    except KeyboardInterrupt:
        return _failed(answers, "KeyboardInterrupt", "it was interrupted before there was a model to keep")
    except MemoryError:
        return _failed(answers, "MemoryError", "there was not enough memory; see resources.memory, or run fewer jobs")
    except Exception as error:
        traceback.print_exc()
        return _failed(answers, type(error).__name__, f"unexpected {type(error).__name__}: {one_line(error)}")
    return _answer(answers, 0, {"board": board})


def quantize(task: Task, progress: Progress) -> Report:
    """Run the job and save its result; the only place where the zoo calls the engine."""
    job = task.job
    model = fetch(job.model, Path(task.folder) / "model") if is_url(job.model) else Path(job.model)
    calibration, judged = with_configuration(job)
    given: dict[str, Any] = {"threads": job.threads, **job.settings, **judged, "allow_python": task.allow_python}
    if task.verdicts:
        given |= {"store": task.verdicts, "resume": True}
    try:
        result = calib.quantize(model, calibration, progress=progress, statistics=task.statistics or None, **given)
    except StatisticsError as error:
        # Shared files are a saving, not a need: one that is damaged or of another calib must not cost the job, and
        # statistics are collected anew for all that share them.
        with progress("load") as stage:
            stage.say(f"it begins again, as what is shared can't be used: {error}")
        if task.statistics and task.statistics in str(error):
            Path(task.statistics).unlink(missing_ok=True)
            given["statistics"] = task.statistics
        given = {name: value for name, value in given.items() if name not in ("store", "resume")}
        result = calib.quantize(model, calibration, progress=progress, **given)
    if said := found_by_itself(job):
        told = result.report.model_copy(update={"warnings": [said, *result.report.warnings]})
        result = replace(result, report=told)
    if is_url(job.model) or Path(task.folder) in Path(job.model).parents:  # a copy, which is gone afterwards
        result = replace(result, inputs=RunInputs())
    # The folder of an attempt is gone afterwards too: a run by itself writes to one of its own.
    result = replace(result, inputs=replace(result.inputs, output=f"{result.report.model.name}-int8"))
    return result.save(Path(task.folder) / RESULT, pictures=True)


def _die_with(pipe: int) -> None:
    """Let the kernel end this process when the other end of the pipe is closed, even inside a long native call.

    Closing is an event on the pipe, events send SIGIO, and the default action of SIGIO is to terminate.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(pipe, select.POLLHUP)
    if poll.poll(0):  # it was closed before we listened
        os._exit(1)


class _LoggedStage:
    """Writes the progress of a stage to the log, whose last line ``calib zoo status`` shows."""

    def __init__(self, name: str):
        self._name = name

    def update(self, count: int = 1, note: str = "") -> None:
        if note:
            self.say(f"{self._name}: {note}")

    def say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


@contextmanager
def _logged(stage: str, total: int | None = None) -> Iterator[Stage]:
    """Write a line to the log when a stage begins and one when it has ended."""
    begun, inner = time.monotonic(), _LoggedStage(stage)
    inner.say(f"{stage}: begins{f', {total} units' if total else ''}")
    yield inner
    inner.say(f"{stage}: {time.monotonic() - begun:.2f} s")


def _failed(answers: IO[str], kind: str, reason: str) -> int:
    try:
        print(f"error: {reason}", file=sys.stderr, flush=True)
    except OSError:  # the disk that the log is on is full: the answer goes through the pipe
        reason += " (the log could not be written either)"
    return _answer(answers, 1, {"kind": kind, "reason": reason[:MOST_TEXT]})


def _answer(answers: IO[str], code: int, answer: dict[str, Any]) -> int:
    answer["peak_memory"] = _peak_memory()
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
    return code


def _peak_memory() -> int:
    """Return the peak resident memory in bytes; getrusage would include the supervisor's, from before the exec."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    except OSError:  # no Linux: what the supervisor saw has to do
        found = None
    return int(found[1]) << 10 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
