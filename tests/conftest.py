"""What holds for all tests: Ctrl-C, also where a shell started them, and what every test would pay for again."""

import gc
import os
import signal
from collections.abc import Iterator

import pytest


def pytest_configure() -> None:
    """Let SIGINT interrupt: a script's shell has it ignored in what it starts with "&", and Python keeps to that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Tests start hundreds of processes, and each would compile the modules of calib anew, half a second of CPU.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Have the garbage collector leave out what collecting tests makes: it stays, and is 300,000 objects to look at."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.fixture
def quick_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time models in blocks a twentieth as long, where it matters that they are timed and not how fast they are."""
    monkeypatch.setattr("calib.runtime.timing.BLOCK_SECONDS", 0.0002)
