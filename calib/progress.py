"""Progress of long runs: the protocol, a silent implementation, bars on a terminal, and the times of stages."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from calib.values.facts import StageFacts

_log = logging.getLogger("calib")

WARNING = "warning: "  # begins the lines of a stage that warn


class Stage(Protocol):
    """A running stage."""

    def update(self, count: int = 1, note: str = "") -> None:
        """Report that ``count`` more units are done; ``note`` replaces the remark beside the bar, "" keeps it."""
        ...

    def say(self, line: str) -> None:
        """Print a remark that stays, on a line of its own."""
        ...


class Progress(Protocol):
    """Receiver of progress: ``with progress("statistics", 300) as stage: stage.update(1)``."""

    def __call__(self, stage: str, total: int | None = None) -> AbstractContextManager[Stage]:
        """Begin a stage of ``total`` units, None if unknown; it ends with the context."""
        ...


class _SilentStage:
    def update(self, count: int = 1, note: str = "") -> None:
        pass

    def say(self, line: str) -> None:
        pass


def recorder(stage: Stage) -> Callable[[str, Mapping[str, Any]], None] | None:
    """Return the method of a stage that takes facts as data, ``record(kind, values)``; None if it has none.

    A page draws from them what others print as a line. Few stages have it, so that the values may cost something.
    """
    return getattr(stage, "record", None)


@contextmanager
def silent(stage: str, total: int | None = None) -> Iterator[Stage]:  # noqa: ARG001  # Progress says what it takes
    """Show nothing; the default of the Python API."""
    yield _SilentStage()


class _BarStage:
    def __init__(self, bar):
        self._bar = bar

    def update(self, count: int = 1, note: str = "") -> None:
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(count)

    def say(self, line: str) -> None:
        self._bar.write(line, file=sys.stderr)  # above the bar; also where stderr is no terminal


@contextmanager
def bars(stage: str, total: int | None = None) -> Iterator[Stage]:
    """Draw a bar on stderr with the time that remains; nothing if stderr is not a terminal."""
    from tqdm import tqdm  # here, so that a silent run does not load it

    # disable=None: tqdm's own word for "only on a terminal"
    with tqdm(total=total, desc=stage, leave=False, dynamic_ncols=True, disable=None) as bar:
        yield _BarStage(bar)


class Clock:
    """Measures wall and CPU seconds of each stage and shows its progress."""

    def __init__(self, progress: Progress | None = None):
        self._progress = progress or silent
        self._logs = progress is None
        self.stages: list[StageFacts] = []

    @contextmanager
    def __call__(self, name: str, total: int | None = None) -> Generator[Stage]:
        """Time one stage."""
        wall, cpu = time.perf_counter(), time.process_time()
        with self._progress(name, total) as stage:
            yield stage
        self.stages.append(StageFacts(name=name, wall=time.perf_counter() - wall, cpu=time.process_time() - cpu))

    def warn(self, stage: Stage, sentences: Iterable[str]) -> None:
        """Say printable sentences while there is time to stop: to the stage, or without progress to the log "calib"."""
        for sentence in sentences:
            stage.say(f"{WARNING}{sentence}")
            if self._logs:
                _log.warning("%s", sentence)
