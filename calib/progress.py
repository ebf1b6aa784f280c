"""How a long run says how far it is: a protocol for whoever works, a silent one and a bar for whoever watches."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Stage(Protocol):
    """A stage that is under way."""

    def update(self, count: int = 1, note: str = "") -> None:
        """Say that ``count`` more units are done; ``note`` replaces the remark beside the bar, "" keeps it."""
        ...

    def say(self, line: str) -> None:
        """Say something that stays: a line of its own."""
        ...


class Progress(Protocol):
    """Told of each stage as it begins: ``with progress("statistics", 300) as stage: stage.update(1)``."""

    def __call__(self, stage: str, total: int | None = None) -> AbstractContextManager[Stage]:
        """Begin a stage of ``total`` units (None where nobody knows); it ends with the context."""
        ...


class _SilentStage:
    def update(self, count: int = 1, note: str = "") -> None:
        pass

    def say(self, line: str) -> None:
        pass


@contextmanager
def silent(stage: str, total: int | None = None) -> Iterator[Stage]:  # noqa: ARG001  # Progress says what it takes
    """Show nothing: what the Python API uses unless it is given something else."""
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
    """Draw a bar on stderr, with what remains; nothing where stderr is no terminal."""
    from tqdm import tqdm  # here, so that a silent run does not load it

    # disable=None: tqdm's own word for "only on a terminal"
    with tqdm(total=total, desc=stage, leave=False, dynamic_ncols=True, disable=None) as bar:
        yield _BarStage(bar)
