"""Run a worker's process and watch its memory, its time and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from calib.runtime.crash import explain
from calib.zoo.owner import kill_tree, process_name
from calib.zoo.task import NOTES, TASK, Ended, Task, file_text

# -P: without the current folder on the path, where a file called like a library would be run in its place.
COMMAND = (sys.executable, "-P", "-m", "calib.zoo.worker")

# Looking for a worker's children reads all processes of the machine, 6 ms of CPU where there are 160.
CHILDREN_SECONDS = 1.0

# Each library has its own word for how many threads it may start.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Process:
    """One running worker.

    Args:
        task: Task to run; its folder is made.
        command: Command that is run with the task's file as the last argument.
    """

    def __init__(self, task: Task, command: Sequence[str] = COMMAND):
        self.task = task
        folder, log = Path(task.folder), Path(task.log)
        folder.mkdir(parents=True, exist_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        (folder / TASK).write_text(task.to_json(), encoding="utf-8")
        environment = os.environ | dict.fromkeys(_THREADS, str(task.job.threads))
        with open(log, "ab") as stream:
            self._process = subprocess.Popen(
                [*command, str(folder / TASK)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the supervisor, which then ends its workers
            )
        self.name = process_name(self._process.pid)
        self._started = time.monotonic()
        self._peak = 0
        self._family: list[psutil.Process] = []
        self._listed = 0.0
        self._stopped = ""

    def poll(self) -> Ended | None:
        """Check memory and time, and return how the worker ended; None while it runs."""
        code = self._process.poll()
        if code is None:
            self._watch()
            return None
        return self._ended(code)

    def stop(self, why: str) -> None:
        """Kill the worker and its children; the next ``poll`` returns how it ended."""
        self._stopped = self._stopped or why
        kill_tree(self._process.pid)

    def interrupt(self) -> None:
        """Ask the worker to end its search with the best model so far."""
        if self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGINT)

    def close(self) -> None:
        """Kill the worker and close its pipes."""
        self.stop("stopped")
        self._process.wait()
        self._let_go()

    def _watch(self) -> None:
        job = self.task.job
        memory = self._memory()
        self._peak = max(self._peak, memory)
        if job.memory is not None and memory > job.memory:
            self.stop(
                f"used {memory / 2**20:.0f} MiB of memory, above its cap of {job.memory / 2**20:.0f} MiB "
                "(resources.memory)"
            )
        elif job.timeout is not None and time.monotonic() - self._started > job.timeout:
            self.stop(f"took longer than {job.timeout:g} s (resources.timeout)")

    def _memory(self) -> int:
        """Return the resident memory of the worker and its children, in bytes."""
        now, found = time.monotonic(), 0
        if now - self._listed >= CHILDREN_SECONDS:
            self._listed = now
            with contextlib.suppress(psutil.Error):  # it ended just now
                process = psutil.Process(self._process.pid)
                self._family = [process, *process.children(recursive=True)]
        for one in self._family:
            with contextlib.suppress(psutil.Error):
                found += one.memory_info().rss
        return found

    def _ended(self, code: int) -> Ended:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self._let_go()
        try:
            answer = json.loads(line) if line else {}
        except ValueError:  # it was killed in mid-sentence
            answer = {}
        own = int(answer.pop("peak_memory", 0))
        if code < 0 and not answer and not self._stopped:
            lines = explain(file_text(Path(self.task.folder) / NOTES) or "")
            answer = {"crash": " ".join(lines)} if lines else {}
        return Ended(code, answer, self._stopped, max(self._peak, own) or None)

    def _let_go(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def death(code: int | None) -> str:
    """Return a sentence on how a worker died."""
    if code is None:
        return "was lost"
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code} and without a word"


class Local:
    """Runs workers on this machine, ``slots`` at a time."""

    poll_seconds = 0.05

    def __init__(self, slots: int, command: Sequence[str] = COMMAND):
        self._slots = slots
        self._command = command
        self._processes: dict[str, Process] = {}

    def room(self) -> tuple[float, float]:
        """Return the threads and bytes that the next job may use."""
        return (float("inf"), float("inf")) if len(self._processes) < self._slots else (0.0, 0.0)

    def start(self, task: Task) -> str:
        """Start a worker and return its name."""
        self._processes[task.key] = Process(task, self._command)
        return self._processes[task.key].name

    def ended(self) -> list[tuple[Task, Ended]]:
        """Return the workers that have ended since the last call."""
        found = []
        for key, process in list(self._processes.items()):
            if (ended := process.poll()) is not None:
                del self._processes[key]
                found.append((process.task, ended))
        return found

    def stop(self, key: str) -> None:
        """Stop one worker without reporting it."""
        self._processes.pop(key).close()

    def interrupt(self, key: str) -> bool:
        """Ask one worker to end its search with the best model so far."""
        self._processes[key].interrupt()
        return True

    def close(self) -> None:
        """End all workers."""
        for key in list(self._processes):
            self.stop(key)
