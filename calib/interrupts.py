"""Signals that end a run between two steps, not in the middle of one."""

from __future__ import annotations

import signal
import threading
from typing import Any, Self


class Interrupts:
    """Notes a SIGINT or SIGTERM while it is entered, for a loop to look at; the second one raises at once.

    An exception out of a signal comes between any two instructions: where a worker was started and nobody knows it
    yet, or where Python can only print and forget it (a destructor, a callback, a hook around a fork). Only signals
    that would have raised are noted; one that is ignored, or that ends the process, stays what it was.
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
        """Raise what was noted, at a place where nothing is half done.

        Raises:
            KeyboardInterrupt: a signal came.
        """
        if self.noted:
            raise KeyboardInterrupt

    def _note(self, *_: object) -> None:
        if self.noted:
            raise KeyboardInterrupt
        self.noted = True
