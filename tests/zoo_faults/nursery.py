"""A process that has loaded calib and forks what would otherwise be started: ``python nursery.py``.

To load calib takes more than a second of CPU, and a test of kills needs dozens of workers. Nothing here compiles a
model before it is forked, so there are no threads that a fork could lose; everything else about a forked process is as
that of a started one: its own session, its own pipes, no file of its parent's.

stdin and stdout carry a line of JSON each for a request and its answer, see ``Nursery``.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


class Nursery:
    """The tests' end of it; a context manager."""

    def __init__(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def start(self, function: str, *arguments: Any, out: Path | None = None, err: Path | None = None) -> Child:
        """Fork a process that calls ``module:function`` with what JSON can carry; stderr is shared without ``err``."""
        files = [str(out or os.devnull), str(err or "/dev/stderr")]
        return Child(self, int(self._ask(["start", function, arguments, *files])))

    def _ask(self, request: list[Any]) -> Any:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


class Child:
    """A forked process, as much of ``subprocess.Popen`` as the tests need."""

    def __init__(self, nursery: Nursery, pid: int):
        self.pid = pid
        self._nursery = nursery

    def wait(self, seconds: float = 120.0) -> int:
        """Return its exit code, negative for a signal; kill it when it takes too long."""
        end = time.monotonic() + seconds
        while (code := self._nursery._ask(["poll", self.pid])) is None:
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                raise AssertionError(f"process {self.pid} did not end within {seconds:g} s")
            time.sleep(0.01)
        return code


class Forked:
    """What ``calib.zoo.process`` uses of ``subprocess.Popen``, for Python commands: a fork where that would start."""

    def __init__(self, command: Sequence[str], *, stderr: Any, env: dict[str, str], **_: Any):
        read_in, write_in = os.pipe()
        read_out, write_out = os.pipe()
        self.returncode: int | None = None
        self.pid = _forked(lambda: _run(command), (read_in, write_out, stderr.fileno()), env)
        os.close(read_in)
        os.close(write_out)
        self.stdin, self.stdout = open(write_in, "wb", 0), open(read_out, "rb")  # noqa: SIM115

    def poll(self) -> int | None:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # psutil has waited for it; Popen gives 0 then too
                pid, status = self.pid, 0
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self) -> int:
        while (code := self.poll()) is None:
            time.sleep(0.005)
        return code


def _popen(command: Sequence[str], **given: Any) -> Any:
    python = command[0] == sys.executable and (command[1:3] == ["-P", "-m"] or Path(command[1]).parent == FOLDER)
    return Forked(command, **given) if python else subprocess.Popen(command, **given)


def _run(command: Sequence[str]) -> int:
    """Do in this process what a Python command would do in its own."""
    if command[1:3] == ["-P", "-m"]:
        return importlib.import_module(command[3]).main(list(command[4:]))
    return importlib.import_module(f"zoo_faults.{Path(command[1]).stem}").main(*command[2:])


def _forked(call: Callable[[], Any], files: tuple[int, int, int], environment: dict[str, str]) -> int:
    """Fork a process with these standard files that makes a call and ends; return its id."""
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        return pid
    code = 1
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        kept = [os.dup(file) for file in files]
        for target, file in enumerate(kept):
            os.dup2(file, target)
        os.closerange(3, 4096)
        os.environ.clear()
        os.environ.update(environment)
        code = call() or 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _start(function: str, arguments: Sequence[Any], out: str, err: str) -> int:
    module, _, name = function.partition(":")
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    error = os.dup(2) if err == "/dev/stderr" else os.open(err, flags)
    files = (os.open(os.devnull, os.O_RDONLY), os.open(out, flags), error)
    try:
        return _forked(lambda: getattr(importlib.import_module(module), name)(*arguments), files, dict(os.environ))
    finally:
        for file in files:
            os.close(file)


def _poll(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def main() -> None:
    import scipy

    import calib
    import calib.cli.zoo
    import calib.zoo.worker
    from calib.zoo import process

    assert calib.quantize and scipy.special  # loaded at their first use
    process.subprocess = type("Forking", (), {"Popen": staticmethod(_popen), "PIPE": subprocess.PIPE})
    gc.freeze()  # what was loaded stays shared with the children
    # Not sys.stdin: it reads ahead, and children have their own.
    requests = open(os.dup(0), buffering=1)  # noqa: SIM115
    while line := requests.readline():
        what, *arguments = json.loads(line)
        print(json.dumps(_start(*arguments) if what == "start" else _poll(*arguments)), flush=True)


if __name__ == "__main__":
    main()
