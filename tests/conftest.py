"""What holds for all tests: Ctrl-C, also where a shell started them in the background, and compiled modules."""

import os
import signal


def pytest_configure() -> None:
    """Let SIGINT interrupt: a script's shell has it ignored in what it starts with "&", and Python keeps to that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Tests start hundreds of processes, and each would compile the modules of calib anew, half a second of CPU.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
