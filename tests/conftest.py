"""Ctrl-C for all tests, also where a shell started them in the background."""

import signal


def pytest_configure() -> None:
    """Let SIGINT interrupt: a script's shell has it ignored in what it starts with "&", and Python keeps to that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
