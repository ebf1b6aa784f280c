"""Let signals end a run between two steps, not in the middle of one."""

from __future__ import annotations

import signal
import threading
from typing import Any, Self

INTERRUPTED = "it was interrupted"  # why a run ended early, behind a colon


class Interrupts:
    """Context that records a SIGINT or SIGTERM for a loop to check; a second signal raises at once.

    An exception raised by a signal can come between any two instructions: right after a worker was started, before it
    is known, or where Python can only print it (a destructor, a callback, a hook around a fork). Only signals that
    would raise an exception are recorded; those that are ignored or end the process are left alone.
    """

    def __init__(self) -> None:
        self.noted = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # only there may signals be set, and do they arrive
            for number in (signal.SIGINT, signal.SIGTERM):
                if callable(signal.getsignal(number)):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise the recorded signal, called where nothing is half done.

        Raises:
            KeyboardInterrupt: A signal was received.
        """
        if self.noted:
            raise KeyboardInterrupt

    def _note(self, *_: object) -> None:
        if self.noted:
            raise KeyboardInterrupt
        self.noted = True
