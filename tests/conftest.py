"""What holds for all tests: Ctrl-C, also where a shell started them in the background, and compiled modules."""

import os
import signal

import pytest


def pytest_configure() -> None:
    """Let SIGINT interrupt: a script's shell has it ignored in what it starts with "&", and Python keeps to that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Tests start hundreds of processes, and each would compile the modules of calib anew, half a second of CPU.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture
def quick_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time models in blocks a twentieth as long, where it matters that they are timed and not how fast they are."""
    monkeypatch.setattr("calib.runtime.timing.BLOCK_SECONDS", 0.0002)
