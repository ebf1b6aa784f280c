"""What the jobs of a zoo do while they run: live lines on a terminal, and elsewhere a line for each stage that ended.

It reads the events that the workers write, so that it costs them nothing and works for those of any runner.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from calib.progress_shown import QUIET_SECONDS, REFRESH_SECONDS, Lines, Running, Shown, duration
from calib.report.escape import printable, shorten
from calib.report.numbers import plural
from calib.zoo.events import Event, read_events
from calib.zoo.sources import shown_name
from calib.zoo.task import Task

# Stages whose remarks are figures of the model: what FP32 reaches, and INT8 and each plan of the search.
_FIGURES = ("baseline", "search")
_SCREEN = (80, 24)  # columns and lines where a terminal does not tell


class Screen:
    """A terminal: lines that stay, and below them the live ones, which are drawn anew."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._drawn = 0
        self._live: list[str] = []

    def line(self, text: str) -> None:
        """Write a line that stays above the live ones."""
        self._write(f"{self._back()}{text}\n{self._below()}")

    def live(self, lines: Sequence[str]) -> None:
        """Draw the live lines, cut to the terminal; "" of them takes them away."""
        columns, rows = shutil.get_terminal_size(_SCREEN)
        most = max(1, rows - 2)
        more = [f"… and {len(lines) - most + 1} more"] if len(lines) > most else []
        self._live = [shorten(line, columns - 1) for line in [*lines[: most - len(more)], *more]]
        back = self._back()
        self._write(back + self._below())

    def _back(self) -> str:
        """Return what takes the live lines away: the way up to the first one, and erasing from there."""
        return f"\x1b[{self._drawn}A\r\x1b[J" if self._drawn else ""

    def _below(self) -> str:
        self._drawn = len(self._live)
        return "".join(f"{line}\n" for line in self._live)

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # progress that can't be shown is no reason to end a run
            self._stream.write(text)
            self._stream.flush()


class _Job:
    """A running job: the events that were read, and the stage that they tell of."""

    def __init__(self, task: Task, say: Callable[[str], None], stages: bool):
        self.task = task
        self.name = printable(shown_name(task.job.name))
        self._say = say
        self._stages = stages
        self._after = 0
        self._now = self._since = time.time()
        self._seen = False
        self._run = Shown(Lines(sys.stderr, time.time), lambda: self._now)
        self._stage: Running | None = None

    def read(self) -> None:
        """Take the events since the last call."""
        while events := read_events(self.task.events, self._after) if self.task.events else ():
            self._after = events[-1].number
            for event in events:
                if event.attempt == self.task.number:
                    self._now = event.time
                    self._take(event)

    def live(self) -> str:
        """Return what it does at present."""
        self._now = time.time()
        if self._stage is None:
            return f"{self.name}  {'saving' if self._seen else 'starting'}  {duration(self._now - self._since)}"
        return f"{self.name}  {printable(self._stage.text(self._run.number(self._stage.name)))}"

    def _take(self, event: Event) -> None:
        values = event.values
        if event.kind == "stage" and values["state"] == "begun":
            self._stage = Running(self._run, str(values["stage"]), values["total"], lambda: self._now)
        elif event.kind == "stage" and self._stage is not None:
            if self._stages:
                self._tell(self._stage.text(self._run.number(self._stage.name), 0.0))
            self._stage, self._since, self._seen = None, event.time, True
        elif event.kind == "stages":
            self._run.expect(values["names"], values["seconds"])
        elif event.kind == "progress" and self._stage is not None:
            self._stage.reached(int(values["done"]), str(values["note"]))
        elif event.kind == "warning":
            self._tell(f"warning: {values['text']}")
        elif event.kind == "log" and (self._stages or values["stage"] in _FIGURES):
            self._tell(str(values["text"]))

    def _tell(self, text: str) -> None:
        self._say(f"{self.name}: {printable(text)}")


class Live:
    """Shows a run of a zoo on stderr; one object a run.

    Args:
        stream: Where to show it; stderr by default.
        clock: Clock in seconds.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic):
        self._stream = stream or sys.stderr
        self._screen = Screen(self._stream) if self._stream.isatty() else None
        self._clock = clock
        self._begun = self._said = self._looked = clock()
        self._running: dict[tuple[str, int], _Job] = {}

    def notice(self, text: str) -> None:
        """Show a line that stays, after what the jobs have done until then."""
        self._read()
        self.line(text)

    def line(self, text: str) -> None:
        """Show a line that stays."""
        self._said = self._clock()
        if self._screen:
            self._screen.line(text)
        else:
            with contextlib.suppress(OSError, ValueError):  # as Screen does
                self._stream.write(f"{text}\n")
                self._stream.flush()

    def watch(self, tasks: Sequence[Task], ended: int, jobs: int) -> None:
        """Look at the jobs that run; at most twice a second.

        Args:
            tasks: Attempts that are running.
            ended: Number of jobs that this run has ended.
            jobs: Number of jobs that it was to run.
        """
        if self._clock() - self._looked < REFRESH_SECONDS:
            return
        self._looked = self._clock()
        known = {(task.key, task.number): task for task in tasks}
        self._running = {key: job for key, job in self._running.items() if key in known}
        for key, task in known.items():
            self._running.setdefault(key, _Job(task, self.line, self._screen is None))
        self._read()
        if self._screen:
            heading = f"{ended} of {plural(jobs, 'job')} ended, {duration(self._clock() - self._begun)}"
            self._screen.live([heading, *(f"  {job.live()}" for job in self._running.values())])
        elif self._clock() - self._said >= QUIET_SECONDS:
            for job in self._running.values():
                self.line(job.live())

    def close(self) -> None:
        """Take the live lines away."""
        if self._screen:
            self._screen.live([])

    def _read(self) -> None:
        for job in self._running.values():
            job.read()
