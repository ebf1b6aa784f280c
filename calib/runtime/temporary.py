"""Temporary files and folders whose names tell who made them, so that what a killed process left is swept later.

A name holds the machine, the process and when it started. Whoever makes a temporary file first removes those in the
same folder whose process is gone; those of a process that runs, of another machine or of another user stay.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_NAME = re.compile(r"\.calib-([0-9a-f]{8})-(\d{1,10})-(\d{1,12})-[0-9a-f]{8}(\..*)?")

# The clock that a start is told by may be set a little in between. In doubt a file stays.
_SECONDS = 3


@contextmanager
def temporary_folder(parent: str | Path | None = None, *, parents: bool = False) -> Iterator[Path]:
    """Make a folder in ``parent``, or in the system's folder for temporary files, and remove it afterwards.

    Args:
        parent: Folder to make it in.
        parents: Whether that is made too if it is missing; it stays.

    Raises:
        OSError: It can't be made.
    """
    path = temporary_path(tempfile.gettempdir() if parent is None else parent)
    path.mkdir(mode=0o700, parents=parents)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def temporary_path(parent: str | Path, suffix: str = "") -> Path:
    """Return a new path in ``parent`` for a temporary file, after sweeping there."""
    sweep(parent)
    return Path(parent, f".calib-{_machine()}-{os.getpid()}-{_start(os.getpid())}-{secrets.token_hex(4)}{suffix}")


def sweep(parent: str | Path) -> None:
    """Remove the temporary files and folders in ``parent`` whose process is gone; links are not followed."""
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            found = _NAME.fullmatch(entry.name)
            if found and found[1] == _machine() and not _runs(int(found[2]), int(found[3])):
                _remove(Path(entry.path))


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        facts = path.lstat()
        if facts.st_uid != os.geteuid():
            return
        if stat.S_ISDIR(facts.st_mode):
            shutil.rmtree(path, ignore_errors=True)
        elif stat.S_ISREG(facts.st_mode):
            path.unlink()


@cache
def _machine() -> str:
    """Return a short name of this machine and process namespace, within which process ids are unique."""
    space = "/proc/self/ns/pid"
    name = f"{socket.gethostname()}/{os.readlink(space) if os.path.islink(space) else ''}"
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _start(pid: int) -> int:
    """Return when a process started, in seconds since 1970.

    Raises:
        psutil.Error: There is no such process.
    """
    import psutil

    return int(psutil.Process(pid).create_time())


def _runs(pid: int, start: int) -> bool:
    """Return whether that process runs; a later one with the same id has another start."""
    import psutil

    try:
        return abs(_start(pid) - start) <= _SECONDS and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:  # it may not be asked about
        return True
