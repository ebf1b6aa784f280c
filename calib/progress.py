"""Progress of long runs: the protocol, a silent implementation, and the times of stages."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
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


def receiver(progress: Progress | bool | None) -> Progress:
    """Return what receives progress: ``True`` shows it to a person, ``None`` and ``False`` show nothing."""
    if progress is True:
        from calib.progress_shown import shown  # here, so that a silent run does not load it

        return shown()
    return progress or silent


class Clock:
    """Measures wall and CPU seconds of each stage and shows its progress."""

    def __init__(self, progress: Progress | bool | None = None):
        self._progress = receiver(progress)
        self._logs = not progress
        self.stages: list[StageFacts] = []

    @contextmanager
    def __call__(self, name: str, total: int | None = None) -> Generator[Stage]:
        """Time one stage."""
        wall, cpu = time.perf_counter(), time.process_time()
        with self._progress(name, total) as stage:
            yield stage
        self.stages.append(StageFacts(name=name, wall=time.perf_counter() - wall, cpu=time.process_time() - cpu))

    def expect(self, stage: Stage, names: Sequence[str], seconds: Mapping[str, float]) -> None:
        """Tell whoever shows progress which stages a run has, and how long they are expected to take.

        Args:
            stage: Stage that runs now; one without a method ``expect`` does not want to know.
            names: Names of all stages, in their order.
            seconds: Expected seconds of some of them, by name.
        """
        if (tell := getattr(stage, "expect", None)) is not None:
            tell(names, seconds)

    def warn(self, stage: Stage, sentences: Iterable[str]) -> None:
        """Say printable sentences while there is time to stop: to the stage, or without progress to the log "calib"."""
        for sentence in sentences:
            stage.say(f"{WARNING}{sentence}")
            if self._logs:
                _log.warning("%s", sentence)
