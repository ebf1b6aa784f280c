"""Progress for a person: one line a stage that stays, and a live one where there is a terminal or a notebook.

A line says which stage of how many it is, the time it has taken and is expected to take, and how far it is::

    [4/8] statistics  3.1 s
    [7/8] search  12 s of about 40 s  3 of at most 9, drop 0.21 points of 0.50 points allowed
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TextIO

REFRESH_SECONDS = 0.5
QUIET_SECONDS = 30.0  # longest silence of a stage where nothing is redrawn


class Face(Protocol):
    """Where progress is shown."""

    def line(self, text: str) -> None:
        """Show a line that stays."""
        ...

    def live(self, text: str, share: float | None) -> None:
        """Show what is going on at present in place of what was shown before, ``share`` of it done."""
        ...

    def clear(self) -> None:
        """Take away what ``live`` showed."""
        ...


class Shown:
    """Receiver of progress that shows it; one object a run, since stages are numbered."""

    def __init__(self, face: Face, clock: Callable[[], float]):
        self._face = face
        self._clock = clock
        self._names: list[str] = []
        self._seconds: Mapping[str, float] = {}
        self._ended = 0

    @contextmanager
    def __call__(self, stage: str, total: int | None = None) -> Iterator[Running]:
        """Show one stage while it runs, and the line that stays when it has ended."""
        running = Running(self, stage, total, self._clock)
        over = threading.Event()
        watch = threading.Thread(target=self._redraw, args=(running, over), daemon=True)
        watch.start()
        try:
            yield running
        finally:
            over.set()
            watch.join()
            self._face.clear()
        self._ended += 1
        self._face.line(running.text(self.number(stage), 0.0))

    def expect(self, names: Sequence[str], seconds: Mapping[str, float]) -> None:
        """Take the names of all stages of the run, and seconds that some of them are expected to take."""
        self._names, self._seconds = list(names), seconds

    def expected(self, stage: str) -> float | None:
        """Return the seconds that a stage is expected to take; None if nobody knows."""
        return self._seconds.get(stage)

    def number(self, stage: str) -> str:
        """Return ``[4/8] `` for a stage, "" before the names of the stages are known."""
        if stage not in self._names:
            return ""
        return f"[{self._names.index(stage) + 1}/{len(self._names)}] "

    def say(self, line: str) -> None:
        """Show a line that stays above what is live."""
        self._face.line(line)

    def _redraw(self, running: Running, over: threading.Event) -> None:
        while not over.wait(REFRESH_SECONDS):
            self._face.live(running.text(self.number(running.name)), running.share)


class Running:
    """A stage that is running: what it has reported.

    Args:
        run: Run that it belongs to.
        name: Name of the stage.
        total: Number of its units; None if unknown.
        clock: Clock of the run; the stage begins now.
    """

    def __init__(self, run: Shown, name: str, total: int | None, clock: Callable[[], float]):
        self._run = run
        self.name = name
        self._total = total
        self._clock = clock
        self._begun = clock()
        self._done = 0
        self._note = ""

    @property
    def share(self) -> float | None:
        """Share of the units that is done; None if their number is unknown."""
        return min(1.0, self._done / self._total) if self._total else None

    def update(self, count: int = 1, note: str = "") -> None:
        """Note that units are done, see ``calib.progress.Stage``."""
        self._done += count
        self._note = note or self._note

    def reached(self, done: int, note: str) -> None:
        """Note how many units are done by now."""
        self._done, self._note = done, note

    def say(self, line: str) -> None:
        """Show a remark that stays."""
        self._run.say(line)

    def expect(self, names: Sequence[str], seconds: Mapping[str, float]) -> None:
        """Tell the run which stages come, see ``calib.progress.Clock.expect``."""
        self._run.expect(names, seconds)

    def text(self, number: str, least: float = 1.0) -> str:
        """Return the line of the stage; what is left is said only after ``least`` seconds, and never at its end."""
        since = self._clock() - self._begun
        expected = self._expected(since) if since >= least > 0 else None
        of = f" of about {duration(expected)}" if expected else ""
        count = f"{self._done:,} of {self._total:,}" if self._total and not self._note and least else ""
        return "  ".join(
            part for part in (f"{number}{self.name}", f"{duration(since)}{of}", self._note or count) if part
        )

    def _expected(self, since: float) -> float | None:
        share = self.share
        found = since / share if share and share > 0.02 else self._run.expected(self.name)
        return None if found is None or found < since else found


class Lines:
    """A file or a pipe: lines that stay, and of a long stage one every half a minute."""

    def __init__(self, stream: TextIO, clock: Callable[[], float]):
        self._stream = stream
        self._clock = clock
        self._last = clock()

    def line(self, text: str) -> None:
        """Write a line."""
        self._last = self._clock()
        _write(self._stream, f"{text}\n")

    def live(self, text: str, share: float | None) -> None:  # Face says what it takes
        """Write the line if nothing was written for long."""
        if self._clock() - self._last >= QUIET_SECONDS:
            self.line(text)

    def clear(self) -> None:
        """Do nothing: what is written stays."""


class Bar:
    """A terminal or a notebook's cell: a bar of tqdm while a stage runs, and lines that stay above it."""

    def __init__(self, bars: Any, stream: TextIO):
        """Draw with a class of tqdm, ``tqdm.tqdm`` or ``tqdm.notebook.tqdm``."""
        self._bars = bars
        self._stream = stream
        self._bar: Any = None

    def line(self, text: str) -> None:
        """Write a line above the bar."""
        with contextlib.suppress(OSError, ValueError):  # as _write does
            self._bars.write(text, file=self._stream)

    def live(self, text: str, share: float | None) -> None:
        """Draw the bar, no wider than the terminal."""
        with contextlib.suppress(OSError, ValueError):
            if self._bar is None:
                total = None if share is None else 1.0
                self._bar = self._bars(
                    total=total, leave=False, file=self._stream, dynamic_ncols=True, bar_format="{desc}  {bar}"
                )
            self._bar.n = 1.0 if share is None else share  # without a total a notebook draws a short full bar
            self._bar.set_description_str(text)

    def clear(self) -> None:
        """Remove the bar."""
        with contextlib.suppress(OSError, ValueError):
            if self._bar is not None:
                self._bar.n = 1.0  # a notebook leaves a bar that is not full, and marks it as failed
                self._bar.close()
        self._bar = None


def shown() -> Shown:
    """Return what shows the progress of one run where this process runs: in a notebook, on a terminal or in a file."""
    return Shown(face(), time.monotonic)


def face() -> Face:
    """Return where progress is shown: a notebook's cell, the terminal on stderr, or the file or pipe that it is."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    notebook = type(shell).__name__ == "ZMQInteractiveShell"
    if not notebook and (not sys.stderr.isatty() or os.environ.get("TERM") == "dumb"):
        return Lines(sys.stderr, time.monotonic)
    widgets = notebook and importlib.util.find_spec("ipywidgets") is not None  # without them tqdm draws text there too
    bars = importlib.import_module("tqdm.notebook" if widgets else "tqdm").tqdm  # here: a silent run does not load it
    return Bar(bars, sys.stdout if notebook else sys.stderr)  # a notebook draws stderr on red, as errors


def duration(seconds: float) -> str:
    """Return a time as people read it: ``0.4 s``, ``73 s``, ``12 min``, ``2 h 3 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _write(stream: TextIO, text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # progress that can't be shown is no reason to end a run
        stream.write(text)
        stream.flush()
