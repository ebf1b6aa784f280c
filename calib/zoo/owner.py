"""Name the processes that work on jobs, so that a supervisor on the same machine sees when they die."""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path

import psutil


@cache
def machine() -> str:
    """Return the name of this boot and process namespace, within which process ids are unique."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return socket.gethostname()


def process_name(pid: int) -> str:
    """Return ``machine:pid:start`` of a process; the start distinguishes it from a later one with the same id."""
    try:
        start = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        start = 0.0
    return f"{machine()}:{pid}:{start:.2f}"


def running(name: str) -> bool | None:
    """Return whether a process named by ``process_name`` is alive; None for one of another machine."""
    where, _, rest = name.partition(":")
    pid, _, start = rest.partition(":")
    if where != machine() or not pid.isdecimal():
        return None
    try:
        process = psutil.Process(int(pid))
        return f"{process.create_time():.2f}" == start.partition(":")[0] and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end(name: str) -> None:
    """Kill a process named by ``process_name`` and its children if it is alive here, and wait until it is gone."""
    if running(name):
        kill_tree(int(name.split(":")[1]))


def kill_tree(pid: int) -> None:
    """Kill a process and its children and wait until they are gone."""
    try:
        process = psutil.Process(pid)
        family = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    for one in family:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=10)
