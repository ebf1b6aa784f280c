"""Serve a studio: bind the port, print the link, open the browser, and run until it is stopped."""

from __future__ import annotations

import fcntl
import os
import socket
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from calib.errors import MissingExtraError, OutputError, UsageError
from calib.studio.allowed import Allowed
from calib.values.distribution import needed_with

FOLDER = "calib-studio"  # of the runs, in the folder that is served
_PACKAGES = ("starlette", "uvicorn", "sse_starlette", "python_multipart")


def serve(
    allowed: Allowed,
    output: Path,
    *,
    host: str,
    port: int | None,
    uploads: int,
    jobs: int,
    browser: bool,
    say: Callable[[str], None],
) -> None:
    """Serve until a signal ends it; runs go on without it.

    Args:
        allowed: What pages may reach.
        output: Folder of the runs.
        host: Address to listen on.
        port: Port to listen on; None for that of the last time if it is free, or any.
        uploads: Most bytes of an upload.
        jobs: Most runs at the same time.
        browser: Whether to open the page.
        say: Receives each line for the terminal.

    Raises:
        MissingExtraError: The extra is not installed.
        OutputError: The folder can't be written, or the port is in use.
        UsageError: Another studio serves this folder.
    """
    for package in _PACKAGES:
        try:
            __import__(package)
        except ImportError as error:
            name = package.replace("_", "-")
            raise MissingExtraError("calib studio", name, *needed_with(name)) from error
    import uvicorn

    from calib.studio.app import make_app
    from calib.studio.guard import Door, Guard
    from calib.studio.sessions import Sessions

    with _alone(output):
        sessions = Sessions(output / ".session.json")
        bound = _bound(host, port, sessions.port)
        door = Door(host, bound.getsockname()[1])
        sessions.keep(door.port)

        def link() -> str:
            return f"{door.address}?token={sessions.token}"

        guarded = Guard(
            make_app(allowed, output, jobs), sessions, door, uploads, lambda: say(f"for another browser: {link()}")
        )
        say(f"calib studio: {link()}")
        if browser:
            webbrowser.open(link())
        config = uvicorn.Config(
            guarded,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_graceful_shutdown=2,
            h11_max_incomplete_event_size=64 << 10,
        )
        with suppress(KeyboardInterrupt):  # uvicorn raises the signal again that ended it
            uvicorn.Server(config).run(sockets=[bound])


def _bound(host: str, port: int | None, last: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for one in (port,) if port is not None else (last, 0):
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((host, one))
            made.listen(128)  # before the link is printed: whoever opens it at once waits for the server
            return made
        except OSError as error:
            made.close()
            if one == port or not one:
                raise OutputError(f"--host {host} --port {one}: can't be listened on: {error.strerror}") from error
    raise AssertionError("the last of the ports raises")


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Hold the folder: two servers would print two links to the same runs, and only one would be right."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        handle = os.open(output / ".server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OutputError(f"{output} can't be written: {error.strerror}; choose another folder with -o") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise UsageError(f"{output}: another calib studio serves this folder; use its link, or end it") from error
    try:
        yield
    finally:
        os.close(handle)
